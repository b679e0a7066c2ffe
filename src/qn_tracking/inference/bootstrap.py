"""The percentile bootstrap over runs of the IQM.

With few runs it is too narrow (of 3 runs, nominal 95% cover 75%): it says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from qn_tracking.inference.interval import trimmed
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import checked


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
    """Of the IQM of one value a run; None for one run, or values all equal.

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
