"""A submission made of stored experiments: of a study, or of experiments by their ids."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from attrs import fields

from qn_tracking import capture, captured, config as configuration, ids as identity
from qn_tracking.benchmark.aggregate import aggregate, columns
from qn_tracking.benchmark.category import categorize
from qn_tracking.benchmark.program import obstacles, program_of
from qn_tracking.benchmark.protocol import Protocol
from qn_tracking.benchmark.task import task_of
from qn_tracking.benchmark.validation import MakeManager
from qn_tracking.errors import QnError, StorageError, UsageError
from qn_tracking.machine import versions_of
from qn_tracking.records.facts import METADATA
from qn_tracking.records.limits import RUNNING
from qn_tracking.records.model import Episode, Experiment
from qn_tracking.records.provenance import Provenance, provenance
from qn_tracking.records.submission import (
    Contribution,
    Program,
    Run,
    Source,
    Study,
    StudyResult,
    Submission,
)
from qn_tracking.render.text import counted
from qn_tracking.store import documents, paths, read, studies

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
        if len(study.every_arm) > 1:
            hint = f"it has {len(study.every_arm)} arms: give the runs of one"
            raise UsageError("a submission is made of one configuration", file=study.id, hint=hint)
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
    program = None if first.subject.packages else _program(loaded, study)
    if program is not None and study is not None and study.seed is None:
        study = None  # its seeds were chosen: its runs are submitted as any others
    code = tuple(origin.facts.get("code") or ())
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
        code=code if program is None else tuple({**one, "name": program.module} for one in code),
        packages=origin.packages.sha256,
        versions=_versions(experiments, first),
        system=origin.facts.get("system") or {},
        task=task_of(config, manager) if protocol.tasks else None,
        program=program,
        aggregates=aggregates,
        runs=runs,
    )


def missing(
    experiments: str,
    ids: str | Iterable[str] | Study,
    protocol: Protocol,
    make_manager: MakeManager,
) -> tuple[str, ...]:
    """What runs lack for a submission, all of it; they need not be over.

    Raises UsageError for an unknown run, StorageError for what cannot be read.
    """
    study, names = _study(experiments, ids)
    planned = study.runs if study is not None else len(names)
    if study is not None:
        names = [state.id for state in studies.states(experiments, study)]
        names = [name for name in names if documents.status(experiments, name) is not None]
    for name in names:
        if documents.status(experiments, identity.check_id(name)) is None:
            raise UsageError(f"no experiment {name}", hint=f"looked in {experiments}")
    docs = list(documents.load_all(experiments, names, named=True, warn=lambda text: None))
    if not docs:
        return ("no run has begun",)
    found: list[tuple[str, str]] = []
    for doc in docs:
        if doc.get("status") not in (FINISHED, RUNNING):
            found.append((doc["id"], f"is {doc.get('status')}"))
        if type(doc.get("seed")) is not int:
            found.append((doc["id"], "has no seed: track(…, seed=…)"))
        if not (doc.get("subject") or {}).get("packages"):
            found += [(doc["id"], cause) for cause in obstacles(_origin(experiments, doc))]
    first = docs[0]
    causes = [*_folded(found), *_other_configurations(docs, study)]
    if planned < protocol.minimum_runs:
        causes.append(f"runs: {planned}, at least {protocol.minimum_runs} are needed")
    episodes = first.get("episodes") or (first.get("results") or {}).get("episodes") or 0
    if episodes < protocol.minimum_episodes:
        causes.append(f"episodes: {episodes}, at least {protocol.minimum_episodes} are needed")
    try:
        data = first.get("config") or {}
        config = configuration.from_mapping({**(data.get("data") or {}), **_named(data)})
        categorize(config, protocol, make_manager(config))
    except QnError as error:
        causes.append(error.cause + (f" ({error.hint})" if error.hint else ""))
    return tuple(causes)


def _folded(found: Iterable[tuple[str, str]]) -> list[str]:
    """What runs lack, in a line for each cause."""
    by_cause: dict[str, list[str]] = {}
    for id, cause in found:
        by_cause.setdefault(cause, []).append(id)
    return [
        f"{ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''}: {cause}"
        for cause, ids in by_cause.items()
    ]


def _other_configurations(docs: Sequence[dict[str, Any]], study: Study | None) -> list[str]:
    """The runs of another configuration than the first one; of a study its arms, a line each."""
    held = list(docs) if study is None else studies.latest(study, docs)
    first = held[0]
    others = [doc for doc in held if _digest(doc) != _digest(first)]
    if study is None:
        return _folded(
            (doc["id"], f"has another configuration than {first['id']}") for doc in others
        )
    # By the place of a run: a script gives its runs a configuration of its own, which is no arm's.
    counts: dict[str, int] = {}
    for doc in others:
        name = study.arm_of(doc["index"]).name
        counts[name] = counts.get(name, 0) + 1
    than = f"another configuration than {study.arm_of(first['index']).name}"
    return [f"{name}: {counted(runs, 'run')} of {than}" for name, runs in counts.items()]


def _origin(experiments: str, doc: Mapping[str, Any]) -> Provenance:
    """Where a run came from; of one that still runs, what was known at its start."""
    if doc.get("status") == RUNNING:
        with suppress(OSError, ValueError):
            facts = capture.left(paths.run_folder(experiments, doc["id"]))
            script = facts.get(captured.SCRIPT)
            if script and "added" in script:
                script["added"] = {}  # a file of the record, when there is one
            return provenance({"facts": {METADATA: facts}})
    return provenance(doc)


def _digest(doc: Mapping[str, Any]) -> Any:
    return (doc.get("config") or {}).get("digest")


def _named(data: Mapping[str, Any]) -> dict[str, Any]:
    simulation = (data.get("settings") or {}).get("simulation")
    return {} if simulation is None else {"simulation": simulation}


def _program(loaded: Sequence[tuple[Experiment, list[Episode]]], study: Study | None) -> Program:
    """The program of the runs of a script. Raises UsageError if others could not run it."""
    origins = [provenance(experiment) for experiment, _ in loaded]
    for (experiment, _), origin in zip(loaded, origins, strict=True):
        if causes := obstacles(origin):
            hint = "submit --dry-run says all that is missing"
            raise UsageError(causes[0], file=experiment.id, hint=hint)
        if origin.git.commit != origins[0].git.commit:
            raise UsageError(f"{experiment.id} ran another commit than {loaded[0][0].id}")
    seeds = [experiment.seed or 0 for experiment, _ in loaded]
    derived = study is not None and study.seed is not None
    digest = studies.seeds_digest([arm.config for arm in study.arms]) if study and derived else None
    return program_of([origin.script for origin in origins], seeds, digest)


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


def _versions(experiments: str, experiment: Experiment) -> dict[str, str] | None:
    """Those of its installed distributions that compute; None if the list is not here."""
    name = f"{paths.run_folder(experiments, experiment.id)}/packages.txt"
    try:
        data, _ = read.load(name)
    except FileNotFoundError:
        return None
    return versions_of(data.decode(errors="replace")) or None


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
