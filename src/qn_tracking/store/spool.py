"""Runs that a plugin could not send: kept as bundles, sent later, and then removed.

`name` is the plugin's; each has a folder of its own. A bundle has the format of `qn-exp export`.
`qn-exp import` reads it, unless the server got some of the episodes before it went away and no
journal has them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os.path import join, lexists

from attrs import frozen

from qn_tracking.errors import QnError, StorageError
from qn_tracking.files import inside
from qn_tracking.ids import is_id
from qn_tracking.records.limits import MAX_BYTES
from qn_tracking.records.model import Episode
from qn_tracking.store import bundle, journal, paths, read, write

_SCRATCH = ".unpacked-"

Send = Callable[[str, str], object]
"""Sends an experiment of a folder of experiments by its id."""


def folder(experiments: str, name: str) -> str:
    """Return the folder of the waiting runs. Raises StorageError for a link in its place."""
    return inside(experiments, ".spool", name)


def waiting(experiments: str, name: str) -> list[str]:
    """Return the ids of the waiting runs, the oldest first. Raises StorageError."""
    place = folder(experiments, name)
    with write.naming(place):
        try:
            names = sorted(os.listdir(place))
        except FileNotFoundError:
            return []
    return [name[:-4] for name in names if name.endswith(".zip") and is_id(name[:-4])]


def keep(
    experiments: str,
    name: str,
    id: str,
    document: bytes,
    files: Mapping[str, bytes],
    episodes: Sequence[Episode],
    warn: Callable[[str], None],
) -> str:
    """Keep a run durably; return the path of its bundle. Raises StorageError.

    The bundle has the stored experiment if there is one, else the given record, files and episodes.
    """
    place = folder(experiments, name)
    write.make_folder(place)
    write.ignore(place, "*\n")
    path = join(place, f"{id}.zip")
    with write.published(path, replace=True) as stream:
        if lexists(paths.record(experiments, id)):
            bundle.write(stream, experiments, [id], warn)
        else:
            with _scratch(place) as stage:
                _lay_out(stage, id, document, files, episodes)
                bundle.write(stream, stage, [id], warn)
    return path


def _lay_out(
    stage: str, id: str, document: bytes, files: Mapping[str, bytes], episodes: Sequence[Episode]
) -> None:
    """Write the run to an empty folder of experiments."""
    run = paths.run_folder(stage, id)
    with write.naming(run):
        os.makedirs(run)
        write.create(paths.record(stage, id), document)
        for name, data in files.items():
            write.create(join(run, name), data)
        write.create(join(run, "episodes.jsonl"), b"".join(map(journal.line, episodes)))


def first(journal: str) -> int:
    """Return the index of the first episode in a journal of a bundle; 0 if it is unknown."""
    with open(journal, "rb") as stream:
        found = read.INDEX.search(stream.readline(MAX_BYTES))
    return int(found[1]) if found else 0


# ---------------------------------------------------------------------------------------- sending


@frozen(kw_only=True)
class Flushed:
    """The outcome of a flush: the ids that were sent, and the errors of the others.

    `busy` says that another process is sending them, so that nothing was tried.
    """

    sent: tuple[str, ...] = ()
    errors: tuple[tuple[str, QnError], ...] = ()
    busy: bool = False


def flush(
    experiments: str,
    name: str,
    send: Send,
    gone: type[QnError],
    stop: Callable[[], bool] = lambda: False,
) -> Flushed:
    """Send the waiting runs, until `stop` returns True or `send` raises `gone`, without a server.

    A run that was sent is removed. Raises StorageError if the folder cannot be read.
    """
    sent: list[str] = []
    errors: list[tuple[str, QnError]] = []
    if not waiting(experiments, name):
        return Flushed()
    place = folder(experiments, name)
    with write.naming(place):
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with write.locking(fd) as mine:
        if not mine:
            return Flushed(busy=True)
        _sweep(place)
        for id in waiting(experiments, name):
            if stop():
                break
            path = join(place, f"{id}.zip")
            try:
                _send(place, path, id, send)
                with write.naming(path):
                    os.unlink(path)
                sent.append(id)
            except QnError as error:
                errors.append((id, error))
                if isinstance(error, gone):
                    break
    return Flushed(sent=tuple(sent), errors=tuple(errors))


def _send(place: str, path: str, id: str, send: Send) -> None:
    with bundle.opened(path) as stream, _scratch(place) as stage:
        packed = bundle.Bundle(path, stream)
        if id not in packed.members:
            raise StorageError(f"does not contain {id}", file=path)
        run = paths.run_folder(stage, id)
        with write.naming(run):
            os.makedirs(run)
            write.create(paths.record(stage, id), packed.record(id))
        packed.unpack(id, run)
        send(stage, id)


@contextmanager
def _scratch(place: str) -> Iterator[str]:
    """Yield an empty folder, and remove it afterwards."""
    stage = join(place, f"{_SCRATCH}{os.urandom(4).hex()}")
    with write.naming(stage):
        os.mkdir(stage, 0o700)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _sweep(place: str) -> None:
    """Remove temporary files of processes that were killed."""
    with suppress(OSError):
        for name in os.listdir(place):
            path = join(place, name)
            folder = name.startswith(_SCRATCH)
            # Another run may be writing its own now.
            if (folder or name.endswith(".tmp")) and time.time() - os.stat(path).st_mtime > 3600:
                if folder:
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    os.unlink(path)
