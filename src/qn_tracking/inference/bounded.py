"""Intervals over runs of values in a known range, that hold for few runs and near an end.

Runs near 100% hardly differ, and say little about the rare one that fails: an interval from their
spread alone is far too narrow. Both intervals here give weights to the runs and to the ends of
the range, and ask how far random weights would move the figure. Simulated, not proven;
docs/statistics.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import fsum, log

from qn_tracking.inference.interval import Interval, iqm
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import Array, checked

Range = tuple[float, float]
UNIT: Range = (0.0, 1.0)
DRAWS = 20_000
SEED = 20_240_229
CLOSE = 1e-13
FLOOR = -100.0


def in_range(values: Sequence[float], bounds: Range, name: str = "values") -> tuple[float, ...]:
    """The values as floats. Raises ValueError for none, or one that is not within the bounds."""
    low, high = bounds
    if not low < high:
        raise ValueError(f"bounds: expected the lower one first, got {bounds!r}")
    values = checked(values, name)
    if not low <= min(values) <= max(values) <= high:
        raise ValueError(f"{name}: expected {low:g} to {high:g}")
    return values


# ----------------------------------------------------------------------------------------- the mean


def gaffke(values: Sequence[float], *, bounds: Range = UNIT, rules: Rules = RULES) -> Interval:
    """The interval of the mean of values in a range (Gaffke 2005; Learned-Miller, Thomas 2019).

    The lower limit is the .025 quantile of Σ DᵢXᵢ over the n values and one more at the lower
    end, D uniform on the simplex; the upper limit likewise with one at the upper end. Exact, not
    drawn. Of zeros and ones it is Clopper and Pearson's interval. Raises ValueError as `in_range`.
    """
    low, high = bounds
    width = high - low
    unit = sorted((value - low) / width for value in in_range(values, bounds))
    tail = (1 - rules.confidence) / 2
    mirrored = [1 - value for value in reversed(unit)]
    return Interval(
        low=min(low + width * _limit(tuple(unit), tail), high),
        high=max(high - width * _limit(tuple(mirrored), tail), low),
        method="gaffke",
    )


@lru_cache(maxsize=4096)
def _limit(values: tuple[float, ...], tail: float) -> float:
    """The quantile of the weighted mean of ascending values and one more at 0."""
    if values[-1] == 0:
        return 0.0

    def excess(t: float) -> float:
        """On a logarithmic scale, where it is nearly straight."""
        below = weighted_below((0.0, *values), t)
        return max(log(below), FLOOR) - log(tail) if below else FLOOR

    # At the mean of the values it is about one half.
    return _root(excess, 0.0, fsum(values) / len(values))


def weighted_below(values: Sequence[float], t: float) -> float:
    """P(Σ DᵢXᵢ ≤ t) for weights that are uniform on the simplex.

    It is the probability that the exponential waiting times of all values above t, each times its
    distance to t, are over before those of the values below. Which of two ends first does not
    depend on the past, so one value after the other can be taken away: every term is positive.
    """
    above = [value - t for value in values if value > t]
    below = [t - value for value in values if value < t]
    if not above or not below:
        return float(not above)
    row = [1.0] * (len(below) + 1)
    for a in above:
        left = 0.0
        for q, b in enumerate(below, 1):
            left = (b * row[q] + a * left) / (a + b)
            row[q] = left
        row[0] = 0.0
    return row[-1]


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses 0, between two places: the Illinois form of regula falsi."""
    below, above, kept = f(low), f(high), 0
    while high - low > CLOSE * high:
        middle = high - above * (high - low) / (above - below)
        if not low < middle < high:
            middle = (low + high) / 2
        if not low < middle < high:  # no number is between two of the smallest
            break
        value = f(middle)
        if value == 0:
            return middle
        if value < 0:
            low, below = middle, value
            above, kept = (above / 2 if kept < 0 else above), -1
        else:
            high, above = middle, value
            below, kept = (below / 2 if kept > 0 else below), 1
        if abs(value) < CLOSE:
            break
    return low if -below < above else high


# ---------------------------------------------------------------------------------- a robust centre


def iqm_interval(
    values: Sequence[float], *, bounds: Range = UNIT, rules: Rules = RULES
) -> Interval:
    """The interval of the interquartile mean: how good the middle half of runs is.

    Percentiles of the IQM under random weights: 1 for each run, and half a run at each end of
    the range (a Bayesian bootstrap, Rubin 1981, with ends). 20,000 draws from a fixed stream; it
    always holds the IQM itself. Raises ValueError as `in_range`.
    """
    low, high = bounds
    ordered = tuple(sorted(in_range(values, bounds)))
    first, last = _percentiles((low, *ordered, high), rules.trim, (1 - rules.confidence) / 2)
    centre = iqm(values, rules=rules)
    return Interval(
        low=max(low, min(first, centre)),
        high=min(high, max(last, centre)),
        method="dirichlet",
    )


@lru_cache(maxsize=4096)
def _percentiles(ordered: tuple[float, ...], trim: float, tail: float) -> tuple[float, float]:
    import numpy as np

    drawn = _shares(len(ordered) - 2, trim) @ np.array(ordered)
    first, last = np.quantile(drawn, (tail, 1 - tail))
    return float(first), float(last)


@lru_cache(maxsize=16)
def _shares(runs: int, trim: float) -> Array:
    """What each ordered value counts in the trimmed mean, one row a draw of the weights.

    They depend on the number of runs alone. The stream is that of a bit generator, which NumPy
    keeps the same between versions, so that a stored figure can be computed again.
    """
    import numpy as np

    raw = np.random.PCG64(SEED).random_raw(DRAWS * (runs + 4)).reshape(DRAWS, -1)
    uniform = (raw >> np.uint64(11)) * 2.0**-53
    weights = -np.log1p(-uniform[:, : runs + 2])
    # An exponential times the squared cosine of a random angle is a gamma of shape ½.
    weights[:, [0, -1]] *= np.cos(np.pi * uniform[:, runs + 2 :]) ** 2
    reached = np.cumsum(weights, axis=1)
    reached /= reached[:, -1:]
    inside = np.clip(reached, trim, 1 - trim)
    # By column: ten times faster to multiply with.
    found: Array = np.asfortranarray(np.diff(inside, axis=1, prepend=trim) / (1 - 2 * trim))
    found.setflags(write=False)
    return found


# ------------------------------------------------------------------------------------- what n shows
