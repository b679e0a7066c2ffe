"""Imports: bundles, folders, single records and tables, and records of Quantum Nematode.

Each arrives whole or not at all. The files of its run are staged in a folder of their own and
checked against the record; the record is published; the staged folder gets its name. A kill in
between leaves a record without its run, which is what git brings, too, and the next import
completes it. What is here already is never changed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from os.path import basename, dirname, isdir, join, lexists
from typing import Any

from attrs import evolve, frozen

from qn_tracking import files
from qn_tracking.errors import QnError, StorageError, UsageError
from qn_tracking.ids import is_id
from qn_tracking.options import MAX_BYTES as MAX_CONFIG
from qn_tracking.records.codec import document, structure
from qn_tracking.records.model import EMPTY, Experiment
from qn_tracking.records.schema import RECORD
from qn_tracking.records.stats import Tally
from qn_tracking.store import (
    artifacts,
    bundle,
    foreign,
    labels,
    paths,
    phases,
    read,
    series,
    studies,
    study_arrival,
    tables,
)
from qn_tracking.store.journal import line, logged_line
from qn_tracking.store.write import naming, prepare, publish, sync_folder

IMPORTED, COMPLETED, HERE = "imported", "completed", "here"
"""New; its record was here, but files of its run were missing; all of it was here."""

_STAGE = ".import-"
_OWN = frozenset(("run.json", "episodes.jsonl", "labels.json", "study.json", "gathered.json"))
"""Files by which a folder is that of a run or a study, whose record says all."""

Warn = Callable[[str], None]


@frozen(kw_only=True)
class Arrived:
    """What became of one experiment, or of a `study` (its own files: its runs arrive each)."""

    source: str
    id: str
    outcome: str
    study: bool = False
    format: str | None = None
    origin_id: str | None = None


@frozen(kw_only=True)
class Refused:
    """One that was not taken in, and why."""

    source: str
    error: QnError


def import_path(
    experiments: str, source: str, warn: Warn, columns: Mapping[str, str] = EMPTY
) -> Iterator[Arrived | Refused]:
    """Imports what a path holds: a bundle, a record, a table, or a folder of experiments.

    With `columns`, fields by the columns that they are read from, it holds tables alone.
    """
    try:
        if isdir(source):
            yield from _folder(experiments, source.rstrip("/") or "/", warn, columns)
            return
        if columns or source.lower().endswith((*tables.SUFFIXES, tables.WANDB)):
            yield _tables(experiments, source, [source], columns)
            return
        with naming(source), bundle.opened(source, follow=True) as stream:
            zipped = stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
        if zipped:
            yield from _bundle(experiments, source, warn)
        else:
            yield _file(experiments, source, warn, follow=True)
    except QnError as error:
        yield Refused(source=source, error=error)


def _folder(
    experiments: str, source: str, warn: Warn, columns: Mapping[str, str]
) -> Iterator[Arrived | Refused]:
    """Every record in a folder and in those below it, but for the files of our own runs."""
    found = False
    with naming(source):
        os.listdir(source)
    unreadable: list[OSError] = []
    for folder, below, names in os.walk(source, onerror=unreadable.append):
        if study_arrival.is_study(names) and is_id(basename(folder)):
            found = True
            below.clear()
            yield _study_folder(experiments, folder, warn)
            continue
        if folder != source and not _OWN.isdisjoint(names):
            below.clear()
            continue
        below[:] = sorted(
            name for name in below if name[0] != "." and name not in (studies.BEFORE, paths.LABELS)
        )
        # The environments of one training write a monitor each.
        monitors = sorted(join(folder, name) for name in names if name.endswith(tables.MONITOR))
        if monitors and not columns:
            found = True
            try:
                yield _tables(experiments, folder, monitors, columns)
            except QnError as error:
                yield Refused(source=folder, error=error)
        wanted = tables.SUFFIXES if columns else (".json", tables.WANDB)
        for name in sorted(name for name in names if name.endswith(wanted)):
            found = True
            path = join(folder, name)
            try:
                if name.endswith(".json"):
                    yield _file(experiments, path, warn)
                else:
                    yield _tables(experiments, path, [path], columns)
            except QnError as error:
                yield Refused(source=path, error=error)
    for cause in unreadable:
        yield Refused(source=cause.filename, error=files.os_error(cause.filename, cause))
    if not found and not unreadable:
        raise StorageError("no records in this folder", file=source)


def _file(experiments: str, path: str, warn: Warn, *, follow: bool = False) -> Arrived:
    """A single record; if this project wrote it, with the folder of its run beside it."""
    try:
        data, _ = read.load(path, follow=follow)
    except FileNotFoundError:
        raise StorageError("no such file", file=path) from None
    doc = read.parse(data, path)
    if "schema" in doc and "config" in doc:
        record = _ours(doc, path)
        changes = _labels_beside(path, record.id)
        folder = paths.run_folder(dirname(path), record.id)
        beside = isdir(folder) and basename(path) == f"{record.id}.json"
        if not beside or _same_place(folder, paths.run_folder(experiments, record.id)):
            arrived = _admit(experiments, path, record, data, None)
        else:
            with _staging(experiments) as stage:
                staged = _copied(folder, data, stage, warn)
                arrived = _admit(experiments, path, record, data, staged)
        arrived = _labelled(experiments, arrived, changes)
        _keep(experiments, dirname(path), record.id, warn)
        return arrived
    if foreign.recognise(doc):
        return _theirs(experiments, path, doc, sha256(data).hexdigest())
    raise StorageError("neither a record of qn-tracking nor one of Quantum Nematode", file=path)


def _labels_beside(record: str, id: str) -> dict[str, bytes]:
    """The files of its labels in the folder of a record."""
    if basename(record) != f"{id}.json":
        return {}
    place, found = paths.labels_folder(dirname(record), id), {}
    for name in labels.files(place):
        with suppress(FileNotFoundError):
            found[name], _ = read.load(join(place, name))
            labels.parsed(found[name], join(place, name))
    return found


def _labelled(experiments: str, arrived: Arrived, changes: Mapping[str, bytes]) -> Arrived:
    """Adds labels to what has arrived: those of both places are kept."""
    added = labels.take(experiments, arrived.id, changes) if changes else 0
    return evolve(arrived, outcome=COMPLETED) if added and arrived.outcome == HERE else arrived


def _keep(experiments: str, source: str, id: str, warn: Warn) -> None:
    """Takes what a run of another folder keeps, as far as it is there."""
    place = files.inside(source, artifacts.FOLDER)
    if not isdir(place) or _same_place(place, files.inside(experiments, artifacts.FOLDER)):
        return
    try:
        for digest in sorted(artifacts.digests(source, artifacts.of(source, id))):
            if lexists(join(place, digest)):
                artifacts.receive(experiments, digest, artifacts.parts(join(place, digest)))
    except QnError as error:
        warn(f"an artifact of {id} was not copied: {error}")


def _theirs(experiments: str, path: str, doc: dict[str, Any], digest: str) -> Arrived:
    """A record of another program, with its episodes and its configuration."""
    record, episodes = foreign.experiment(doc, digest, path, _beside(dirname(path) or "."))
    try:
        data = document(record)
    except (TypeError, ValueError, OverflowError) as error:
        raise StorageError(str(error), file=path) from None
    if len(data) > read.MAX_BYTES:
        raise StorageError(f"its record would be larger than {read.MAX_BYTES >> 20} MiB", file=path)
    if not episodes and not record.attachments:
        return _admit(experiments, path, record, data, None)
    with _staging(experiments) as stage:
        for attachment in record.attachments:
            bundle.place(stage, attachment.name, [attachment.data])
        if episodes:
            bundle.place(stage, "episodes.jsonl", map(line, episodes))
        return _admit(experiments, path, record, data, stage)


def _tables(
    experiments: str, source: str, files: Sequence[str], columns: Mapping[str, str]
) -> Arrived:
    """Tables of another program as one run."""
    table = tables.table(source, files, columns)
    with _staging(experiments) as stage:
        bundle.place(stage, "episodes.jsonl", map(line, table.episodes))
        if table.calls:
            bundle.place(stage, series.NAME, map(logged_line, table.calls))
        return _admit(experiments, source, table.record, document(table.record), stage)


def _beside(folder: str) -> dict[str, bytes]:
    """The YAML files of a folder, by their names."""
    out = {}
    with naming(folder):
        names = sorted(name for name in os.listdir(folder) if name.endswith((".yml", ".yaml")))
    for name in names:
        with suppress(QnError, FileNotFoundError):
            out[name], _ = read.load(join(folder, name), MAX_CONFIG)
    return out


def _ours(doc: dict[str, Any], path: str) -> Experiment:
    record = structure(RECORD.current(doc, path), Experiment, file=path, error=StorageError)
    if not is_id(record.id):
        raise StorageError(f"{record.id[:60]!r} is not an id", file=path, field="id")
    for misfit in read.misfits(record):
        raise StorageError(misfit.cause, file=path, field=misfit.field)
    return record


def _bundle(experiments: str, source: str, warn: Warn) -> Iterator[Arrived | Refused]:
    with bundle.opened(source, follow=True) as stream:
        found = bundle.Bundle(source, stream)
        found.name_strays(found.strays, warn)
        if found.artifacts:
            prepare(experiments)
        for digest in found.artifacts:
            try:
                artifacts.receive(experiments, digest, found.artifact(digest))
            except QnError as error:
                yield Refused(source=source, error=error)
        for id in sorted(found.members):
            try:
                data = found.record(id)
                name = join(source, f"{id}.json")
                doc = read.parse(data, name)
                record = _ours(doc, name)
                read.same_id(doc, id, name)
                changes = found.labels_of(id)
                if found.members[id][1]:
                    with _staging(experiments) as stage:
                        found.unpack(id, stage, warn)
                        arrived = _admit(experiments, name, record, data, stage)
                else:
                    arrived = _admit(experiments, name, record, data, None)
                yield _labelled(experiments, arrived, changes)
            except QnError as error:
                yield Refused(source=source, error=error)
        for id in sorted(found.studies):
            try:
                name = join(source, "studies", id)
                changes = found.labels_of(id)
                study = _study(experiments, name, id, found.study(id), warn)
                yield _labelled(experiments, study, changes)
            except QnError as error:
                yield Refused(source=source, error=error)


def _study_folder(experiments: str, folder: str, warn: Warn) -> Arrived | Refused:
    """The study whose files are in a folder."""
    try:
        with naming(folder):
            names = sorted(filter(study_arrival.is_file, os.listdir(folder)))
        contents = {name: read.load(join(folder, name))[0] for name in names}
        id = basename(folder)
        changes = _labels_beside(join(dirname(dirname(folder)), f"{id}.json"), id)
        study = _study(experiments, folder, basename(folder), contents, warn)
        return _labelled(experiments, study, changes)
    except QnError as error:
        return Refused(source=folder, error=error)


def _study(
    experiments: str, source: str, id: str, contents: dict[str, bytes], warn: Warn
) -> Arrived:
    """The files of a study, beside its runs. Raises StorageError for what is no study."""
    with _staging(experiments) as stage:
        called, script = study_arrival.check(stage, id, contents, source)
        new, added = study_arrival.settle(experiments, stage, id, contents, source)
    if new and called is not None:
        try:
            studies.named(experiments, called)
        except UsageError as error:
            warn(f"study {id}: {error}")
    if new and script:
        warn(f"study {id} is of a script: qn-run --resume would run {shlex.join(script)}")
    outcome = IMPORTED if new else COMPLETED if added else HERE
    return Arrived(source=source, id=id, outcome=outcome, study=True)


# ----------------------------------------------------------------------------------------- staging


@contextmanager
def _staging(experiments: str) -> Iterator[str]:
    """An empty folder beside those of the runs, gone afterwards; its lock says it is in use."""
    prepare(experiments)
    runs = files.inside(experiments, "runs")
    stage = join(runs, f"{_STAGE}{os.urandom(4).hex()}")
    with naming(stage):
        os.mkdir(stage)
        lock = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with naming(stage):
            files.lock(lock)
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        os.close(lock)


def sweep(experiments: str) -> None:
    """Removes what an import that was killed has left behind."""
    with suppress(OSError, StorageError):
        runs = files.inside(experiments, "runs")
        for name in os.listdir(runs):
            # One that was made this instant may not have its lock yet.
            if not name.startswith(_STAGE) or time.time() - os.stat(join(runs, name)).st_mtime < 60:
                continue
            fd = os.open(join(runs, name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if files.lock(fd, wait=False):
                    shutil.rmtree(join(runs, name), ignore_errors=True)
            finally:
                os.close(fd)


def _copied(folder: str, record: bytes, stage: str, warn: Warn) -> str:
    for name in bundle.files(folder, record, warn):
        with bundle.opened(join(folder, name)) as stream:
            bundle.place(stage, name, iter(partial(stream.read, bundle.CHUNK), b""))
    return stage


def _same_place(one: str, other: str) -> bool:
    with suppress(OSError):
        return os.path.samefile(one, other)
    return False


# -------------------------------------------------------------------------------------- publishing


def _admit(
    experiments: str, source: str, record: Experiment, data: bytes, staged: str | None
) -> Arrived:
    """Publishes a record and the folder of its run. Raises StorageError if anything contradicts."""
    if staged is not None:
        _agree(record, staged, source)
    path = paths.record(experiments, record.id)
    folder = paths.run_folder(experiments, record.id)
    prepare(experiments)
    new = not _here(path, data, source)
    if new:
        if lexists(join(folder, "episodes.jsonl")) and not _same_journal(record, folder):
            raise StorageError(
                "a run of this id is here, without its record",
                file=source,
                field=record.id,
                hint=f"qn-exp recover {record.id}",
            )
        try:
            publish(path, data)
        except StorageError as error:
            # Another process imports the same record at the same time.
            if error.hint != "EEXIST" or not _here(path, data, source):
                raise
            new = False
    added = staged is not None and _join(staged, folder)
    origin = record.origin
    return Arrived(
        source=source,
        id=record.id,
        outcome=IMPORTED if new else COMPLETED if added else HERE,
        format=origin.format if origin else None,
        origin_id=origin.id if origin else None,
    )


def _here(path: str, data: bytes, source: str) -> bool:
    """Whether this very record is here. Raises StorageError if another one of its name is.

    Compared as data: git may have changed the ends of lines. Of an import, the original decides.
    """
    try:
        there, _ = read.load(path)
    except FileNotFoundError:
        return False
    if there == data:
        return True
    mine, other = read.parse(there, path), read.parse(data, source)
    original = (other.get("origin") or {}).get("sha256")
    here = mine.get("origin")
    if original and type(here) is dict and here.get("sha256") == original:
        return True
    if mine != other:
        raise StorageError("another record of this id is here", file=source, field=path)
    return True


def _agree(record: Experiment, folder: str, source: str) -> None:
    """Raises StorageError unless the files of a run are those that its record names."""
    for attachment in record.attachments:
        path = join(folder, attachment.name)
        if "/" in attachment.name or not lexists(path):
            continue
        if artifacts.digest_of(path) != attachment.sha256:
            raise StorageError(
                "is not the file that the record names", file=source, field=attachment.name
            )
    if lexists(join(folder, "episodes.jsonl")) and not _same_journal(record, folder):
        raise StorageError(
            "does not hold the episodes of the record", file=source, field="episodes.jsonl"
        )


def _same_journal(record: Experiment, folder: str) -> bool:
    """Whether the journal gives the digests of the record, as far as it should: a record without
    digests cannot show it, and the disk of one whose journal failed was full.
    """
    if record.digests is None or any(f.storage for f in record.failures):
        return True
    try:
        tally = Tally.of(read.Lines(join(folder, "episodes.jsonl")))
        digests, _ = series.summarised(folder, tally.digests())
        of_phases = phases.summarised(folder)
    except StorageError:
        return False
    return digests == record.digests and {name: one.digests for name, one in of_phases.items()} == {
        name: one.digests for name, one in record.phases.items()
    }


def _join(staged: str, folder: str) -> bool:
    """Gives the staged folder its name, or its files to the folder that is there; True if any was
    new. A file that is there stays as it is.
    """
    with naming(folder):
        sync_folder(staged)
        if not lexists(folder):
            os.rename(staged, folder)
            sync_folder(dirname(folder))
            return True
        added = False
        for name in os.listdir(staged):
            if not lexists(join(folder, name)):
                os.rename(join(staged, name), join(folder, name))
                added = True
        sync_folder(folder)
        return added
