"""`fsck`: whether every file says what it should, and the same as the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from math import inf
from os.path import isdir, join, lexists
from typing import Any

from attrs import evolve, frozen

from qn_tracking.config import digest_of
from qn_tracking.errors import QnError, StorageError, UsageError, printable, short
from qn_tracking.files import inside
from qn_tracking.ids import is_id
from qn_tracking.records import codec
from qn_tracking.records.limits import CRASHED, MAX_BYTES
from qn_tracking.records.model import Experiment
from qn_tracking.records.stats import Tally
from qn_tracking.redact import masked_fields
from qn_tracking.store import (
    artifacts,
    gathered,
    labels,
    lives,
    paths,
    phases,
    read,
    series,
    studies,
    unfinished,
)

FAULT, NOTE = "fault", "note"
_OF_EPISODES = ("episode_end", "episodes_end")
MOST_SECONDS = 1e10
"""Three centuries: no run takes longer."""


@frozen(kw_only=True)
class Finding:
    """What a check found: a fault, or a note on what is unusual and no fault."""

    level: str
    file: str
    field: str | None = None
    cause: str

    def __str__(self) -> str:
        where = [part for part in (self.file, self.field) if part]
        return printable(": ".join([*where, self.cause]))


@frozen(kw_only=True)
class Report:
    """What was checked, and everything that was found."""

    records: int
    journals: int
    episodes: int
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> int:
        return sum(finding.level == FAULT for finding in self.findings)


def check(
    experiments: str,
    ids: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Checks all experiments, or those given. Raises StorageError if the folder cannot be read."""
    chosen = list(ids)
    try:
        files = sorted(os.listdir(experiments))
    except OSError as error:
        raise StorageError((error.strerror or str(error)).lower(), file=experiments) from None
    findings: list[Finding] = []
    records = [name[:-5] for name in files if name.endswith(".json") and name[0] != "."]
    if chosen:
        records = [name for name in records if name in set(chosen)]
    else:
        for name in files:
            if name.endswith(".tmp"):
                cause = "left by a writing that was interrupted; may be deleted"
                findings.append(Finding(level=NOTE, file=join(experiments, name), cause=cause))
    count = _Count()
    for done, name in enumerate(records):
        if progress is not None:
            progress(done, len(records))
        findings.extend(_record(experiments, name, count))
    findings.extend(_folders(experiments, chosen, set(records), count))
    if not chosen:
        findings.extend(map(_of, studies.faults(experiments)))
        findings.extend(map(_of, gathered.faults(experiments)))
    if progress is not None:
        progress(len(records), len(records))
    return Report(
        records=len(records),
        journals=count.journals,
        episodes=count.episodes,
        findings=tuple(findings),
    )


class _Count:
    """How much was checked."""

    journals = 0
    episodes = 0


def _fault(file: str, cause: str, field: str | None = None) -> Finding:
    return Finding(level=FAULT, file=file, field=field, cause=cause)


def _of(error: QnError) -> Finding:
    cause = error.cause + (f" ({error.hint})" if error.hint else "")
    return _fault(error.file or "", cause, error.field)


def _record(experiments: str, name: str, count: _Count) -> Iterator[Finding]:
    path = join(experiments, f"{name}.json")
    if not is_id(name):
        yield _fault(path, "its name is not an id")
        return
    try:
        experiment = read.experiment(path)
    except FileNotFoundError:
        return
    except QnError as error:
        yield _of(error)
        return
    for misfit in read.misfits(experiment):
        yield _fault(path, misfit.cause, misfit.field)
    yield from _itself(path, experiment)
    try:
        folder = paths.run_folder(experiments, name)
    except StorageError as error:
        yield _of(error)
        return
    yield from _labels(experiments, name)
    yield from _artifacts(experiments, name)
    if not isdir(folder):
        return  # it came by git, without its texts
    yield from _attachments(folder, experiment)
    if lexists(join(folder, "run.json")):
        yield from (_fault(file, cause) for file, cause in lives.faults(folder, experiment))
    yield from _journal(path, join(folder, "episodes.jsonl"), experiment, count)


def _itself(path: str, experiment: Experiment) -> Iterator[Finding]:
    """What a record says about itself twice."""
    config = experiment.config
    # A record of another program names no digest where that had none.
    digest = digest_of(config.data, config.settings)
    if (
        config.digest != digest
        and (config.digest or not experiment.origin)
        and not masked_fields(config.data)
    ):
        yield _fault(path, "the configuration has another digest", "config.digest")
    results = experiment.results
    for field, number, most in (
        ("seed", experiment.seed, inf),
        ("episodes", experiment.episodes, inf),
        ("wall_seconds", experiment.wall_seconds, MOST_SECONDS),
        ("results.episodes", results.episodes, inf),
        ("results.total_steps", results.total_steps, inf),
    ):
        if number is not None and not 0 <= number <= most:
            yield _fault(path, f"{number:g} cannot be", field)
    for field in ("success_rate", "final_success_rate"):
        rate = getattr(results, field)
        if rate is not None and not 0 <= rate <= 1:
            yield _fault(path, f"{rate} is no share", f"results.{field}")


def _labels(experiments: str, name: str) -> Iterator[Finding]:
    try:
        labels.read(experiments, name)
    except QnError as error:
        yield _of(error)


def _artifacts(experiments: str, name: str) -> Iterator[Finding]:
    """What is kept of a run must be what its digest says; git does not carry it."""
    try:
        place = inside(experiments, artifacts.FOLDER)
        digests = artifacts.digests(experiments, artifacts.of(experiments, name))
    except (StorageError, UsageError) as error:
        yield _of(error)
        return
    for digest in sorted(digests):
        file = join(place, digest)
        try:
            if artifacts.digest_of(file) != digest:
                yield _fault(file, "is not what its name says")
        except FileNotFoundError:
            yield Finding(level=NOTE, file=file, cause=f"an artifact of {name} that is not here")
        except StorageError as error:
            yield _of(error)


def _attachments(folder: str, experiment: Experiment) -> Iterator[Finding]:
    for i, attachment in enumerate(experiment.attachments):
        file = join(folder, attachment.name)
        field = f"attachments[{i}]"
        if "/" in attachment.name or attachment.name in (".", ".."):
            yield _fault(file, "the record names a file outside of its folder", f"{field}.name")
            continue
        try:
            data, _ = read.load(file, max(MAX_BYTES, attachment.size))
        except FileNotFoundError:
            # Labels are all that is here of an experiment that came by git.
            if lexists(join(folder, "run.json")):
                yield _fault(file, "missing")
            continue
        except QnError as error:
            yield _of(error)
            continue
        if len(data) != attachment.size or sha256(data).hexdigest() != attachment.sha256:
            yield _fault(file, "is not what the record names by digest", f"{field}.sha256")


def _journal(path: str, journal: str, experiment: Experiment, count: _Count) -> Iterator[Finding]:
    """Recomputes what the record says of the episodes."""
    if not lexists(journal):
        # A run that was killed at its start is recovered without a journal, with 0 episodes.
        if experiment.results.episodes and lexists(join(os.path.dirname(journal), "run.json")):
            yield _fault(journal, "missing")
        return
    lines = read.Lines(journal)
    try:
        tally = Tally.of(lines)
    except QnError as error:
        yield _of(error)
        return
    count.journals += 1
    count.episodes += lines.count
    if lines.torn:
        yield _fault(journal, f"a torn last line of {lines.torn} bytes", f"line {lines.count + 1}")
    recorded, found = experiment.results, tally.results()
    if experiment.origin:  # means of another program, of what is not in its episodes
        metrics = {key: one for key, one in recorded.metrics.items() if one.n is not None}
        recorded = evolve(recorded, metrics=metrics)
    if found.episodes < recorded.episodes and (
        read.partly_imported(experiment)
        or any(one.storage and one.hook in _OF_EPISODES for one in experiment.failures)
    ):
        cause = f"holds {found.episodes} of {recorded.episodes} episodes, as the record says"
        yield Finding(level=NOTE, file=journal, cause=cause)
        return
    try:
        digests, logged = series.summarised(os.path.dirname(journal), tally.digests())
    except StorageError as error:
        yield _of(error)
        digests, logged = experiment.digests or tally.digests(), experiment.series
    try:
        of_phases = phases.summarised(os.path.dirname(journal))
    except StorageError as error:
        yield _of(error)
        of_phases = experiment.phases
    for field, said, computed in (
        *_differences(codec.plain(recorded), codec.plain(found), "results"),
        *_differences(codec.plain(experiment.digests), codec.plain(digests), "digests"),
        *_differences(codec.plain(experiment.series), codec.plain(logged), "series"),
        *_differences(codec.plain(experiment.phases), codec.plain(of_phases), "phases"),
    ):
        yield _fault(path, f"{_short(said)}, but its episodes give {_short(computed)}", field)


def _differences(said: Any, computed: Any, field: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(said, Mapping) and isinstance(computed, Mapping):
        for key in (*said, *(key for key in computed if key not in said)):
            yield from _differences(said.get(key), computed.get(key), f"{field}.{key}")
    elif isinstance(said, list) and isinstance(computed, list) and len(said) == len(computed):
        for i, (a, b) in enumerate(zip(said, computed, strict=True)):
            yield from _differences(a, b, f"{field}[{i}]")
    elif said != computed:
        yield field, said, computed


def _short(value: Any) -> str:
    return "nothing" if value is None else short(str(value), 40)


def _folders(
    experiments: str, chosen: list[str], recorded: set[str], count: _Count
) -> Iterator[Finding]:
    """Runs without a record: their journals must be whole, too."""
    try:
        runs = inside(experiments, "runs")
        names = sorted(os.listdir(runs))
    except StorageError as error:
        yield _of(error)
        return
    except OSError:
        return
    for name in names:
        if name in recorded or (chosen and name not in chosen) or not is_id(name):
            continue
        yield from _labels(experiments, name)
        try:
            found = unfinished.survey(experiments, name)
        except StorageError as error:
            yield _of(error)
            continue
        if found is None:
            continue
        folder = join(runs, name)
        hint = f"crashed; qn-exp recover {name}" if found.status == CRASHED else found.status
        yield Finding(level=NOTE, file=folder, cause=f"has no record: {hint}")
        journal = join(folder, "episodes.jsonl")
        if lexists(journal):
            lines = read.Lines(journal)
            try:
                for _ in lines:
                    count.episodes += 1
            except QnError as error:
                yield _of(error)
                continue
            count.journals += 1
            if lines.torn and found.status == CRASHED:
                cause = f"a torn last line of {lines.torn} bytes: recover drops it"
                yield Finding(level=NOTE, file=journal, cause=cause)
