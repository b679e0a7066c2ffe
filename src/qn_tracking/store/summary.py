"""How many experiments there are, of what, and how many bytes they take."""

from __future__ import annotations

import os
from os.path import islink, join

from qn_tracking.errors import StorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qn_tracking.store.index import Index


def counts(index: Index) -> dict[str, Any]:
    """Totals, and how many experiments have each status, family, environment and so on."""
    from qn_tracking.store.sync import BAD

    def by(column: str) -> dict[str, int]:
        rows = index.db.execute(
            f"SELECT ifnull({column}, ''), count(*) FROM run GROUP BY 1 ORDER BY 2 DESC, 1"  # noqa: S608
        )
        return dict(rows.fetchall())

    total, episodes, steps, seconds, first, last = index.db.execute(
        "SELECT count(*), sum(episodes), sum(steps), sum(wall_seconds), min(started), max(started)"
        " FROM run"
    ).fetchone()
    return {
        "experiments": total,
        "unreadable": len([1 for name, _ in index.problems() if index.kind(name) == BAD]),
        "episodes": episodes or 0,
        "steps": steps or 0,
        "seconds": seconds or 0.0,
        "first": first,
        "last": last,
        **{name: by(name) for name in ("status", "family", "environment", "brain", "config")},
    }


def sizes(experiments: str) -> dict[str, int | None]:
    """Bytes of records, runs, index and trash, and what is free on the disk."""
    found = dict.fromkeys(("records", "runs", "index", "trash"), 0)
    for name, key in (("runs", "runs"), (".trash", "trash")):
        if not islink(join(experiments, name)):
            found[key] = size_below(join(experiments, name))
    try:
        names = os.listdir(experiments)
    except OSError as error:
        raise StorageError((error.strerror or "").lower(), file=experiments) from None
    for name in names:
        if name.startswith(".index"):
            found["index"] += _size(join(experiments, name))
        elif name.endswith(".json"):
            found["records"] += _size(join(experiments, name))
    try:
        disk = os.statvfs(experiments)
    except OSError:
        return {**found, "free": None}
    return {**found, "free": disk.f_bavail * disk.f_frsize}


def size_below(folder: str) -> int:
    """The bytes of all files in a folder, and in those in it."""
    return sum(_size(join(place, name)) for place, _, names in os.walk(folder) for name in names)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
