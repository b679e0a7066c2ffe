"""The interval of a mean over runs, and the interquartile mean.

The t-interval is None where it would say nothing: for one value, or for values without any
variance, since "± 0" is no knowledge. It needs no NumPy, nor SciPy; the bootstrap of the IQM does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import cos, pi, sin, sqrt, tan

from attrs import evolve, frozen

from qn_tracking.inference import proportion
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import checked, mean_sd


@frozen(kw_only=True)
class Interval:
    """From low to high, two-sided, by the method `t` or `wilson`."""

    low: float
    high: float
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


def t_interval(values: Sequence[float], *, confidence: float = RULES.confidence) -> Interval | None:
    """The mean ± t·s/√n with ddof = 1, not clipped; None for one value or none that differs."""
    values = checked(values)
    mean, sd = mean_sd(values)
    if sd == 0:
        return None
    half = t_quantile(confidence, len(values) - 1) * (sd / sqrt(len(values)))
    return Interval(low=mean - half, high=mean + half, method="t")


def mean_interval(values: Sequence[float], trials: Sequence[int] = ()) -> Interval | None:
    """The t-interval of the mean; None where it would say nothing.

    Of rates, each over so many `trials`, it is then Wilson's of all trials together.
    """
    found = t_interval(values)
    if found is not None or not trials:
        return found
    successes = sum(round(v * n) for v, n in zip(values, trials, strict=True))
    low, high = proportion.wilson(successes, sum(trials))
    return Interval(low=low, high=high, method="wilson")


def iqm(values: Sequence[float], *, rules: Rules = RULES) -> float:
    """The mean without the ⌊n/4⌋ lowest and highest (`scipy.stats.trim_mean(x, .25)`)."""
    ordered = sorted(checked(values))
    cut = trimmed(len(ordered), rules)
    kept = ordered[cut : len(ordered) - cut]
    # Rounding may put a mean of near-equal numbers just outside of them.
    return min(max(mean_sd(kept)[0], kept[0]), kept[-1])


def trimmed(n: int, rules: Rules) -> int:
    """How many of n values the IQM leaves out on each side."""
    return int(rules.trim * n + 1e-9)


@frozen(kw_only=True)
class Bootstrap:
    """A percentile interval by resampling runs; the same seed draws the same.

    `under_covers` where there are too few runs for its confidence to be true.
    """

    statistic: str
    value: float
    low: float
    high: float
    confidence: float
    runs: int
    resamples: int
    seed: int
    under_covers: bool


def bootstrap(values: Sequence[float], *, seed: int = 0, rules: Rules = RULES) -> Bootstrap | None:
    """The percentile bootstrap of the IQM of one value a run; None for one run, or equal values.

    With few runs it is too narrow (of 3 runs, nominal 95% cover 75%): it says so.

    Efron, Tibshirani 1993, ch. 13; IQM: Agarwal et al. 2021.
    """
    import numpy as np

    data = np.array(checked(values))
    n = len(data)
    if data.min() == data.max():
        return None
    drawn = np.random.default_rng(seed).integers(n, size=(rules.resamples, n))
    cut = trimmed(n, rules)
    tail = (1 - rules.confidence) / 2
    kept = np.sort(data[drawn], axis=1)[:, cut : n - cut]
    low, high = np.quantile(kept.mean(axis=1), (tail, 1 - tail))
    return Bootstrap(
        statistic="iqm",
        value=float(np.sort(data)[cut : n - cut].mean()),
        low=float(low),
        high=float(high),
        confidence=rules.confidence,
        runs=n,
        resamples=rules.resamples,
        seed=seed,
        under_covers=n < rules.small_sample,
    )
