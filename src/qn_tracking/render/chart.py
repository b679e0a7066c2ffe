"""A curve drawn with characters."""

from __future__ import annotations

from math import isfinite

from qn_tracking.render.text import means

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCKS = " ▁▂▃▄▅▆▇█"
HEIGHT = 6


def chart(
    values: Sequence[float],
    low: float | None = None,
    high: float | None = None,
    *,
    columns: int = 60,
    unicode: bool = True,
) -> list[str]:
    """Lines of a bar chart with its scale at the left; values that are not finite are empty."""
    finite = [value for value in values if isfinite(value)]
    if not finite or columns < 12:
        return []
    least = min(finite) if low is None else low
    most = max(finite) if high is None else high
    if not most > least:
        least, most = least - 0.5, most + 0.5
    labels = [f"{most:.3g}", f"{least:.3g}"]
    margin = max(map(len, labels))
    inner = max(4, columns - margin - 2)
    wide = max(1, min(3, inner // max(len(values), 1)))
    points = means(values, inner) if len(values) > inner else list(values)
    levels = 8 if unicode else 1
    bars = []
    for value in points:
        place = (value - least) / (most - least) if isfinite(value) else 0.0
        eighths = round(min(1.0, max(0.0, place)) * HEIGHT * levels)
        bars.append(max(eighths, 1) if isfinite(value) else 0)
    lines = []
    for row in range(HEIGHT - 1, -1, -1):
        label = labels[0] if row == HEIGHT - 1 else labels[1] if row == 0 else ""
        cells = []
        for bar in bars:
            filled = min(levels, max(0, bar - row * levels))
            cells.append((_BLOCKS[filled] if unicode else " #"[filled]) * wide)
        edge = "┤" if unicode else "|"
        lines.append(f"{label:>{margin}} {edge}{''.join(cells)}".rstrip())
    return lines
