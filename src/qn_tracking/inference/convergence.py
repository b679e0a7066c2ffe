"""Where the curve of a run levels off, or whether it still climbs at the end."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from typing import Literal

from attrs import frozen

from qn_tracking.inference.bounded import Range
from qn_tracking.inference.interval import t_quantile
from qn_tracking.inference.rules import RULES
from qn_tracking.inference.sample import Array, checked

State = Literal[
    "reached", "still climbing", "falling", "never reached", "inconclusive", "not assessed"
]
BLOCKS, TAIL_BLOCKS = 40, 10
"""Of the whole curve, to find the onset; of its tail, which may be correlated within a block."""
RISE = 12.0
"""The F of a rise against no rise, from which on it is seen; the best of many bends is taken."""
EXTENDED = 4
"""At most this many times its length is a run asked for."""


@frozen(kw_only=True)
class Convergence:
    """What the curve of one run says; counts are of episodes, changes per quarter of the run.

    reached: the tail is level: the 90% interval of its change, `inner_low` to `inner_high`, is
    inside ±`margin`. `onset` is where the rise ended, 0 if none is seen; `level` the mean since.
    never reached: level as well, but below the target.
    still climbing, falling: not so, and the 95% interval `low` to `high` excludes 0. `extend_to` is
    about how many episodes a climbing run needs.
    inconclusive: none of these could be shown. not assessed: too few episodes.
    """

    state: State
    episodes: int
    onset: int | None = None
    level: float | None = None
    extend_to: int | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    inner_low: float | None = None
    inner_high: float | None = None
    margin: float | None = None


def convergence(
    curve: Sequence[float],
    *,
    bounds: Range | None = (0.0, 1.0),
    target: float | None = None,
) -> Convergence:
    """Of one run of which more is better: a value an episode, success or reward.

    A rise and a plateau after it are fitted by least squares (Hinkley 1971). The tail is what
    comes after the rise, at least the last half; a line through the means of ten blocks of it
    gives the change (batch means: Schmeiser 1982). Without `bounds` the margin is a tenth of
    the curve's rise, or a fifth of an episode's standard deviation. Raises ValueError for no
    episodes, or one that is no finite number.
    """
    import numpy as np

    values = np.array(checked(curve), dtype=float)
    episodes = len(values)
    if episodes < RULES.plateau_episodes:
        return Convergence(state="not assessed", episodes=episodes)
    bend = _end_of_rise(values)
    start = min(bend, episodes // 2)
    change, error = _change(values[start:], episodes / 4)
    half = t_quantile(RULES.confidence, TAIL_BLOCKS - 2) * error
    inner = t_quantile(RULES.plateau_confidence, TAIL_BLOCKS - 2) * error
    margin = RULES.plateau_margin * (bounds[1] - bounds[0]) if bounds else _margin(values)
    state: State = "inconclusive"
    onset = level = extend_to = None
    if change == error == 0 or (-margin < change - inner and change + inner < margin):
        onset, level = start if bend else 0, float(values[start:].mean())
        state = "reached" if target is None or level >= target else "never reached"
    elif change - half > 0:
        state = "still climbing"
        extend_to = _extend(values, change, bounds)
    elif change + half < 0:
        state = "falling"
    return Convergence(
        state=state,
        episodes=episodes,
        onset=onset,
        level=level,
        extend_to=extend_to,
        change=change,
        low=change - half,
        high=change + half,
        inner_low=change - inner,
        inner_high=change + inner,
        margin=margin,
    )


def _blocks(values: Array, count: int) -> Array:
    """The means of so many stretches of the curve, of lengths that differ by one at most."""
    import numpy as np

    edges = np.linspace(0, len(values), count + 1).astype(int)
    return np.add.reduceat(values, edges[:-1]) / np.diff(edges)


def _end_of_rise(values: Array) -> int:
    """The episode in which the best fitting rise ends, 0 if there is none to see."""
    import numpy as np

    y = _blocks(values, BLOCKS)
    places = np.arange(BLOCKS)
    first, last = np.triu_indices(BLOCKS, 1)
    shape = (places - first[:, None] + 1) / (last - first + 1)[:, None]
    shape = np.clip(shape, 0, 1)
    shape -= shape.mean(axis=1, keepdims=True)
    centred = y - y.mean()
    slope = shape @ centred
    gained = np.where(slope > 0, slope, 0) ** 2 / (shape * shape).sum(axis=1)
    best = int(np.argmax(gained))
    left = float(centred @ centred - gained[best])
    if gained[best] * (BLOCKS - 4) <= RISE * left or gained[best] == 0:
        return 0
    return int(last[best] * len(values) / BLOCKS)


def _change(tail: Array, stretch: float) -> tuple[float, float]:
    """What a straight line through the tail gains in so many episodes, and its standard error."""
    import numpy as np

    y = _blocks(tail, TAIL_BLOCKS)
    x = np.arange(TAIL_BLOCKS) - (TAIL_BLOCKS - 1) / 2
    centred = y - y.mean()
    slope = float(x @ centred / (x @ x))
    rest = centred - slope * x
    error = float(np.sqrt(rest @ rest / (TAIL_BLOCKS - 2) / (x @ x)))
    per_block = stretch / (len(tail) / TAIL_BLOCKS)
    return slope * per_block, error * per_block


def _margin(values: Array) -> float:
    """A share of the curve's rise, or a fifth of an episode's standard deviation."""
    import numpy as np

    fifths = _blocks(values, 5)
    noise = float(np.sqrt(np.mean(np.diff(values) ** 2) / 2))
    return max(RULES.plateau_margin * float(np.ptp(fifths)), 0.2 * noise)


def _extend(values: Array, change: float, bounds: Range | None) -> int:
    """Episodes until a rise at this rate is at the top, and a fifth more; two digits."""
    episodes = len(values)
    wanted = 2.0 * episodes
    if bounds:
        left = bounds[1] - float(values[-episodes // 4 :].mean())
        wanted = 1.25 * episodes * (1 + left / change / 4)
    wanted = min(max(wanted, 1.25 * episodes), EXTENDED * episodes)
    unit = 10.0 ** (int(log10(wanted)) - 1)
    return int(ceil(wanted / unit - 1e-9) * unit)
