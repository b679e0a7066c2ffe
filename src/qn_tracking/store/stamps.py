"""Whether a file, a folder or labels have changed: their times as one integer."""

from __future__ import annotations

import os
import time
from os.path import join
from zlib import crc32

from qn_tracking.store import paths

YOUNG_NS = 2_000_000_000


def stamp(info: os.stat_result) -> int:
    """A file's times, size and number as one integer; what is replaced or edited changes it."""
    return hash((info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino))


def young(info: os.stat_result) -> bool:
    """Whether a change in the same tick could have left these times alone."""
    return info.st_ctime_ns > time.time_ns() - YOUNG_NS


def folder_stamp(path: str) -> tuple[int, bool]:
    """The same of a folder, and whether it is young; 0 if it is not there."""
    try:
        info = os.stat(path)
    except OSError:
        return 0, False
    # The size of a folder is no more than its times are.
    return hash((info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev)), young(info)


def labels_stamp(experiments: str, name: str) -> int:
    """Of everything that says what labels an experiment has; 0 if it has none."""
    try:
        before = stamp(os.lstat(f"{experiments}/runs/{name}/labels.json"))
    except OSError:
        before = 0
    added = _files(f"{experiments}/{paths.LABELS}/{name}")
    # Numbers only: the hash of a text is another one in each process.
    return hash((before, *added)) if before or added else 0


def labels_stamps(experiments: str) -> tuple[int, bool, list[str]]:
    """The stamp of all labels that are files of their own, whether one is young, and of whom."""
    folder = f"{experiments}/{paths.LABELS}"
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return 0, False, []
    stamps = [
        (crc32(name.encode("utf-8", "replace")), folder_stamp(join(folder, name))) for name in names
    ]
    return (
        hash(tuple((name, number) for name, (number, _) in stamps)),
        any(is_young for _, (_, is_young) in stamps),
        names,
    )


def _files(folder: str) -> list[tuple[int, int]]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    found = []
    for name in names:
        try:
            found.append(
                (crc32(name.encode("utf-8", "replace")), stamp(os.lstat(join(folder, name))))
            )
        except OSError:  # gone since
            continue
    return found
