"""`qn-exp stats`: how many experiments there are, of what, and how much room they take."""

from __future__ import annotations

import os
import sys
from os.path import join

from qn_tracking.cli.exp import folder, print_plain, progress, warn
from qn_tracking.errors import StorageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from qn_tracking.cli.command import Parser
    from qn_tracking.store.index import Index

SHOWN = 12


def arguments(parser: Parser, command: str) -> None:
    """`stats` has no options of its own."""


def run(args: Namespace) -> int:
    """Prints the counts."""
    from qn_tracking.store.index import consult

    experiments = folder(args)
    found: dict[str, Any] = consult(
        experiments, _counts, warn=warn, progress=progress("indexing experiments")
    )
    found = {"experiments_dir": experiments, **found, "bytes": _sizes(experiments)}
    if args.json:
        print_plain(found)
        return 0
    _print(found)
    return 0


def _counts(index: Index) -> dict[str, Any]:
    from qn_tracking.store.sync import BAD

    def by(column: str) -> dict[str, int]:
        rows = index.db.execute(
            f"SELECT ifnull({column}, ''), count(*) FROM run GROUP BY 1 ORDER BY 2 DESC, 1"  # noqa: S608
        )
        return dict(rows.fetchall())

    total, episodes, steps, seconds, first, last = index.db.execute(
        "SELECT count(*), sum(episodes), sum(steps), sum(wall), min(started), max(started) FROM run"
    ).fetchone()
    return {
        "experiments": total,
        "unreadable": len([1 for name, _ in index.problems() if index.kind(name) == BAD]),
        "episodes": episodes or 0,
        "steps": steps or 0,
        "seconds": seconds or 0.0,
        "first": first,
        "last": last,
        "status": by("status"),
        "family": by("family"),
        "environment": by("environment"),
        "brain": by("brain"),
        "config": by("label_key"),
    }


def _sizes(experiments: str) -> dict[str, int | None]:
    """Bytes of the files, and what is free on the disk."""
    sizes: dict[str, int | None] = dict.fromkeys(("records", "runs", "index", "trash"), 0)

    def add(key: str, count: int) -> None:
        sizes[key] = (sizes[key] or 0) + count

    for path, key in ((join(experiments, "runs"), "runs"), (join(experiments, ".trash"), "trash")):
        for place, _, names in os.walk(path):
            for name in names:
                add(key, _size(join(place, name)))
    try:
        names = os.listdir(experiments)
    except OSError as error:
        raise StorageError((error.strerror or "").lower(), file=experiments) from None
    for name in names:
        if name.startswith(".index"):
            add("index", _size(join(experiments, name)))
        elif name.endswith(".json"):
            add("records", _size(join(experiments, name)))
    try:
        disk = os.statvfs(experiments)
        sizes["free"] = disk.f_bavail * disk.f_frsize
    except OSError:
        sizes["free"] = None
    return sizes


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _print(found: dict[str, Any]) -> None:
    from qn_tracking.render.text import duration, rows

    sizes = found["bytes"]
    lines: list[tuple[str, object]] = [
        ("experiments", f"{found['experiments']:,}"),
        ("unreadable", found["unreadable"] or None),
        ("episodes", f"{found['episodes']:,}"),
        ("steps", f"{found['steps']:,}"),
        ("time", duration(found["seconds"])),
        ("first", found["first"]),
        ("last", found["last"]),
    ]
    for key in ("status", "family", "environment", "brain", "config"):
        counts = [(name, count) for name, count in found[key].items() if name]
        some = ", ".join(f"{name} {count:,}" for name, count in counts[:SHOWN])
        more = f", and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
        lines.append((key, some + more or None))
    lines += [
        (f"{key} on disk", _bytes(sizes[key])) for key in ("records", "runs", "index", "trash")
    ]
    lines.append(("free", None if sizes["free"] is None else _bytes(sizes["free"])))
    sys.stdout.write(f"{printable(found['experiments_dir'])}\n" + rows(lines))


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
