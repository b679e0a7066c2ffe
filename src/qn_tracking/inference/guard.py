"""Which of two means is higher, of values in a known range: tests that hold their level.

A few runs say little about the rare ones: twenty perfect runs do not exclude that one of seven
fails. So about half a run is added to each side, at the end of the range that speaks against the
difference. These forms are simulated, not proven; docs/statistics.md has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import fsum, log, sqrt
from typing import Any

from attrs import frozen

from qn_tracking.inference.bounded import UNIT, Range, in_range
from qn_tracking.inference.proportion import normal_quantile
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import Array, mean_sd

PAIRED = 0.5
"""The weight of the pair that is added to differences."""
LENIENT, STRICT = 2.7, 0.9
"""How much more often than the level a perfect sample may be by chance; less beside many runs."""


@frozen(kw_only=True)
class Guarded:
    """A two-sided p of a difference of means and its interval; both limits are guarded.

    `delta` is the plain difference, first − second. The interval excludes 0 exactly where p is
    below 1 − confidence.
    """

    delta: float
    p: float
    low: float
    high: float
    confidence: float


@cache
def run_weight(n: int, m: int, family: int = 1, alpha: float = RULES.alpha) -> float:
    """The weight of the run that is added to n runs, to compare them with m: about .55.

    Where each run fails with chance q, n runs are all perfect with chance (1−q)ⁿ, about exp(−nq).
    Welch's test then finds them better than a mean of 1 − q if nq ≥ w + z√w. The weight w makes
    this rarer than about the level, which is alpha/family: the more comparisons, the more weight.
    It may be 2.7 times the level, as the noise of the other side makes it rarer still; 1.8 times if
    that has far more runs.
    """
    level = alpha / family
    z = normal_quantile(1 - level / 2)
    chance = level * (LENIENT - STRICT * (1 - min(n / m, 1.0)))
    return ((sqrt(z * z - 4 * log(chance)) - z) / 2) ** 2


def half_run_welch(
    x: Sequence[float],
    y: Sequence[float],
    *,
    bounds: Range = UNIT,
    family: int = 1,
    rules: Rules = RULES,
) -> Guarded:
    """Welch's test with half a run at the bottom for the better side, at the top for the other.

    `family` is the number of comparisons shown together: it sets the weight of the added run, not
    the level. Raises ValueError for fewer than two values a side, or one that is out of bounds.
    """
    x, y = _within(x, bounds, "x"), _within(y, bounds, "y")

    wx = run_weight(len(x), len(y), family, rules.alpha)
    wy = run_weight(len(y), len(x), family, rules.alpha)

    def guarded(against_x: float, against_y: float) -> tuple[float, float, float]:
        (mx, ex, dx), (my, ey, dy) = _with_run(x, against_x, wx), _with_run(y, against_y, wy)
        error = ex + ey
        share = ex / error if error else 1.0
        return mx - my, sqrt(error), 1 / (share**2 / dx + (1 - share) ** 2 / dy)

    low, high = bounds
    return _result(mean_sd(x)[0] - mean_sd(y)[0], guarded(low, high), guarded(high, low), rules)


def guarded_paired(
    x: Sequence[float], y: Sequence[float], *, bounds: Range = UNIT, rules: Rules = RULES
) -> Guarded:
    """The t-test of differences with half a pair as far apart as it can be, the other way.

    `x` and `y` are of the same seeds, in the same order. Holds its level from 20 pairs on. Raises
    ValueError for fewer than two pairs, unlike lengths, or a value that is out of bounds.
    """
    x, y = _within(x, bounds, "x"), _within(y, bounds, "y")
    d = [a - b for a, b in zip(x, y, strict=True)]
    width = bounds[1] - bounds[0]

    def guarded(against: float) -> tuple[float, float, float]:
        mean, error, df = _with_run(d, against, PAIRED)
        return mean, sqrt(error), df

    return _result(mean_sd(x)[0] - mean_sd(y)[0], guarded(-width), guarded(width), rules)


def half_run_pairs(
    samples: Sequence[Sequence[float]],
    *,
    bounds: Range = UNIT,
    family: int = 1,
    rules: Rules = RULES,
) -> Array:
    """The p of `half_run_welch` of all pairs of k samples, as a k × k matrix; 1 on the diagonal.

    All pairs at once, since a leaderboard has many. A pair with fewer than two values on a side
    has p = 1. Raises ValueError for a value out of bounds.
    """
    import numpy as np
    from scipy import special  # type: ignore[import-untyped]

    low, high = bounds
    runs = np.array([len(values) for values in samples])
    pooled = np.array([value for values in samples for value in values], dtype=float)
    if not runs.all() or not (low <= pooled.min() <= pooled.max() <= high):
        for values in samples:
            in_range(values, bounds)  # which says what is wrong
    starts = np.cumsum(runs) - runs
    mean = np.add.reduceat(pooled, starts) / runs
    squares = np.add.reduceat((pooled - np.repeat(mean, runs)) ** 2, starts)
    sizes, kind = np.unique(runs, return_inverse=True)
    weights = [
        [run_weight(n, m, family, rules.alpha) for m in sizes.tolist()] for n in sizes.tolist()
    ]
    weight = np.array(weights)[kind[:, None], kind]

    def with_run(end: float) -> tuple[Array, Array, Array]:
        """Of each row beside each column: as `_with_run`."""
        size = runs[:, None] + weight
        moved = weight * (end - mean[:, None]) / size
        centre = mean[:, None] + moved
        spread = squares[:, None] + runs[:, None] * moved**2 + weight * (end - centre) ** 2
        return centre, spread / (size * (size - 1)), size - 1

    (above, above_error, above_df), (below, below_error, below_df) = with_run(low), with_run(high)
    difference = above - below.T
    error = above_error + below_error.T
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(error > 0, above_error / error, 1.0)
        degrees = 1 / (share**2 / above_df + (1 - share) ** 2 / below_df.T)
        t = np.where(error > 0, -difference / np.sqrt(error), np.where(difference > 0, -np.inf, 0))
    # A p near 1 decides nothing: it is not worth its time.
    one_sided = np.ones_like(t)
    near = t < 0
    one_sided[near] = special.stdtr(degrees[near], t[near])
    found: Array = np.minimum(1.0, 2 * np.minimum(one_sided, one_sided.T))
    few = runs < 2
    found[few] = found[:, few] = 1.0
    np.fill_diagonal(found, 1.0)
    return found


def _within(values: Sequence[float], bounds: Range, name: str) -> tuple[float, ...]:
    if len(values) < 2:
        raise ValueError("expected at least two values on both sides")
    return in_range(values, bounds, name)


def _with_run(values: Sequence[float], end: float, weight: float) -> tuple[float, float, float]:
    """Mean, squared standard error and degrees of freedom with a part of a run at that end."""
    size = len(values) + weight
    mean = (fsum(values) + weight * end) / size
    squares = fsum([(value - mean) ** 2 for value in values]) + weight * (end - mean) ** 2
    return mean, squares / (size * (size - 1)), size - 1


def _result(
    delta: float,
    for_first: tuple[float, float, float],
    for_second: tuple[float, float, float],
    rules: Rules,
) -> Guarded:
    """From the difference, its error and degrees of freedom under either guard."""
    from scipy import special

    reach = (1 + rules.confidence) / 2
    (d, e, df), (d2, e2, df2) = for_first, for_second
    above = _tail(special, d, e, df)
    below = _tail(special, -d2, e2, df2)
    return Guarded(
        delta=delta,
        p=min(1.0, 2 * min(above, below)),
        low=d - float(special.stdtrit(df, reach)) * e,
        high=d2 + float(special.stdtrit(df2, reach)) * e2,
        confidence=rules.confidence,
    )


def _tail(special: Any, difference: float, error: float, df: float) -> float:
    """How likely so large a t is by chance."""
    return float(special.stdtr(df, -difference / error)) if error else float(difference <= 0)
