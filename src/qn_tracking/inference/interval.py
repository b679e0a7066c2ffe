"""Intervals: of a rate, of a mean over runs, of a difference of rates; and the summary.

That of a mean over runs is None where it would say nothing: for one value, or for values
without any variance, since "± 0" is no knowledge. None of this needs NumPy or SciPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import cos, pi, sin, sqrt, tan

from attrs import evolve, frozen

from qn_tracking.inference import proportion
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.run import check_count
from qn_tracking.inference.sample import checked, mean_sd


@frozen(kw_only=True)
class Interval:
    """From low to high, two-sided, at that confidence, and by which method."""

    low: float
    high: float
    confidence: float
    method: str

    def clip(self, low: float, high: float) -> Interval:
        """The part of it that a metric can reach: for display, never for a decision."""
        return evolve(self, low=min(max(self.low, low), high), high=max(min(self.high, high), low))


def _within(angle: float, df: int) -> float:
    """P(|T| < √df·tan(angle)) for a whole df (Abramowitz, Stegun 26.7.3 and 26.7.4)."""
    c = cos(angle) ** 2
    odd = df % 2
    term = cos(angle) if odd else 1.0
    total = term if df > 1 else 0.0
    for k in range(2 + odd, df - 1, 2):
        term *= c * (k - 1) / k
        total += term
    return (angle + sin(angle) * total) * 2 / pi if odd else sin(angle) * total


@cache
def t_quantile(confidence: float, df: int) -> float:
    """The t that |T| stays below with that confidence, 0 < confidence < 1, whole df ≥ 1.

    In closed form, so that a leaderboard needs no SciPy.
    """
    if not 0 < confidence < 1 or df < 1:
        raise ValueError(f"no t quantile for confidence {confidence!r}, df {df!r}")
    low, high = 0.0, pi / 2
    while (middle := (low + high) / 2) not in (low, high):
        if _within(middle, df) < confidence:
            low = middle
        else:
            high = middle
    return sqrt(df) * tan(high)


def wilson(successes: int, trials: int, *, confidence: float = RULES.confidence) -> Interval:
    """The score interval of one proportion (Wilson 1927), within 0 … 1 and around k/n.

    Raises ValueError unless they are whole numbers with 0 ≤ successes ≤ trials, trials ≥ 1.
    """
    check_count(successes, trials)
    low, high = proportion.wilson(successes, trials, confidence)
    return Interval(low=low, high=high, confidence=confidence, method="wilson")


def newcombe(
    k1: int, n1: int, k2: int, n2: int, *, confidence: float = RULES.confidence
) -> Interval:
    """The interval of k1/n1 − k2/n2 of independent counts, within −1 … 1.

    Newcombe 1998, method 10: the two Wilson intervals, squared and added. Raises as `wilson`.
    """
    check_count(k1, n1)
    check_count(k2, n2)
    low, high = proportion.newcombe(k1, n1, k2, n2, confidence)
    return Interval(low=low, high=high, confidence=confidence, method="newcombe")


def t_interval(values: Sequence[float], *, confidence: float = RULES.confidence) -> Interval | None:
    """The mean ± t·s/√n with ddof = 1, not clipped; None for one value or none that differs."""
    values = checked(values)
    mean, sd = mean_sd(values)
    if sd == 0:
        return None
    half = t_quantile(confidence, len(values) - 1) * (sd / sqrt(len(values)))
    return Interval(low=mean - half, high=mean + half, confidence=confidence, method="t")


@frozen(kw_only=True)
class Iqm:
    """The interquartile mean; `is_mean` where too few values leave nothing to trim."""

    value: float
    is_mean: bool


def iqm(values: Sequence[float], *, rules: Rules = RULES) -> Iqm:
    """The mean without the ⌊n/4⌋ lowest and highest (`scipy.stats.trim_mean(x, .25)`)."""
    ordered = sorted(checked(values))
    cut = trimmed(len(ordered), rules)
    kept = ordered[cut : len(ordered) - cut]
    # Rounding may put a mean of near-equal numbers just outside of them.
    return Iqm(value=min(max(mean_sd(kept)[0], kept[0]), kept[-1]), is_mean=cut == 0)


def trimmed(n: int, rules: Rules) -> int:
    """How many of n values the IQM leaves out on each side."""
    return int(rules.trim * n + 1e-9)


@frozen(kw_only=True)
class Summary:
    """A metric over runs; `sd` and `interval` are None where they would say nothing.

    `method` of the interval is "t"; "wilson" for a single run's rate; "pooled" for
    the Wilson interval of all runs' episodes together, where every run had the same rate.
    """

    runs: int
    mean: float
    sd: float | None
    interval: Interval | None
    iqm: float
    iqm_is_mean: bool


def summary(values: Sequence[float], *, trials: int | None = None, rules: Rules = RULES) -> Summary:
    """The headline of a metric, one value a run.

    `trials` is K if each value is a rate over K episodes: with it, one run or runs without
    variance have an interval, too. Raises ValueError for no values, one that is not finite, and
    with `trials` one that is no rate over them.
    """
    values = checked(values)
    n = len(values)
    mean, sd = mean_sd(values)
    if trials is not None:
        check_count(0, trials)
        for value in values:
            if not 0 <= value <= 1 or abs(value * trials - round(value * trials)) > 1e-6:
                raise ValueError(f"values: {value!r} is not a rate over {trials} episodes")
    interval = t_interval(values, confidence=rules.confidence)
    if interval is None and trials is not None:
        successes = n * round(values[0] * trials)
        pooled = wilson(successes, n * trials, confidence=rules.confidence)
        interval = evolve(pooled, method="pooled") if n > 1 else pooled
    middle = iqm(values, rules=rules)
    return Summary(
        runs=n,
        mean=mean,
        sd=sd if n > 1 else None,
        interval=interval,
        iqm=middle.value,
        iqm_is_mean=middle.is_mean,
    )
