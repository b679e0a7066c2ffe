"""The trash: `experiments/.trash/<id>/` holds `record.json` and the folder `run` of an experiment.

A kill between two steps loses nothing and confuses nobody: the run's folder goes first and comes
back last, for a folder without a record would look like a run that died. The same command again
finishes what was begun.
"""

from __future__ import annotations

import errno
import os
from os.path import dirname, isdir, join, lexists

from qn_tracking.errors import StorageError, UsageError
from qn_tracking.ids import is_id
from qn_tracking.store import paths, unfinished
from qn_tracking.store.write import make_folder, naming, sync_folder

NAME = ".trash"


def remove(experiments: str, id: str, *, force: bool = False) -> str:
    """Puts an experiment into the trash; returns where it is there.

    Raises UsageError if it is running, or may be on another host (unless `force`).
    """
    record, folder = paths.record(experiments, id), paths.run_folder(experiments, id)
    if not lexists(record):
        status = unfinished.status_now(experiments, id)
        if status == unfinished.RUNNING:
            raise UsageError("is still running", file=id)
        if status == unfinished.UNKNOWN and not force:
            host = unfinished.host_of(experiments, id)
            raise UsageError(
                f"was started on {host} and may be running there",
                file=id,
                hint="--force removes it",
            )
    slot = _slot(experiments, id, lexists(record), isdir(folder))
    make_folder(slot)
    with naming(slot):
        if isdir(folder):
            os.rename(folder, join(slot, "run"))
            _synced(slot, dirname(folder))
        if lexists(record):
            os.rename(record, join(slot, "record.json"))
            _synced(slot, experiments)
    return slot


def restore(experiments: str, id: str) -> str:
    """Takes the latest of that id out of the trash; returns the path of its record or folder.

    Raises UsageError if none is there, StorageError if the id is taken.
    """
    slots = _slots(experiments, id)
    if not slots:
        raise UsageError(f"no {id} in the trash", hint="qn-exp restore lists what is there")
    slot = slots[-1]
    record, folder = paths.record(experiments, id), paths.run_folder(experiments, id)
    kept, run = join(slot, "record.json"), join(slot, "run")
    if lexists(kept) and lexists(record) and not _same(kept, record):
        raise StorageError("is there already", file=record)
    if isdir(run) and isdir(folder):
        raise StorageError("is there already", file=folder)
    with naming(slot):
        if lexists(kept):
            _put_back(kept, record)
            _synced(experiments, slot)
        if isdir(run):
            make_folder(dirname(folder))
            os.rename(run, folder)
            _synced(dirname(folder), slot)
        os.rmdir(slot)
        sync_folder(dirname(slot))
    return record if lexists(record) else folder


def listed(experiments: str) -> list[str]:
    """The ids of what is in the trash."""
    try:
        names = os.listdir(join(experiments, NAME))
    except OSError:
        return []
    return sorted({name.partition("~")[0] for name in names if is_id(name.partition("~")[0])})


def _synced(*folders: str) -> None:
    for folder in folders:
        sync_folder(folder)


def _slots(experiments: str, id: str) -> list[str]:
    """The folders in the trash for this id, the latest last: `<id>`, `<id>~2`, …"""
    place = join(experiments, NAME)
    try:
        names = os.listdir(place)
    except OSError:
        return []
    found = []
    for name in names:
        base, mark, number = name.partition("~")
        if base == id and (not mark or number.isdigit()):
            found.append((int(number or 1), join(place, name)))
    return [path for _, path in sorted(found)]


def _slot(experiments: str, id: str, record: bool, run: bool) -> str:
    """A folder in the trash that has room; one that an interrupted removal has begun, if any."""
    slots = _slots(experiments, id)
    if slots:
        last = slots[-1]
        if not (record and lexists(join(last, "record.json"))) and not (
            run and lexists(join(last, "run"))
        ):
            begun = not lexists(join(last, "record.json"))
            if begun:
                return last
        return join(experiments, NAME, f"{id}~{len(slots) + 1}")
    return join(experiments, NAME, id)


def _same(a: str, b: str) -> bool:
    """One file by two names: a restoring that was interrupted."""
    return os.path.samefile(a, b)


def _put_back(kept: str, record: str) -> None:
    """Moves without overwriting."""
    try:
        os.link(kept, record, follow_symlinks=False)
    except FileExistsError:
        pass  # linked by an interrupted restoring, as has been looked at
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        os.rename(kept, record)  # no hard links here
        return
    os.unlink(kept)
