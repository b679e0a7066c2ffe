"""Pieces of terminal text: durations, curves, rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite

from qn_tracking.errors import printable

NARROW = 20
"""Columns that a value needs beside its name."""
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


def wrapped(text: str, columns: int, indent: str = "  ") -> list[str]:
    """A text on as many lines of so many terminal columns (0: any) as it takes, the rest indented.

    Of a word that is longer, such as a path, nothing is cut: a terminal breaks it as it likes, and
    it can be copied. One with wide characters is broken here.
    """
    if not columns or width(text) <= columns:
        return [text]
    lines, line, used = [], "", 0
    for word in _words(text, columns - len(indent)):
        size = width(word)
        if line.strip() and used + size > columns:
            lines.append(line.rstrip())
            word = word.lstrip(" ")
            line, used, size = indent, len(indent), width(word)
        line, used = line + word, used + size
    return [*lines, line]


def _words(text: str, space: int) -> Iterator[str]:
    """The words of a text, each with the spaces before it."""
    for word in re.findall(r" *[^ ]+", text):
        if word.isascii() or width(word.lstrip(" ")) <= space:
            yield word
        else:
            spaces = len(word) - len(word.lstrip(" "))
            yield word[: spaces + 1]
            yield from word[spaces + 1 :]


def rows(pairs: Iterable[tuple[str, object]], indent: str = "  ", columns: int = 0) -> str:
    """`name  value` lines, aligned; values are made printable, None is left out.

    Of so many terminal `columns` (0: any), a value goes on below itself, or below its name where
    a word would not fit, or little space is left.
    """
    kept = [(printable(name), printable(value)) for name, value in pairs if value is not None]
    wide = max((width(name) for name, _ in kept), default=0)
    before = len(indent) + wide + 2
    if not columns:
        return "".join(f"{indent}{fit(name, wide)}  {value}\n" for name, value in kept)
    out = []
    for name, value in kept:
        head = f"{indent}{fit(name, wide)}  "
        longest = max(map(width, _words(value, NARROW)), default=0)
        if columns - before < max(longest, min(NARROW, width(value))):
            out += wrapped(f"{indent}{name}", columns)
            head, space = f"{indent}  ", columns - len(indent) - 2
        else:
            space = columns - before
        for line in wrapped(value, space, ""):
            out.append(head + line)
            head = " " * width(head)
    return "".join(f"{line}\n" for line in out)
