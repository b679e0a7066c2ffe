"""A submission made of stored experiments: of a study, or of experiments by their ids."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from attrs import fields

from qn_tracking import config as configuration, ids as identity
from qn_tracking.benchmark.aggregate import aggregate, columns
from qn_tracking.benchmark.category import categorize
from qn_tracking.benchmark.protocol import Protocol
from qn_tracking.benchmark.task import task_of
from qn_tracking.benchmark.validation import MakeManager
from qn_tracking.errors import QnError, StorageError, UsageError
from qn_tracking.records.model import Episode, Experiment
from qn_tracking.records.provenance import provenance
from qn_tracking.records.submission import (
    Contribution,
    Run,
    Source,
    Study,
    StudyResult,
    Submission,
)
from qn_tracking.store import paths, read, studies

FINISHED = "completed"


def assembled(
    experiments: str,
    ids: str | Iterable[str] | Study,
    contribution: Contribution | None,
    protocol: Protocol,
    make_manager: MakeManager,
) -> Submission:
    """A submission of finished runs in a folder of experiments.

    `ids` is a study, its id, or ids of experiments; the contribution is by default the study's.
    Raises UsageError for runs that make no submission, StorageError for what cannot be read.
    """
    study, names = _study(experiments, ids)
    by = contribution or (study.contribution if study is not None else None)
    if by is None:
        raise UsageError("a submission needs a contributor")
    statuses: list[str] = []
    if study is not None:
        states = studies.states(experiments, study)
        statuses = [state.status for state in states]
        names = [state.id for state in states if state.status == FINISHED]
    loaded = [_load(experiments, id) for id in names]
    if not loaded:
        raise UsageError("no finished run to make a submission of")
    first = loaded[0][0]
    for experiment, episodes in loaded:
        _check(experiment, episodes, first)
    text = _text(experiments, first)
    config = configuration.from_text(text, first.config.label, first.config.overrides)
    runs = tuple(_run(experiment, episodes) for experiment, episodes in loaded)
    try:
        aggregates = aggregate(runs, protocol)
    except ValueError as error:  # numbers that are not finite, which no submission may hold
        raise QnError(f"no submission can be made of these runs: {error}") from None
    origin = provenance(first)
    manager = make_manager(config)
    return Submission(
        id=identity.new_id(),
        protocol=protocol.version,
        created=identity.utc(time.time()),
        category=categorize(config, protocol, manager),
        contribution=by,
        subject=first.subject,
        config=first.config,
        text=text,
        episodes=len(loaded[0][1]),
        study=None if study is None else _study_result(study, statuses),
        source=Source(**{a.name: getattr(origin.git, a.name) for a in fields(Source)}),
        code=tuple(origin.facts.get("code") or ()),
        packages=origin.packages.sha256,
        system=origin.facts.get("system") or {},
        task=task_of(config, manager) if protocol.tasks else None,
        aggregates=aggregates,
        runs=runs,
    )


def _study(experiments: str, ids: str | Iterable[str] | Study) -> tuple[Study | None, list[str]]:
    """The study that is meant, or the ids of experiments."""
    if isinstance(ids, Study):
        return ids, []
    names = [ids] if isinstance(ids, str) else list(ids)
    if len(names) == 1:
        try:
            return studies.load(experiments, names[0]), []
        except UsageError:
            pass
    return None, names


def _load(experiments: str, id: str) -> tuple[Experiment, list[Episode]]:
    try:
        experiment = read.experiment(paths.record(experiments, identity.check_id(id)))
    except FileNotFoundError:
        raise UsageError(f"no experiment {id}", hint=f"looked in {experiments}") from None
    journal = f"{paths.run_folder(experiments, id)}/episodes.jsonl"
    try:
        return experiment, list(read.Lines(journal))
    except FileNotFoundError:
        raise StorageError("its episodes are not here", file=journal) from None


def _text(experiments: str, experiment: Experiment) -> str:
    name = f"{paths.run_folder(experiments, experiment.id)}/config.yml"
    try:
        data, _ = read.load(name)
    except FileNotFoundError:
        raise StorageError("the configuration is not here", file=name) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise StorageError("is not UTF-8", file=name) from None


def _check(experiment: Experiment, episodes: Sequence[Episode], first: Experiment) -> None:
    """Raises UsageError for an experiment that does not belong to a submission with the first."""
    if experiment.status != FINISHED:
        raise UsageError(f"{experiment.id} is {experiment.status}, not {FINISHED}")
    if experiment.config.digest != first.config.digest:
        raise UsageError(f"{experiment.id} has another configuration than {first.id}")
    if experiment.seed is None or experiment.digests is None:
        raise UsageError(f"{experiment.id} has no seed and no digests")
    if not episodes or experiment.wall_seconds is None:
        raise UsageError(f"{experiment.id} has no episodes")


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
        cost=experiment.cost,
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
