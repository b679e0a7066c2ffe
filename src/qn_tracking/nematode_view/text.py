"""A frame in characters, two for a cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qn_tracking.nematode_view.frames import FACINGS

HEADS = {True: "▶▲◀▼", False: ">^<v"}
"""In the order of `FACINGS`."""
BODY, TARGET, EMPTY = {True: "●", False: "o"}, {True: "◆", False: "*"}, {True: "·", False: "."}
GREEN, YELLOW, PALE = "32", "33", "2"


def text(frame: Mapping[str, Any], columns: int, lines: int, *, unicode: bool, colour: bool) -> str:
    """The grid, or the part of it around the head that there is space for, and a line about it."""
    size, (x, y) = frame["size"], frame["head"]
    wide, high = (min(size, max(space, 3)) for space in (columns // 2, lines - 1))
    left, low = (min(max(at - side // 2, 0), size - side) for at, side in ((x, wide), (y, high)))
    shown = {tuple(cell): (TARGET[unicode], YELLOW) for cell in frame["targets"]}
    shown |= {tuple(cell): (BODY[unicode], GREEN) for cell in frame["body"]}
    shown[x, y] = HEADS[unicode][FACINGS.index(frame["facing"])], GREEN
    empty = EMPTY[unicode], PALE
    rows = []
    for row in reversed(range(low, low + high)):
        cells = [shown.get((column, row), empty) for column in range(left, left + wide)]
        rows.append(" ".join(_coloured(cell, colour) for cell in cells))
    return "\n".join([*rows, _about(frame, wide, high)[: max(columns, 1)]]) + "\n"


def _coloured(cell: tuple[str, str], colour: bool) -> str:
    return f"\x1b[{cell[1]}m{cell[0]}\x1b[0m" if colour else cell[0]


def _about(frame: Mapping[str, Any], wide: int, high: int) -> str:
    what = frame["termination"] or frame["action"] or "start"
    parts = [f"step {frame['step']}", what, f"reward {frame['reward']:.2f}"]
    if frame["satiety"] is not None:
        parts.append(f"satiety {frame['satiety']:.0f}")
    if min(wide, high) < frame["size"]:
        parts.append(f"{wide} x {high} of {frame['size']} x {frame['size']} cells")
    return ", ".join(parts)
