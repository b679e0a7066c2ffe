"""What the worm does, step by step, seen from outside of the simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking.errors import UnsupportedError

if TYPE_CHECKING:
    from qn_tracking.nematode.world import DynamicEnvironment, StaticEnvironment

    Built = StaticEnvironment | DynamicEnvironment

Frame = dict[str, Any]
"""`step`, the `action` taken in it, `reward` so far, `termination`; `size` of the grid; `head`,
`body` (next to the head first) and `targets` (the goal, or the foods) as cells [x, y], x to the
right and y up from 0; the `facing`; and `satiety` where there is hunger."""

FACINGS = ("right", "up", "left", "down")
MOST = 3_000_000
"""Cells in the frames of an episode: about 200 MB."""
WHOLE = 60
"""A grid of at most this many cells a side is drawn as a whole."""
SIDE = 480
"""How many pixels wide or high a picture is at least."""
CLEAR = 8
"""Pixels: in smaller cells nothing could be seen."""
TARGET, BODY, HEAD = 0.26, 0.27, 0.36
"""The radius of each, in sides of a cell."""
MARGIN = 4
"""Cells around the part of a larger one."""


def watch(environment: Built) -> list[Frame]:
    """A list that holds the frames of the episode that was begun last, from the next one on.

    This one object is watched. Its class stays what it is, since a run is described by it.
    """
    from qn_tracking.nematode.world import ACTIONS

    frames: list[Frame] = []
    begin, step = environment.begin, environment.step
    cells = 0

    def begun(seed: int) -> tuple[float, float]:
        nonlocal cells
        signal = begin(seed)
        frames[:] = [{"step": 0, "action": None, "reward": 0.0, "termination": None}]
        frames[0] |= _state(environment)
        cells = 0
        return signal

    def stepped(action: int) -> Any:
        nonlocal cells
        found = step(action)
        last, now = frames[-1], _state(environment)
        cells += len(now["body"]) + len(now["targets"]) + 1
        if cells > MOST:
            raise UnsupportedError(f"an episode of more than {last['step']:,} steps is too long")
        about = {
            "step": last["step"] + 1,
            "action": ACTIONS[action],
            "reward": last["reward"] + found[2],
            "termination": found[3],
        }
        frames.append(about | now)
        return found

    vars(environment).update(begin=begun, step=stepped)
    return frames


def _state(environment: Any) -> Frame:
    """Where everything is. Goal and satiety have no public name, and cannot be given one now."""
    worm = environment.worm
    hungry = hasattr(environment, "foods")
    return {
        "size": worm.size,
        "head": [worm.x, worm.y],
        "facing": FACINGS[worm.facing],
        "body": [list(cell) for cell in worm.body],
        "targets": [list(cell) for cell in (environment.foods if hungry else [environment._goal])],
        "satiety": environment._satiety if hungry else None,
    }


@frozen(kw_only=True)
class Part:
    """The part of the grid that a picture shows, in cells: its corner low on the left, its sides.

    >>> Part(left=2, low=3, wide=10, high=5).place([2, 3])
    (24.0, 216.0)
    """

    left: int
    low: int
    wide: int
    high: int

    @property
    def cell(self) -> int:
        """The side of a cell, in pixels."""
        return max(-(-SIDE // max(self.wide, self.high)), 2)

    @property
    def lines(self) -> int:
        """How many cells are between two lines: small ones have only a border."""
        return 1 if self.cell >= CLEAR else max(self.wide, self.high)

    def radius(self, share: float) -> float:
        """That share of a cell, in pixels, but large enough to be seen."""
        return max(share * self.cell, share * CLEAR)

    def place(self, cell: Sequence[int]) -> tuple[float, float]:
        """The middle of a cell in the picture, whose y is down, in pixels."""
        right, up = cell[0] - self.left + 0.5, cell[1] - self.low + 0.5
        return right * self.cell, (self.high - up) * self.cell


def part_of(frames: Sequence[Mapping[str, Any]]) -> Part:
    """The whole grid; of a large one the part that the worm visits."""
    size = frames[0]["size"]
    if size <= WHOLE:
        return Part(left=0, low=0, wide=size, high=size)
    ends = []
    for axis in (0, 1):
        values = [frame["head"][axis] for frame in frames]
        ends.append((max(min(values) - MARGIN, 0), min(max(values) + MARGIN, size - 1)))
    (left, right), (low, top) = ends
    return Part(left=left, low=low, wide=right - left + 1, high=top - low + 1)
