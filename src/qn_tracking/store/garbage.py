"""What may be cleared away: the trash, and artifacts that nothing refers to."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from os.path import isdir, join, lexists

from attrs import frozen

from qn_tracking import files
from qn_tracking.ids import is_id
from qn_tracking.store import artifacts, labels, paths, read, trash
from qn_tracking.store.summary import size_below
from qn_tracking.store.write import naming

_GONE = ".gone-"
"""What a slot of the trash is called while it is removed: a kill leaves nothing half restorable."""


@frozen(kw_only=True)
class Garbage:
    """A path that may be cleared away, its size, and why."""

    path: str
    bytes: int
    cause: str


def find(experiments: str, before: float) -> tuple[Garbage, ...]:
    """What has not changed since `before`, in seconds since 1970.

    What only that part of the trash refers to is among it. Raises StorageError if a record cannot
    be read: what it refers to is not known then.
    """
    slots = dict(_slots(experiments))
    old = {path for path, changed in slots.items() if changed < before}
    found = [
        Garbage(path=path, bytes=size_below(path), cause="in the trash") for path in sorted(old)
    ]
    place = files.inside(experiments, artifacts.FOLDER)
    if isdir(place):
        needed = _needed(experiments, [path for path in slots if path not in old])
        with naming(place):
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        for entry in entries:
            with suppress(FileNotFoundError):
                info = entry.stat(follow_symlinks=False)
                is_ours = stat.S_ISREG(info.st_mode) and entry.name != ".gitignore"
                if is_ours and entry.name not in needed and info.st_mtime < before:
                    cause = "nothing refers to it"
                    found.append(Garbage(path=entry.path, bytes=info.st_size, cause=cause))
    return tuple(found)


def remove(garbage: Garbage) -> None:
    """Clears one away. Raises StorageError."""
    with naming(garbage.path):
        if not isdir(garbage.path):
            with suppress(FileNotFoundError):
                os.unlink(garbage.path)
            return
        above, name = os.path.split(garbage.path)
        gone = garbage.path
        if not name.startswith(_GONE):
            gone = join(above, f"{_GONE}{os.urandom(4).hex()}")
            try:
                os.rename(garbage.path, gone)
            except OSError as error:
                if error.errno != errno.EXDEV:  # a folder in a lower layer of overlayfs
                    raise
                gone = garbage.path
        shutil.rmtree(gone)


def _slots(experiments: str) -> Iterator[tuple[str, float]]:
    """The folders in the trash, and when each was filled."""
    place = files.inside(experiments, trash.NAME)
    if not isdir(place):
        return
    with naming(place):
        names = sorted(os.listdir(place))
    for name in names:
        if is_id(name.partition("~")[0]) or name.startswith(_GONE):
            with suppress(FileNotFoundError):
                info = os.lstat(join(place, name))
                if stat.S_ISDIR(info.st_mode):
                    yield join(place, name), info.st_mtime


def _needed(experiments: str, slots: list[str]) -> set[str]:
    """The digests that records, runs without one, labels and the trash refer to."""
    with naming(experiments):
        records = [name for name in os.listdir(experiments) if is_id(name.removesuffix(".json"))]
    needed = set()
    for name in records:
        if name.endswith(".json"):
            needed |= _of_record(experiments, join(experiments, name))
    for folder in _folders(files.inside(experiments, "runs")):
        if not lexists(f"{join(experiments, os.path.basename(folder))}.json"):
            needed |= artifacts.digests(experiments, artifacts.journal(folder))
    for folder in _folders(files.inside(experiments, paths.LABELS)):
        added = labels.read(experiments, os.path.basename(folder)).get("artifacts") or []
        needed |= artifacts.digests(experiments, added)
    for slot in slots:
        needed |= _of_record(experiments, join(slot, "record.json"))
        needed |= artifacts.digests(experiments, artifacts.journal(join(slot, "run")))
    return needed


def _of_record(experiments: str, path: str) -> set[str]:
    try:
        data, _ = files.load(path)
    except FileNotFoundError:
        return set()
    # Most have none, and need not be understood.
    if b'"kept"' not in data:
        return set()
    return artifacts.digests(experiments, read.parse(data, path).get("artifacts") or [])


def _folders(place: str) -> list[str]:
    try:
        names = sorted(os.listdir(place))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise files.os_error(place, error) from None
    return [join(place, name) for name in names if is_id(name) and isdir(join(place, name))]
