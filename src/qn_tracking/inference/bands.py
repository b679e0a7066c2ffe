"""What pictures of runs show: a centre with its interval, a profile, how often one beats another.

Every interval is over runs. It is None where the runs say nothing of it: one run, or runs that do
not differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt

from attrs import frozen

from qn_tracking.inference.interval import t_quantile, trimmed
from qn_tracking.inference.proportion import normal_quantile, wilson
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import LARGEST, checked

STATISTICS = {"mean": "mean", "iqm": "interquartile mean"}


@frozen(kw_only=True)
class Estimate:
    """A centre over `n` values, with its interval where there is one."""

    centre: float
    low: float | None
    high: float | None
    n: int


def estimate(values: Sequence[float], statistic: str = "mean", *, rules: Rules = RULES) -> Estimate:
    """The mean with its t-interval, or the interquartile mean with Yuen's (1974).

    Yuen's is Student's over the runs that are kept, with the spread of all, the ones cut off drawn
    to the nearest that is kept. Raises ValueError for no values, or not finite ones.
    """
    if not values or not all(abs(value) <= LARGEST for value in values):
        raise ValueError("expected finite numbers, and one at least")
    ordered = sorted(values)
    n = len(ordered)
    cut = trimmed(n, rules) if statistic == "iqm" else 0
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
    half = t_quantile(rules.confidence, len(kept) - 1) * error
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


def improvement_interval(share: float, n: int, m: int) -> tuple[float, float]:
    """The interval of a probability of improvement U/(n·m): Newcombe 2006, method 5.

    The two values whose own standard error puts them just that far from what was seen, by the
    variance of Hanley and McNeil. It also holds where one side wins every time.
    """
    z, pairs, extra = normal_quantile((1 + RULES.confidence) / 2), n * m, (n + m) / 2 - 1

    def excess(true: float) -> float:
        spread = (1 - true) / (2 - true) + true / (1 + true)
        return abs(share - true) - z * sqrt(true * (1 - true) * (1 + extra * spread) / pairs)

    def edge(inside: float, outside: float) -> float:
        for _ in range(60):
            middle = (inside + outside) / 2
            if excess(middle) < 0:
                inside = middle
            else:
                outside = middle
        return outside

    # Just inside of what was seen, since at 0 and at 1 the standard error is 0.
    near = min(max(share, 1e-9), 1 - 1e-9)
    return min(edge(near, 0.0), share), max(edge(near, 1.0), share)
