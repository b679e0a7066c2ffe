"""Tables that fit their terminal."""

from __future__ import annotations

import os
import sys

from qn_tracking.render.text import fit, rows as text_rows, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GAP = 2
LEAST = 6
"""Columns of the first cells of a table, or as many as these need."""


class Column:
    """A column: its title, how narrow it may get, and how soon it is left out (0 never);
    one to `keep` stays if all of its cells are empty.
    """

    __slots__ = ("drop", "keep", "least", "right", "style", "title")

    def __init__(
        self,
        title: str,
        *,
        least: int | None = None,
        right: bool = False,
        drop: int = 0,
        keep: bool = False,
        style: Callable[[str], str] | None = None,
    ) -> None:
        self.title = title
        self.least = least
        self.right = right
        self.drop = drop
        self.keep = keep
        self.style = style


def columns_of() -> int:
    """Columns of the terminal; 0 where standard output is none and COLUMNS is not set."""
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):
        return 0


def coloured() -> bool:
    """Whether standard output is a terminal that takes colours."""
    try:
        terminal = os.isatty(sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], available: int = 0) -> str:
    """Rows of printable cells under their titles, in at most so many terminal columns (0: any).

    If the columns are too wide, cells are cut with a tilde as far as allowed, then whole columns
    are omitted, and then the first one is cut. Where little would be left of that, each row is a
    list of its cells. A column whose cells are all empty is always omitted.
    """
    kept = [
        i for i, c in enumerate(columns) if c.drop == 0 or c.keep or any(row[i] for row in rows)
    ]
    widths = {i: max([width(columns[i].title), *(width(row[i]) for row in rows)]) for i in kept}
    if available:
        while (over := _total(widths) - available) > 0:
            shrinking = [
                i
                for i in kept
                if columns[i].least is not None and widths[i] > (columns[i].least or 0)
            ]
            if shrinking:
                widest = max(shrinking, key=lambda i: widths[i])
                widths[widest] -= 1
                continue
            droppable = [i for i in kept if columns[i].drop]
            if not droppable:
                if widths[kept[0]] - over < min(LEAST, widths[kept[0]]):
                    return _listed(columns, rows, available)
                widths[kept[0]] -= over
                break
            first = max(droppable, key=lambda i: columns[i].drop)
            kept.remove(first)
            del widths[first]
            # Cells that were cut may have enough space again.
            for i in kept:
                if columns[i].least is not None:
                    widths[i] = max([width(columns[i].title), *(width(row[i]) for row in rows)])
    lines = [_line(columns, kept, widths, [c.title for c in columns], plain=True)]
    lines += [_line(columns, kept, widths, row, plain=False) for row in rows]
    return "".join(lines)


def _listed(columns: Sequence[Column], rows: Sequence[Sequence[str]], available: int) -> str:
    """Each row as lines of its own, for a terminal that is too narrow for a table."""
    return "\n".join(
        text_rows(
            [(c.title, cell) for c, cell in zip(columns, row, strict=True) if cell],
            indent="",
            columns=available,
        )
        for row in rows
    )


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _line(
    columns: Sequence[Column],
    kept: Sequence[int],
    widths: dict[int, int],
    cells: Sequence[str],
    *,
    plain: bool,
) -> str:
    out = []
    for i in kept:
        style = columns[i].style
        last = i == kept[-1] and not columns[i].right
        text = fit(cells[i], widths[i], right=columns[i].right)
        text = text.rstrip() if last else text
        out.append(text if plain or style is None else style(text))
    return (" " * GAP).join(out).rstrip() + "\n"
