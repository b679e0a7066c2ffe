"""Pieces of terminal text: lengths of time, curves, rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite

from qn_tracking.errors import printable

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-=+*#@"


def clip(text: str, width: int) -> str:
    """At most `width` characters, the last of them a tilde if something is missing."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "~"


def duration(seconds: float) -> str:
    """`0.4s`, `12s`, `3m20s`, `2h05m`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def sparkline(
    values: Sequence[float],
    low: float | None = None,
    high: float | None = None,
    *,
    unicode: bool = True,
) -> str:
    """One character a value, between the bounds given or found; `?` for what is not finite."""
    blocks = _BLOCKS if unicode else _ASCII
    finite = [value for value in values if isfinite(value)]
    if not finite:
        return "?" * len(values)
    least = min(finite) if low is None else low
    most = max(finite) if high is None else high
    span = most - least

    def block(value: float) -> str:
        if not isfinite(value):
            return "?"
        place = (value - least) / span if span > 0 and isfinite(span) else 0.5
        return blocks[min(len(blocks) - 1, max(0, int(place * len(blocks))))]

    return "".join(map(block, values))


def rows(pairs: Iterable[tuple[str, object]], indent: str = "  ") -> str:
    """`name  value` lines, aligned; values are made printable, None is left out."""
    kept = [(name, printable(value)) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in kept), default=0)
    return "".join(f"{indent}{name:<{width}}  {value}\n" for name, value in kept)
