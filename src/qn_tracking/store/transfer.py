"""Experiments or their episodes into one file: CSV, JSON lines, Parquet, or a bundle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import IO, Any

from attrs import frozen

from qn_tracking.errors import StorageError, UsageError
from qn_tracking.records import facts
from qn_tracking.records.model import Episode
from qn_tracking.store import bundle, documents, export, paths, phases, series
from qn_tracking.store.paths import journal
from qn_tracking.store.read import Lines
from qn_tracking.store.write import published

FORMATS = ("csv", "jsonl", "parquet", "bundle")
ROWS = ("runs", "episodes", "series")

Warn = Callable[[str], None]
Write = Callable[[IO[bytes]], int]


@frozen(kw_only=True)
class Exported:
    """What was written: to which file (None for a stream), how many rows, how many bytes."""

    path: str | None
    format: str
    rows: str
    count: int
    bytes: int


def write(
    experiments: str,
    ids: Sequence[str],
    output: str | IO[bytes],
    *,
    format: str,
    rows: str = "runs",
    replace: bool = False,
    named: bool = True,
    studies: Sequence[str] = (),
    warn: Warn,
) -> Exported:
    """Writes experiments into a file or a binary stream; a file is there when it is whole.

    A bundle holds the files of the `studies`, too. What was `named` must be usable; of what filters
    have found, the rest is left out with a warning. Raises UsageError, StorageError, and
    UnsupportedError for Parquet without pyarrow.
    """
    if not ids:
        raise UsageError("no matching experiments", hint="qn-exp list lists them")
    writer = _writer(experiments, ids, format, rows, named, studies, warn)
    if not isinstance(output, str):
        count = writer(output)
        return Exported(path=None, format=format, rows=rows, count=count, bytes=0)
    check_output(output, replace)
    with published(output, replace=replace) as stream:
        count = writer(stream)
        size = stream.tell()
    return Exported(path=output, format=format, rows=rows, count=count, bytes=size)


def check_output(output: str, replace: bool) -> None:
    """Raises UsageError for a file that cannot be written, or must not be replaced."""
    if not output or "\x00" in output:
        raise UsageError("--output: expected a file")
    if os.path.isdir(output):
        raise UsageError("is a folder", file=output, field="--output")
    if os.path.exists(output) and not os.path.isfile(output):
        hint = "without --output, the table goes to standard output"
        raise UsageError("is not a regular file", file=output, field="--output", hint=hint)
    if not replace and os.path.lexists(output):
        raise UsageError("is there already", file=output, hint="--force replaces it")


def _writer(
    experiments: str,
    ids: Sequence[str],
    format: str,
    rows: str,
    named: bool,
    studies: Sequence[str],
    warn: Warn,
) -> Write:
    """What writes the file; whatever can be refused is refused before there is one."""
    for value, known, option in ((format, FORMATS, "--format"), (rows, ROWS, "--rows")):
        if value not in known:
            raise UsageError(f"{option} {value}", hint=f"known: {', '.join(known)}")
    if format == "bundle":
        return _bundler(experiments, ids, named, studies, warn)
    if format == "parquet":
        export.parquet()
    whole = partial(documents.load_all, experiments, named=named, warn=warn, whole=True)
    if rows == "episodes":
        make = export.nested if format == "jsonl" else export.of_episode
        ids = with_episodes(experiments, ids, named=named, warn=warn)
        abouts = {doc["id"]: about(doc) for doc in whole(ids)}
        counts: dict[str, int] = {}

        def each() -> Iterator[dict[str, Any]]:
            for id, fields in abouts.items():
                for episode in episodes(experiments, id, warn, counts):
                    yield make(fields, episode)
                for episode in of_phases(experiments, id, counts):
                    yield make(fields, episode)
    elif rows == "series":
        logged = {
            doc["id"]: about(doc) for doc in whole(ids) if doc.get("series") or facts.sampled(doc)
        }
        if not named:
            logged = {
                id: about
                for id, about in logged.items()
                if _succeeds(partial(_points, experiments, id), warn)
            }
        if not logged:
            raise UsageError("no series: nothing was logged", hint="run.log({name: value})")

        def each() -> Iterator[dict[str, Any]]:
            for id, fields in logged.items():
                columns = _points(experiments, id)
                for point in zip(*columns.values(), strict=True):
                    yield {**fields, **dict(zip(columns, point, strict=True))}
    else:
        # Checked once, and then read as often as it takes.
        good = [doc["id"] for doc in whole(ids)]
        nested = format == "jsonl"

        def each() -> Iterator[dict[str, Any]]:
            for id in good:
                doc = documents.load(experiments, id)
                yield doc if nested else export.flat(documents.with_labels(doc))

    writers = {
        "csv": export.write_csv,
        "jsonl": export.write_jsonl,
        "parquet": export.write_parquet,
    }
    return lambda stream: writers[format](stream, each)


def _points(experiments: str, id: str) -> dict[str, list[Any]]:
    return series.points(paths.run_folder(experiments, id))


def _bundler(
    experiments: str, ids: Sequence[str], named: bool, studies: Sequence[str], warn: Warn
) -> Write:
    sealed = [id for id in ids if os.path.lexists(paths.record(experiments, id))]
    for id in sorted(set(ids) - set(sealed)):
        if named:
            hint = f"qn-exp recover {id}, if it has ended"
            raise UsageError(f"{id} has no record yet", hint=hint)
        warn(f"{id} is left out: it has no record yet")
    if not named:
        # It holds a run with all its files or not at all.
        sealed = [id for id in sealed if _succeeds(partial(bundle.check, experiments, id), warn)]
    if not sealed:
        raise UsageError("no matching experiment has a record")

    def write(stream: IO[bytes]) -> int:
        for id in sealed:
            bundle.mark(experiments, id)
        return bundle.write(stream, experiments, sealed, warn, studies)

    return write


def about(doc: dict[str, Any]) -> dict[str, Any]:
    """What every row of an episode says of its run."""
    subject = doc.get("subject") or {}
    return {
        "id": doc["id"],
        "environment": subject.get("environment"),
        "brain": subject.get("brain"),
        "family": subject.get("family"),
        "config_digest": (doc.get("config") or {}).get("digest"),
        "run_seed": doc.get("seed"),
    }


def with_episodes(experiments: str, ids: Sequence[str], *, named: bool, warn: Warn) -> list[str]:
    """Those whose episodes are here. Raises StorageError for one that was named and is not; of
    the others, one whose journal is damaged is left out with a warning.
    """
    here = [id for id in ids if _has_journal(experiments, id)]
    gone = sorted(set(ids) - set(here))
    hint = "git carries records, bundles carry all"
    if gone and (named or not here):
        raise StorageError("its episodes are not here", file=gone[0], hint=hint)
    if gone:
        warn(f"{len(gone)} of {len(ids)} are left out: their episodes are not here ({hint})")
    return here if named else [id for id in here if _readable(experiments, id, warn)]


def _has_journal(experiments: str, id: str) -> bool:
    try:
        return os.path.lexists(journal(experiments, id))
    except StorageError:  # a link in place of its folder: reading it says so
        return True


def _readable(experiments: str, id: str, warn: Warn) -> bool:
    """Whether every episode can be read: part of a run says something else than the run."""

    def read() -> None:
        for lines in (Lines(journal(experiments, id)), of_phases(experiments, id)):
            for _ in lines:
                pass

    return _succeeds(read, warn)


def _succeeds(read: Callable[[], object], warn: Warn) -> bool:
    """Whether a run can be read so; one that cannot is left out with a warning."""
    try:
        read()
    except StorageError as error:
        warn(f"left out: {error}")
        return False
    return True


def of_phases(experiments: str, id: str, counts: dict[str, int] | None = None) -> Iterator[Episode]:
    """The episodes of the other phases, as `episodes` has those of the main one."""
    lines = phases.lines(paths.run_folder(experiments, id))
    if lines is None:
        return
    yield from _as_before(lines, f"{id}/{phases.NAME}", counts)


def _as_before(lines: Lines, key: str, counts: dict[str, int] | None) -> Iterator[Episode]:
    if counts is not None and key in counts:
        yield from islice(lines, counts[key])
        return
    yield from lines
    if counts is not None:
        counts[key] = lines.count


def episodes(
    experiments: str, id: str, warn: Warn, counts: dict[str, int] | None = None
) -> Iterator[Episode]:
    """The episodes of a run; with `counts`, the second time as many as the first, also if the run
    is going on. Raises StorageError naming a bad line.
    """
    lines = Lines(journal(experiments, id))
    yield from _as_before(lines, id, counts)
    if lines.torn:
        warn(f"{lines.path}: {lines.torn} bytes of an unfinished line at the end are left out")
