"""Rates: over which episodes the final one is, and the intervals of one rate and of two.

Nothing that takes time is imported at the start: two single runs are compared with this alone.
"""

from __future__ import annotations

from functools import cache
from math import ceil, hypot, log, sqrt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CONFIDENCE = 0.95
MIN_RUNS = 5
"""Runs a side, without which no difference is called one."""
PLATEAU_EPISODES = 100
"""Episodes of a run, without which nothing is said of where its curve levels off."""


FINAL_LEAST, FINAL_SHARE = 20, 0.2
"""Of the final success rate: how many of the last episodes at least, and which share of all."""


def final_window(episodes: int, least: int = FINAL_LEAST, share: float = FINAL_SHARE) -> int:
    """K = min(N, max(least, ⌈share·N⌉)): the last episodes, over which the final rate is taken.

    Fixed by the number of episodes alone, never chosen after the fact.
    """
    # 0.28·25 is 7, whatever binary fractions make of it.
    return min(episodes, max(least, ceil(share * episodes - 1e-9)))


def final_counts(
    success: Iterable[bool | int | None], least: int = FINAL_LEAST, share: float = FINAL_SHARE
) -> tuple[int, int] | None:
    """Successes, and of how many episodes, at the end of a run; None if no success is known.

    Only episodes that succeed or fail count: K is of their number, and the last K are taken.
    """
    known = [flag for flag in success if flag is not None]
    window = final_window(len(known), least, share)
    return (sum(known[-window:]), window) if known else None


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


def clopper_pearson(
    successes: int, trials: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The exact interval of one proportion (Clopper, Pearson 1934): it never covers too little.

    For whole numbers with 0 ≤ successes ≤ trials, trials ≥ 1.
    """
    from scipy import special  # type: ignore[import-untyped]

    k, n, tail = successes, trials, (1 - confidence) / 2
    return (
        float(special.betaincinv(k, n - k + 1, tail)) if k else 0.0,
        float(special.betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0,
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


def highest_shown(runs: int) -> float:
    """The highest lower limit that so many runs can have, of a mean in 0 … 1 or a share of runs.

    If every run is perfect: the rate at which n in a row are as rare as the tail, tail^(1/n).
    """
    return float(((1 - CONFIDENCE) / 2) ** (1 / runs))


def runs_to_show(level: float) -> int:
    """The fewest runs whose lower limit can reach a level, 0 < level < 1, if every one is perfect.

    Raises ValueError for another level.
    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected one between 0 and 1, got {level!r}")
    return max(1, ceil(log((1 - CONFIDENCE) / 2) / log(level) - 1e-9))
