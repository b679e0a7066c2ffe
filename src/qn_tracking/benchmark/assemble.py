"""A submission made of tracked experiments: one way, from records and journals to a submission."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import fields

from qn_tracking import ids
from qn_tracking.benchmark.aggregate import aggregate, columns
from qn_tracking.errors import QnError, UsageError
from qn_tracking.records.model import Episode, Experiment
from qn_tracking.records.provenance import provenance
from qn_tracking.records.submission import (
    Category,
    Contribution,
    Run,
    Source,
    Study,
    StudyResult,
    Submission,
)

if TYPE_CHECKING:
    from qn_tracking.benchmark.protocol import Protocol

FINISHED = "completed"


def assemble(
    experiments: Sequence[tuple[Experiment, Sequence[Episode]]],
    *,
    text: str,
    category: Category,
    contribution: Contribution,
    protocol: Protocol,
    study: Study | None = None,
    statuses: Sequence[str] = (),
) -> Submission:
    """A submission of finished experiments of one configuration, in the order given.

    `statuses` are those of all runs that the study declared. Raises UsageError for
    experiments that do not belong together.
    """
    if not experiments:
        raise UsageError("no finished run to make a submission of")
    first = experiments[0][0]
    for experiment, episodes in experiments:
        if experiment.status != FINISHED:
            raise UsageError(f"{experiment.id} is {experiment.status}, not {FINISHED}")
        if experiment.config.digest != first.config.digest:
            raise UsageError(f"{experiment.id} has another configuration than {first.id}")
        if experiment.seed is None or experiment.digests is None:
            raise UsageError(f"{experiment.id} has no seed and no digests")
        if not episodes or experiment.wall_seconds is None:
            raise UsageError(f"{experiment.id} has no episodes")
    runs = tuple(_run(experiment, episodes) for experiment, episodes in experiments)
    origin = provenance(first)
    try:
        aggregates = aggregate(runs, protocol)
    except ValueError as error:  # numbers that are not finite, which no submission may hold
        raise QnError(f"no submission can be made of these runs: {error}") from None
    return Submission(
        id=ids.new_id(),
        protocol=protocol.version,
        created=ids.utc(time.time()),
        category=category,
        contribution=contribution,
        subject=first.subject,
        config=first.config,
        text=text,
        episodes=len(experiments[0][1]),
        study=None if study is None else _study_result(study, statuses),
        source=Source(**{a.name: getattr(origin.git, a.name) for a in fields(Source)}),
        code=tuple(origin.facts.get("code") or ()),
        packages=origin.packages.sha256,
        system=origin.facts.get("system") or {},
        aggregates=aggregates,
        runs=runs,
    )


def _run(experiment: Experiment, episodes: Sequence[Episode]) -> Run:
    assert experiment.seed is not None
    assert experiment.digests is not None
    assert experiment.wall_seconds is not None
    resources = provenance(experiment).resources
    return Run(
        id=experiment.id,
        seed=experiment.seed,
        started=experiment.started,
        digests=experiment.digests,
        wall_seconds=experiment.wall_seconds,
        cpu_seconds=resources.cpu_seconds,
        peak_memory_bytes=resources.peak_memory_bytes,
        steps_per_second=experiment.steps_per_second,
        jobs=resources.jobs,
        episodes=columns(episodes),
    )


def _study_result(study: Study, statuses: Sequence[str]) -> StudyResult:
    if study.seed is None:
        hint = "declare one with --n-seeds"
        raise UsageError(f"study {study.id}: its seeds were chosen, not derived", hint=hint)
    finished = sum(status == FINISHED for status in statuses)
    failed = sum(status in ("failed", "crashed") for status in statuses)
    return StudyResult(
        id=study.id,
        runs=study.runs,
        seed=study.seed,
        finished=finished,
        failed=failed,
        aborted=len(statuses) - finished - failed,
    )
