"""Rates of two counts: their intervals, as plain numbers.

Nothing is imported that takes time: two single runs are compared with this alone.
"""

from __future__ import annotations

from functools import cache
from math import hypot, sqrt

CONFIDENCE = 0.95
MIN_RUNS = 5
"""Runs a side, without which no difference is called one."""


@cache
def normal_quantile(p: float) -> float:
    """The z that a standard normal variable stays below with probability p."""
    if p == (1 + CONFIDENCE) / 2:
        return 1.9599639845400536
    from statistics import NormalDist

    return NormalDist().inv_cdf(p)


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The score interval of one proportion (Wilson 1927), within 0 … 1 and around k/n.

    For whole numbers with 0 ≤ successes ≤ trials, trials ≥ 1.
    """
    z = normal_quantile((1 + confidence) / 2)
    k, n = successes, trials
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * sqrt(k * (n - k) / n + z * z / 4)
    return (
        min(centre - half, k / n) if k else 0.0,
        max(centre + half, k / n) if k < n else 1.0,
    )


def newcombe(
    k1: int, n1: int, k2: int, n2: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The interval of k1/n1 − k2/n2 of independent counts, within −1 … 1.

    Newcombe 1998, method 10: the two Wilson intervals, squared and added.
    """
    (low1, high1), (low2, high2) = wilson(k1, n1, confidence), wilson(k2, n2, confidence)
    p1, p2 = k1 / n1, k2 / n2
    return (
        p1 - p2 - hypot(p1 - low1, high2 - p2),
        p1 - p2 + hypot(high1 - p1, p2 - low2),
    )
