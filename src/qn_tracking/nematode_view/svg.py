"""Frames as an animated SVG, without a script: the browser moves it by the numbers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from qn_tracking.errors import printable
from qn_tracking.nematode_view.frames import BODY, HEAD, TARGET, Part, part_of

HOLD = 1.5
"""Seconds for which the last frame stays before it begins again."""
CAPTION = 24
"""Pixels below the grid, for a line of text."""
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #59636e }
.paper { fill: #ffffff } .lines { stroke: #e4e8ec; stroke-width: 1; fill: none }
.target { fill: #bf5700 } .head { fill: #0a5c36 }
.body, .trail { fill: none; stroke-linecap: round; stroke-linejoin: round }
.body, .trail { stroke: #2da44e } .trail { stroke-width: 2; opacity: .6 }
.still { display: none }
@media (prefers-color-scheme: dark) {
  text { fill: #9da7b3 } .paper { fill: #0d1117 } .lines { stroke: #21262d }
  .target { fill: #f0883e } .head { fill: #7ee787 }
}
@media (prefers-reduced-motion: reduce) { .moving { display: none } .still { display: inline } }
"""


def svg(frames: Sequence[Mapping[str, Any]], speed: float, caption: str) -> str:
    """The animation, over and over; a reader who wants no motion sees the path instead.

    Its colours follow the light or dark setting of the reader.
    """
    part = part_of(frames)
    held = [*frames, *[frames[-1]] * max(round(HOLD * speed), 1)]
    timing = f'dur="{_number((len(held) - 1) / speed)}s" repeatCount="indefinite"'
    wide, high = part.wide * part.cell, part.high * part.cell
    worms = [" ".join(_point(part, cell) for cell in (f["head"], *f["body"])) for f in held]
    heads = [_point(part, frame["head"]).split(",") for frame in held]
    head = f'<circle class="head" r="{_number(part.radius(HEAD))}" cx="{{}}" cy="{{}}">'
    body = f'<polyline class="body" stroke-width="{_number(2 * part.radius(BODY))}" points='
    moving = [
        f'{body}"{worms[0]}">',
        _animate("points", worms, timing) + "</polyline>",
        head.format(*heads[0]) + _animate("cx", [x for x, _ in heads], timing),
        _animate("cy", [y for _, y in heads], timing) + "</circle>",
    ]
    trail = " ".join(_point(part, frame["head"]) for frame in frames)
    still = [
        *(_target(part, cell) + "</circle>" for cell in frames[0]["targets"]),
        f'<polyline class="trail" points="{trail}"/>',
        f'{body}"{worms[-1]}"/>',
        head.format(*heads[-1]) + "</circle>",
    ]
    words = escape(printable(caption))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high + CAPTION}"'
            f' width="{wide}" role="img" aria-label="{words}">',
            f"<title>{words}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{wide}" height="{high + CAPTION}"/>',
            f'<path class="lines" d="{_lines(part)}"/>',
            '<g class="moving">',
            *_targets(part, held, timing),
            *moving,
            '</g>\n<g class="still">',
            *still,
            "</g>",
            f'<text x="4" y="{high + 16}">{words}</text>',
            "</svg>\n",
        ]
    )


def _targets(part: Part, frames: Sequence[Mapping[str, Any]], timing: str) -> list[str]:
    """Every target, seen as long as it is there."""
    present: dict[tuple[int, int], list[int]] = {}
    for number, frame in enumerate(frames):
        for x, y in frame["targets"]:
            present.setdefault((x, y), []).append(number)
    out = []
    for cell, numbers in present.items():
        there = set(numbers)
        changes = [n for n in range(len(frames)) if n == 0 or (n in there) != (n - 1 in there)]
        times = ";".join(_number(n / (len(frames) - 1), 6) for n in changes)
        values = ["1" if n in there else "0" for n in changes]
        animation = ""
        if len(changes) > 1:
            how = f'calcMode="discrete" keyTimes="{times}" {timing}'
            animation = _animate("opacity", values, how)
        out.append(f"{_target(part, cell)}{animation}</circle>")
    return out


def _target(part: Part, cell: Sequence[int]) -> str:
    x, y = _point(part, cell).split(",")
    return f'<circle class="target" r="{_number(part.radius(TARGET))}" cx="{x}" cy="{y}">'


def _animate(attribute: str, values: Sequence[str], timing: str) -> str:
    return f'<animate attributeName="{attribute}" values="{";".join(values)}" {timing}/>'


def _point(part: Part, cell: Sequence[int]) -> str:
    return ",".join(map(_number, part.place(cell)))


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") if value else "0"


def _lines(part: Part) -> str:
    wide, high = part.wide * part.cell, part.high * part.cell
    step = part.lines * part.cell
    across = "".join(f"M{x} 0v{high}" for x in (*range(0, wide, step), wide))
    return across + "".join(f"M0 {y}h{wide}" for y in (*range(0, high, step), high))
