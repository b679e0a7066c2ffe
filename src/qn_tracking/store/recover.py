"""From the folder of a run that died to its record, status `crashed`.

What the folder does not hold is left out; nothing is invented. The end of the run is the time of
its last episode.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from os.path import isdir, isfile, islink, join, lexists
from typing import Any

from attrs import evolve

from qn_tracking import capture, files
from qn_tracking.errors import MALFORMED, QnError, StorageError, UsageError, describe
from qn_tracking.ids import microseconds, utc
from qn_tracking.records import codec
from qn_tracking.records.facts import METADATA
from qn_tracking.records.limits import CRASHED
from qn_tracking.records.model import (
    EMPTY,
    Attachment,
    Digests,
    Experiment,
    Phase,
    RunInfo,
    SeriesSummary,
    freeze,
)
from qn_tracking.records.stats import Tally, sealed
from qn_tracking.store import artifacts, paths, phases, series, unfinished
from qn_tracking.store.read import Lines, load, parse
from qn_tracking.store.write import naming, publish, published, sync_file, sync_folder

# What the program wrote before it had `capture.FOLDER`.
_FORMER = "facts.json"


def recover(experiments: str, id: str, *, force: bool = False) -> Experiment:
    """Makes the record, durably. Raises UsageError for a run that is not known to be dead, unless
    `force`d for one whose status is unknown, and StorageError for what its folder does not hold.
    """
    folder = paths.run_folder(experiments, id)
    record = paths.record(experiments, id)
    if lexists(record):
        raise UsageError("has a record already", file=id)
    unfinished.check_over(experiments, id, force=force, hint="--force if it is not")
    run = unfinished.load_run(folder, id)
    journal = join(folder, "episodes.jsonl")
    lock = _locked(journal, id)
    try:
        warnings: list[str] = []
        tally, last = _tally(journal, lock, warnings)
        facts, attachments = _facts(folder, warnings)
        logged = _series(folder, tally.digests(), warnings)
        of_phases, last = _phases(folder, last, warnings)
        experiment = _sealed(run, tally, last, logged, of_phases, facts, attachments, warnings)
        try:
            experiment = evolve(experiment, artifacts=artifacts.journal(folder))
        except StorageError as error:
            said = (*experiment.warnings, f"artifacts: {error}")
            experiment = evolve(experiment, warnings=said)
        data = codec.document(experiment)
        with naming(folder):
            for name in sorted(os.listdir(folder)):
                path = join(folder, name)
                if not name.startswith(".") and not islink(path) and isfile(path):
                    sync_file(path)
            sync_folder(folder)
        publish(record, data)
        capture.remove(join(folder, capture.FOLDER))
        with suppress(OSError):
            os.unlink(join(folder, _FORMER))
        return experiment
    finally:
        if lock >= 0:
            os.close(lock)


def _locked(journal: str, id: str) -> int:
    """The journal, locked by us; -1 if there is none."""
    try:
        fd = files.open_file(journal, os.O_RDWR)
    except FileNotFoundError:
        return -1
    except OSError as error:
        with naming(journal):
            raise error
    try:
        files.lock_soon(fd)
    except OSError:
        os.close(fd)
        raise UsageError("is in use", file=id, hint="by its run, or by another process") from None
    return fd


def _tally(journal: str, lock: int, warnings: list[str]) -> tuple[Tally, float]:
    tally, last = Tally(), 0.0
    if lock < 0:
        return tally, last
    lines = Lines(journal)
    for episode in lines:
        tally.add(episode)
        last = episode.timing.get("at", last)
    if lines.torn:
        warnings.append(
            f"journal: dropped a torn last line of {lines.torn} bytes after episode {lines.count}"
        )
        with naming(journal):
            os.ftruncate(lock, lines.committed)
    return tally, last


def _facts(folder: str, warnings: list[str]) -> tuple[dict[str, Any], list[Attachment]]:
    """The facts that were read while it ran, and the texts of the run."""
    attachments = []
    config = join(folder, "config.yml")
    try:
        attachments.append(codec.attachment("config.yml", load(config)[0]))
    except FileNotFoundError:
        raise StorageError("missing", file=config) from None
    try:
        if isdir(files.inside(folder, capture.FOLDER)):
            doc = capture.left(folder)
        else:
            doc = parse(load(join(folder, _FORMER))[0], _FORMER)
    except FileNotFoundError:
        warnings.append("git, packages and system were not known yet when the run died")
        return {}, attachments
    except (QnError, OSError, *MALFORMED) as error:
        cause = error.cause if isinstance(error, QnError) else describe(error)
        warnings.append(f"git, packages and system could not be read: {cause}")
        return {}, attachments
    said = doc.pop("warnings", None) or []
    warnings.extend(str(text) for text in said)
    for holder, (field, name) in capture.TEXTS.items():
        section = doc.get(holder)
        text = section.pop(field, None) if isinstance(section, dict) else None
        if not isinstance(section, dict) or not isinstance(text, str) or not text:
            continue
        attachment = codec.attachment(name, text.encode("latin-1"))
        # An earlier attempt may have left it.
        with published(join(folder, name), replace=True) as stream:
            stream.write(attachment.data)
        attachments.append(attachment)
        section[field] = {
            "file": name,
            "size": attachment.size,
            "sha256": attachment.sha256,
        }
    return {METADATA: doc}, attachments


def _series(
    folder: str, digests: Digests, warnings: list[str]
) -> tuple[Digests, Mapping[str, SeriesSummary]]:
    """What was logged; a file that cannot be read costs no episode."""
    try:
        return series.summarised(folder, digests)
    except StorageError as error:
        warnings.append(f"series: {error.field or ''}: {error.cause}; the file is kept as it is")
        return digests, EMPTY


def _phases(folder: str, last: float, warnings: list[str]) -> tuple[Mapping[str, Phase], float]:
    """The episodes of the other phases, and when the last of all episodes was over."""
    lines = phases.lines(folder)
    if lines is None:
        return EMPTY, last
    tallies: dict[str, Tally] = {}
    try:
        for episode in lines:
            tallies.setdefault(episode.phase or "", Tally()).add(episode)
            last = max(last, episode.timing.get("at", last))
    except StorageError as error:
        warnings.append(f"phases: {error.field or ''}: {error.cause}; the file is kept as it is")
        return EMPTY, last
    if lines.torn:
        warnings.append(f"phases: dropped a torn last line of {lines.torn} bytes")
        with naming(lines.path):
            os.truncate(lines.path, lines.committed)
    return {name: tally.phase() for name, tally in tallies.items()}, last


def _sealed(
    run: RunInfo,
    tally: Tally,
    last: float,
    logged: tuple[Digests, Mapping[str, SeriesSummary]],
    of_phases: Mapping[str, Phase],
    facts: dict[str, Any],
    attachments: list[Attachment],
    warnings: list[str],
) -> Experiment:
    begun, before = run.started, 0.0
    if run.lives:
        begun, before = run.lives[-1].resumed, run.lives[-1].seconds
        last = max(last, before)
    try:
        ended = utc(microseconds(begun) / 1_000_000 + last - before)
    except (ValueError, OverflowError):
        ended = begun
    return sealed(
        run,
        tally.results(),
        of_phases,
        last,
        status=CRASHED,
        ended=ended,
        digests=logged[0],
        series=logged[1],
        warnings=tuple(warnings),
        attachments=tuple(attachments),
        facts=freeze(facts) if facts else EMPTY,
    )
