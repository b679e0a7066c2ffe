"""The trash: `experiments/.trash/<id>/` holds `record.json` and the folder `run` of an experiment,
or the folder `study` of a study.

A kill between two steps loses nothing: the folder of the run goes first and comes back last, since
a folder without a record would look like a run that died. The same command again finishes what was
begun.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from os.path import dirname, isdir, join, lexists

from qn_tracking.errors import StorageError, UsageError
from qn_tracking.files import inside
from qn_tracking.ids import check_id, is_id
from qn_tracking.store import paths, studies, unfinished
from qn_tracking.store.write import (
    holds,
    make_folder,
    move,
    naming,
    remove as remove_all,
    remove_emptied,
    sync_folder,
)

NAME = ".trash"
STUDY = "study"
RECORD, RUN = "record.json", "run"


def remove(experiments: str, id: str, *, force: bool = False) -> str:
    """Puts an experiment into the trash; returns where it is there.

    Raises UsageError if it is running, or may be (unless `force`).
    """
    record, folder = paths.record(experiments, id), paths.run_folder(experiments, id)
    if not lexists(record):
        unfinished.check_over(experiments, id, force=force, hint="--force removes it")
    slot = _slot(experiments, id, {RECORD: record, RUN: folder})
    with naming(slot):
        if isdir(folder):
            move(folder, join(slot, RUN))
            _synced(slot, dirname(folder))
        if lexists(record):
            move(record, join(slot, RECORD))
            _synced(slot, experiments)
    return slot


def restore(experiments: str, id: str) -> str:
    """Takes the latest of that id out of the trash; returns the path of its record or folder.

    Raises UsageError if none is there, StorageError if the id is taken.
    """
    slots = _slots(experiments, id)
    if not slots:
        raise UsageError(f"no {id} in the trash", hint="qn-exp restore lists what is there")
    slot = slots[max(slots)]
    record, folder = paths.record(experiments, id), paths.run_folder(experiments, id)
    kept, run = join(slot, RECORD), inside(slot, RUN)
    for there, place in ((kept, record), (run, folder)):
        _check_free(there, place)
    with naming(slot):
        if lexists(kept):
            _put_back(kept, record)
            _synced(experiments, slot)
        if isdir(run):
            make_folder(dirname(folder))
            move(run, folder)
            _synced(dirname(folder), slot)
        remove_emptied(slot)
        sync_folder(dirname(slot))
    return record if lexists(record) else folder


def remove_study(experiments: str, id: str, runs: Sequence[str], *, force: bool = False) -> str:
    """Puts a study into the trash after these runs of it; returns where it is there.

    Raises UsageError if a run is going on, or may be (unless `force`), and UnsupportedError if a
    process runs the study.
    """
    declared = studies.kind(experiments, id) == "declared"
    with studies.locked(experiments, id) if declared else nullcontext():
        for run in runs:
            if not lexists(paths.record(experiments, run)):
                unfinished.check_over(experiments, run, force=force, hint="--force removes it")
        for run in runs:
            remove(experiments, run, force=force)
        folder = studies.folder(experiments, id)
        slot = _slot(experiments, id, {STUDY: folder})
        before = studies.path(experiments, id)
        with naming(slot):
            if declared and dirname(before) != folder:  # of the time before schema 2
                make_folder(folder)
                move(before, join(folder, "study.json"))
            move(folder, join(slot, STUDY))
            _synced(slot, dirname(folder))
    return slot


def restore_study(experiments: str, id: str) -> str:
    """Takes a study out of the trash, and its runs before it; returns the path of its folder.

    Raises StorageError if one of them is there already.
    """
    slots, folder = _slots(experiments, id), studies.folder(experiments, id)
    slot = next(slots[n] for n in sorted(slots, reverse=True) if lexists(join(slots[n], STUDY)))
    _check_free(join(slot, STUDY), folder)
    for run in runs_of(id, listed(experiments)):
        restore(experiments, run)
    make_folder(dirname(folder))
    with naming(slot):
        move(join(slot, STUDY), folder)
        _synced(dirname(folder), slot)
        remove_emptied(slot)
        sync_folder(dirname(slot))
    return folder


def runs_of(study: str, ids: Sequence[str]) -> list[str]:
    """Those of the ids that are of runs of a study."""
    return [id for id in ids if id.startswith(f"{study}.s")]


def find_study(experiments: str, text: str) -> str | None:
    """The id of the study in the trash that has this id or name; None if there is none."""
    for id in studies_listed(experiments):
        if text in (id, studies.summary_in(_study_folder(experiments, id), id)[0]):
            return id
    return None


def studies_listed(experiments: str) -> list[str]:
    """The ids of the studies in the trash."""
    return [id for id in listed(experiments) if lexists(_study_folder(experiments, id))]


def _study_folder(experiments: str, id: str) -> str:
    slots = _slots(experiments, id)
    return join(slots[max(slots)], STUDY)


def listed(experiments: str) -> list[str]:
    """The ids of what is in the trash."""
    try:
        names = os.listdir(inside(experiments, NAME))
    except OSError:
        return []
    return sorted({name.partition("~")[0] for name in names if is_id(name.partition("~")[0])})


def find(experiments: str, text: str) -> str:
    """The id of what is in the trash, from its beginning. Raises UsageError for none or several."""
    check_id(text)
    ids = listed(experiments)
    found = [text] if text in ids else [id for id in ids if id.startswith(text)]
    if not found:
        hint = f"there: {', '.join(ids[:5])}" if ids else "the trash is empty"
        raise UsageError(f"no {text!r} in the trash", hint=hint)
    if len(found) > 1:
        raise UsageError(f"{text!r} is ambiguous", hint=", ".join(found[:5]))
    return found[0]


def _synced(*folders: str) -> None:
    for folder in folders:
        sync_folder(folder)


def _slots(experiments: str, id: str) -> dict[int, str]:
    """The folders in the trash for this id, by number: `<id>`, `<id>~2`, …"""
    place = inside(experiments, NAME)
    try:
        names = os.listdir(place)
    except OSError:
        return {}
    slots = {}
    for name in names:
        base, mark, number = name.partition("~")
        if base == id and (not mark or (number.isascii() and number.isdigit())):
            slots[int(number or 1)] = inside(place, name)
    return slots


def _check_free(kept: str, place: str) -> None:
    """Raises StorageError if what is kept in the trash cannot go back to its place.

    What an interrupted restoring has put there may be there; the rest of an interrupted removal is
    cleared away.
    """
    if not lexists(kept) or not lexists(place):
        return
    with naming(place):
        if not holds(place, kept):
            if not holds(kept, place):
                raise StorageError("is there already", file=place)
            remove_all(place)


def _slot(experiments: str, id: str, parts: Mapping[str, str]) -> str:
    """A folder in the trash for these paths, by their names in it: the one that an interrupted
    removal has begun, or else a new one.
    """
    slots = _slots(experiments, id)
    number = max(slots, default=0)
    if slots:
        last = slots[number]
        with naming(last):
            if all(_begun(join(last, name), parts.get(name)) for name in (RECORD, RUN, STUDY)):
                return last
    make_folder(inside(experiments, NAME))
    while True:
        number += 1
        slot = join(experiments, NAME, id if number == 1 else f"{id}~{number}")
        with naming(slot):
            try:
                os.mkdir(slot)
            except FileExistsError:  # by another process, at the same time
                continue
            sync_folder(dirname(slot))
        return slot


def _begun(kept: str, path: str | None) -> bool:
    """Whether a path may go there in the trash: nothing is there, or what is at the path, too.

    The folder of a run that is there already goes before the record.
    """
    if not lexists(kept):
        return True
    if path is None or not lexists(path):
        return path is not None and os.path.basename(kept) == RUN
    return holds(kept, path)


def _put_back(kept: str, record: str) -> None:
    """Moves without overwriting."""
    try:
        os.link(kept, record, follow_symlinks=False)
    except FileExistsError:
        pass  # linked by an interrupted restoring, as has been looked at
    except OSError:
        move(kept, record)  # no hard links here, or another device
        return
    os.unlink(kept)
