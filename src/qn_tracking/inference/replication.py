"""New seeds against a submission: is it a typical result, or the best of many tries?"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking.inference.interval import t_quantile
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.run import Rate, net_sd
from qn_tracking.inference.sample import mean_sd

if TYPE_CHECKING:
    from numpy.typing import NDArray


@frozen(kw_only=True)
class Replication:
    """The mean of fresh runs against the bound that the submission sets.

    `sd` is that of the runs, or the one that chance alone makes where it is larger.
    """

    accepted: bool
    mean: float
    fresh_mean: float
    bound: float
    sd: float
    runs: int
    fresh: int


def replicate(
    submitted: Sequence[Rate], fresh: Sequence[Rate], *, rules: Rules = RULES
) -> Replication:
    """Accepted unless the fresh mean is below x̄ − t(.95, n−1)·s·√(1/n + 1/m), one-sided.

    A better mean is no fraud. s² is at least p̃(1−p̃)/K, p̃ = (k+1)/(nK+2) over the pooled final
    episodes: runs that happen to agree are no promise that fresh ones will. Raises ValueError
    for fewer than two submitted runs, no fresh one, or rates over unlike numbers of episodes.
    """
    window = _window([*submitted, *fresh])
    n, m = len(submitted), len(fresh)
    if n < 2 or m < 1:
        raise ValueError("expected at least two submitted runs and a fresh one")
    mean, sd = mean_sd([r.value for r in submitted])
    fresh_mean, _ = mean_sd([r.value for r in fresh])
    used = max(sd, _least_sd(sum(r.successes for r in submitted), n, window))
    bound = mean - _reach(n, m, rules) * used
    return Replication(
        accepted=fresh_mean >= bound,
        mean=mean,
        fresh_mean=fresh_mean,
        bound=bound,
        sd=used,
        runs=n,
        fresh=m,
    )


def _window(rates: Sequence[Rate]) -> int:
    windows = {r.episodes for r in rates}
    if len(windows) != 1:
        raise ValueError("expected rates over one number of episodes")
    return windows.pop()


def _reach(n: int, m: int, rules: Rules) -> float:
    # One-sided 95% is two-sided 90%.
    return t_quantile(2 * rules.replication_confidence - 1, n - 1) * sqrt(1 / n + 1 / m)


def _least_sd(successes: int, n: int, window: int) -> float:
    p = (successes + 1) / (n * window + 2)
    return sqrt(p * (1 - p) / window)


@frozen(kw_only=True)
class ReplicationPower:
    """How often the rule rejects, by simulation: an honest submission, and the best n of more."""

    false_alarm: float
    best_of_2n: float
    best_of_5n: float


def replication_power(
    submitted: Sequence[Rate], fresh: int, *, rules: Rules = RULES
) -> ReplicationPower:
    """The false-alarm rate and the power of `replicate` with so many fresh runs.

    Runs are drawn as this submission looks: a Beta-distributed rate with its pooled mean
    (k+1)/(nK+2) and its spread net of binomial noise, then K episodes. Raises as `replicate`.
    """
    import numpy as np

    window, n = _window(submitted), len(submitted)
    if n < 2 or fresh < 1:
        raise ValueError("expected at least two submitted runs and a fresh one")
    centre = (sum(r.successes for r in submitted) + 1) / (n * window + 2)
    variance = min((net_sd(submitted) or 0.0) ** 2, 0.9 * centre * (1 - centre))
    rng = np.random.default_rng(0)

    def draw(runs: int) -> NDArray[Any]:
        shape = (rules.simulations, runs)
        if variance < 1e-9:
            return rng.binomial(window, centre, shape)
        size = centre * (1 - centre) / variance - 1
        return rng.binomial(window, rng.beta(centre * size, (1 - centre) * size, shape))

    again = draw(fresh).mean(axis=1) / window
    tries = draw(5 * n)

    def rejected(runs: int) -> float:
        shown = np.sort(tries[:, :runs], axis=1)[:, runs - n :]
        successes = shown.sum(axis=1)
        p = (successes + 1) / (n * window + 2)
        variances = np.maximum((shown / window).var(axis=1, ddof=1), p * (1 - p) / window)
        bound = successes / (n * window) - _reach(n, fresh, rules) * np.sqrt(variances)
        return float(np.mean(again < bound))

    return ReplicationPower(
        false_alarm=rejected(n),
        best_of_2n=rejected(2 * n),
        best_of_5n=rejected(5 * n),
    )
