"""`qn-exp stats`: how many experiments there are, of what, and how much disk they take."""

from __future__ import annotations

from qn_tracking.cli.options import experiments
from qn_tracking.cli.output import print_plain, print_section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from qn_tracking.cli.command import Parser

SHOWN = 12


def arguments(parser: Parser, command: str) -> None:
    """`stats` has no options of its own."""


def run(args: Namespace) -> int:
    """Prints the counts."""
    from qn_tracking.render.text import duration

    found = experiments(args).stats()
    if args.json:
        print_plain(found)
        return 0
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
    print_section(found["experiments_dir"], lines)
    return 0


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
