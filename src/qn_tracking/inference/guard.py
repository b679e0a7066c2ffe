"""Which of two means is higher, of values in a known range: tests that hold their level.

A few runs say little about the rare ones: twenty perfect runs do not exclude that one of seven
fails. So a run of weight ½ is added to each side, at the end of the range that speaks against the
difference. These forms are simulated, not proven; docs/statistics.md has the figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking.inference.bounded import UNIT, Range, in_range
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import mean_sd

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHT = 0.5
"""Of the added run."""


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


def half_run_welch(
    x: Sequence[float], y: Sequence[float], *, bounds: Range = UNIT, rules: Rules = RULES
) -> Guarded:
    """Welch's test with half a run at the bottom for the better side, at the top for the other.

    Raises ValueError for fewer than two values a side, or one that is out of bounds.
    """
    x, y = _within(x, bounds, "x"), _within(y, bounds, "y")

    def guarded(against_x: float, against_y: float) -> tuple[float, float, float]:
        (mx, ex, dx), (my, ey, dy) = _with_run(x, against_x), _with_run(y, against_y)
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
        mean, error, df = _with_run(d, against)
        return mean, sqrt(error), df

    return _result(mean_sd(x)[0] - mean_sd(y)[0], guarded(-width), guarded(width), rules)


def half_run_pairs(
    samples: Sequence[Sequence[float]], *, bounds: Range = UNIT, rules: Rules = RULES
) -> NDArray[Any]:
    """The p of `half_run_welch` of all pairs of k samples, as a k × k matrix; 1 on the diagonal.

    All pairs at once, since a leaderboard has many. A pair with fewer than two values on a side
    has p = 1. Raises ValueError for a value out of bounds.
    """
    import numpy as np
    from scipy import special  # type: ignore[import-untyped]

    low, high = bounds
    kept = [in_range(values, bounds) for values in samples]
    (above, above_error, df), (below, below_error, _) = (
        np.array([_with_run(values, end) for values in kept]).T for end in (low, high)
    )
    difference = above[:, None] - below
    error = above_error[:, None] + below_error
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(error > 0, above_error[:, None] / error, 1.0)
        degrees = 1 / (share**2 / df[:, None] + (1 - share) ** 2 / df)
        t = np.where(error > 0, -difference / np.sqrt(error), np.where(difference > 0, -np.inf, 0))
    one_sided = special.stdtr(degrees, t)
    found: NDArray[Any] = np.minimum(1.0, 2 * np.minimum(one_sided, one_sided.T))
    few = np.array([len(values) < 2 for values in kept])
    found[few] = found[:, few] = 1.0
    np.fill_diagonal(found, 1.0)
    return found


def _within(values: Sequence[float], bounds: Range, name: str) -> tuple[float, ...]:
    if len(values) < 2:
        raise ValueError("expected at least two values on both sides")
    return in_range(values, bounds, name)


def _with_run(values: Sequence[float], end: float) -> tuple[float, float, float]:
    """Mean, squared standard error and degrees of freedom with half a run at that end."""
    size = len(values) + WEIGHT
    mean = (fsum(values) + WEIGHT * end) / size
    squares = fsum([(value - mean) ** 2 for value in values]) + WEIGHT * (end - mean) ** 2
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
