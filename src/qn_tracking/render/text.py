"""Pieces of terminal text: durations, curves, rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite

from qn_tracking.errors import printable

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-=+*#@"


def clip(text: str, width: int) -> str:
    """At most `width` characters, the last of them a tilde if something is missing."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "~"


def width(text: str) -> int:
    """The columns of a text on a terminal: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(
        0 if category(c) in ("Mn", "Me", "Cf") else 2 if east_asian_width(c) in "WF" else 1
        for c in text
    )


def fit(text: str, columns: int, *, right: bool = False) -> str:
    """The text in exactly `columns` columns: cut with a tilde, or filled with spaces."""
    if text.isascii():
        text = clip(text, columns)
        return text.rjust(columns) if right else text.ljust(columns)
    if width(text) > columns:
        kept, used = [], 0
        for c in text:
            used += width(c)
            if used > columns - 1:
                break
            kept.append(c)
        text = clip("".join(kept) + "~", max(columns, 0))
    fill = " " * (columns - width(text))
    return fill + text if right else text + fill


def counted(number: int, noun: str) -> str:
    """`1 run`, `2 runs`, `1,024 runs`: a number with the right form of its noun."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """`0.4s`, `12s`, `3m20s`, `2h05m`."""
    if seconds < 10 or not isfinite(seconds):
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
    """One character for each value, between the given bounds or those of the values; `?` if not
    finite.
    """
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


def means(values: Sequence[float], points: int) -> list[float]:
    """At most `points` means over stretches of (nearly) equal length."""
    n = len(values)
    if n <= points:
        return list(values)
    cuts = [(i * n // points, (i + 1) * n // points) for i in range(points)]
    return [sum(values[a:b]) / (b - a) for a, b in cuts]


def rows(pairs: Iterable[tuple[str, object]], indent: str = "  ", columns: int = 0) -> str:
    """`name  value` lines, aligned; values are made printable, None is left out.

    Of so many terminal `columns` (0: any), a value goes on below itself.
    """
    kept = [(printable(name), printable(value)) for name, value in pairs if value is not None]
    wide = max((width(name) for name, _ in kept), default=0)
    if columns:
        from textwrap import wrap

        left = max(columns - len(indent) - wide - 2, 20)
        split = [
            (name, wrap(value, left, break_long_words=False, break_on_hyphens=False) or [""])
            for name, value in kept
        ]
        kept = [
            ("" if place else name, line) for name, some in split for place, line in enumerate(some)
        ]
    return "".join(f"{indent}{fit(name, wide)}  {value}\n" for name, value in kept)
