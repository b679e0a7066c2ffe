"""What pictures of runs show: a centre with its interval, a profile.

Every interval is over runs. It is None where the runs say nothing of it: one run, or runs that do
not differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt

from attrs import frozen

from qn_tracking.inference.interval import t_quantile, trimmed
from qn_tracking.inference.proportion import wilson
from qn_tracking.inference.rules import RULES
from qn_tracking.inference.sample import LARGEST, checked

STATISTICS = {"mean": "mean", "iqm": "interquartile mean"}


@frozen(kw_only=True)
class Estimate:
    """A centre over `n` values, with its interval where there is one."""

    centre: float
    low: float | None
    high: float | None
    n: int


def estimate(values: Sequence[float], statistic: str = "mean") -> Estimate:
    """The mean with its t-interval, or the interquartile mean with Yuen's (1974).

    Yuen's is Student's over the runs that are kept, with the spread of all, the ones cut off drawn
    to the nearest that is kept. Raises ValueError for no values, or not finite ones.
    """
    if not values or not all(abs(value) <= LARGEST for value in values):
        raise ValueError("expected finite numbers, and one at least")
    ordered = sorted(values)
    n = len(ordered)
    cut = trimmed(n, RULES) if statistic == "iqm" else 0
    largest = max(-ordered[0], ordered[-1]) or 1.0  # so that no square overflows
    scaled = [value / largest for value in ordered]
    kept = scaled[cut : n - cut]
    centre = min(max(fsum(kept) / len(kept), kept[0]), kept[-1])
    drawn = [kept[0]] * cut + kept + [kept[-1]] * cut
    middle = fsum(drawn) / n
    squares = fsum((value - middle) ** 2 for value in drawn)
    if len(kept) < 2 or kept[0] == kept[-1]:
        return Estimate(centre=centre * largest, low=None, high=None, n=n)
    error = sqrt(squares / (len(kept) * (len(kept) - 1)))
    half = t_quantile(RULES.confidence, len(kept) - 1) * error
    low, high = (centre - half) * largest, (centre + half) * largest
    return Estimate(centre=centre * largest, low=low, high=high, n=n)


@frozen(kw_only=True)
class Share:
    """The share of runs above a threshold, with Wilson's interval."""

    threshold: float
    share: float
    low: float
    high: float


def profile(values: Sequence[float], thresholds: Sequence[float]) -> list[Share]:
    """A performance profile: which share of the runs is above each threshold (Agarwal et al. 2021).

    Raises ValueError for no values, or not finite ones.
    """
    values = checked(values)
    out = []
    for threshold in thresholds:
        above = sum(value > threshold for value in values)
        low, high = wilson(above, len(values))
        out.append(Share(threshold=threshold, share=above / len(values), low=low, high=high))
    return out
