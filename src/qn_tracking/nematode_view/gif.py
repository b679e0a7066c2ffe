"""Frames as an animated GIF, drawn by Pillow."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from qn_tracking.errors import UnsupportedError, printable
from qn_tracking.nematode_view.frames import BODY, HEAD, SIDE, TARGET, Part, part_of

CAPTION = 16
HOLD = 1_500
"""Milliseconds for which the last frame stays."""
FASTEST = 20
"""Milliseconds: browsers slow down what is faster."""
PAPER, LINES, ORANGE, GREEN, DARK, INK = range(6)
COLOURS = ("ffffff", "e4e8ec", "bf5700", "2da44e", "0a5c36", "59636e")


def gif(frames: Sequence[Mapping[str, Any]], speed: float, caption: str) -> bytes:
    """The animation, over and over. Raises UnsupportedError where Pillow is not installed."""
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise UnsupportedError(
            "a GIF needs Pillow", hint="pip install 'qn-tracking[gif]'; .svg needs nothing"
        ) from None
    part = part_of(frames)
    cell = part.cell
    wide, high = part.wide * cell + 1, part.high * cell + 1
    empty = Image.new("P", (max(wide, SIDE), high + CAPTION), PAPER)
    empty.putpalette(bytes.fromhex("".join(COLOURS)))
    draw = ImageDraw.Draw(empty)
    for x in (*range(0, wide, part.lines * cell), wide - 1):
        draw.line((x, 0, x, high - 1), LINES)
    for y in (*range(0, high, part.lines * cell), high - 1):
        draw.line((0, y, wide - 1, y), LINES)
    words = printable(caption).encode("ascii", "replace").decode()
    draw.text((2, high + 2), words, INK)
    pictures = []
    for frame in frames:
        picture = empty.copy()
        _put(ImageDraw.Draw(picture), frame, part)
        pictures.append(picture)
    pause = max(round(1000 / speed), FASTEST)
    out = io.BytesIO()
    pictures[0].save(
        out,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=[pause] * (len(pictures) - 1) + [max(HOLD, pause)],
        loop=0,
    )
    return out.getvalue()


def _put(draw: Any, frame: Mapping[str, Any], part: Part) -> None:
    """Draws what moves."""

    def spot(at: Sequence[int], radius: float, colour: int) -> None:
        x, y = part.place(at)
        r = part.radius(radius)
        draw.ellipse((x - r, y - r, x + r, y + r), colour)

    for target in frame["targets"]:
        spot(target, TARGET, ORANGE)
    worm = [frame["head"], *frame["body"]]
    draw.line([part.place(at) for at in worm], GREEN, round(2 * part.radius(BODY)))
    for at in worm[1:]:
        spot(at, BODY, GREEN)
    spot(frame["head"], HEAD, DARK)
