"""New seeds against a submission: is it a typical result, or the best of many tries?

Under guarded inference a permutation test decides. Honest runs, submitted and fresh, can be
exchanged, so its level holds for brains of every kind: over all submissions, unconditionally.
Given one submission that was lucky, the rate is higher.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt

from attrs import frozen

from qn_tracking.inference.interval import t_quantile
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.run import Rate, net_sd
from qn_tracking.inference.sample import Array, mean_sd

LONGEST = 200_000_000
"""Steps of the exact recursion."""
DRAWN = 9_999
SIMULATED, ARRANGED = 2_000, 999


@frozen(kw_only=True)
class Replication:
    """The mean of fresh runs against the bound that the submission sets.

    `sd` is that of the runs, or the one that chance alone makes where it is larger. Under guarded
    inference it is None, and `p` is that of the permutation test.
    """

    accepted: bool
    mean: float
    fresh_mean: float
    bound: float
    sd: float | None
    runs: int
    fresh: int
    p: float | None = None


def replicate(
    submitted: Sequence[Rate], fresh: Sequence[Rate], *, rules: Rules = RULES
) -> Replication:
    """Accepted unless the fresh runs are worse, one-sided: a better mean is no fraud.

    Student: the fresh mean is below x̄ − t(.95, n−1)·s·√(1/n + 1/m). s² is at least p̃(1−p̃)/K,
    p̃ = (k+1)/(nK+2) over the pooled final episodes: runs that happen to agree are no promise that
    fresh ones will. Guarded: at most 5% of the ways to call m of all runs fresh have as low a mean;
    the bound is the lowest mean that more of them reach.

    Raises ValueError for fewer than two submitted runs, too few fresh ones (one; guarded, as many
    as were submitted), or rates over unlike numbers of episodes.
    """
    window = _window([*submitted, *fresh])
    n, m = len(submitted), len(fresh)
    _check_sizes(n, m, rules)
    if rules.inference == "guarded":
        p, lowest = exchangeable(
            [r.successes for r in submitted],
            [r.successes for r in fresh],
            1 - rules.replication_confidence,
        )
        return Replication(
            accepted=sum(r.successes for r in fresh) >= lowest,
            mean=mean_sd([r.value for r in submitted])[0],
            fresh_mean=mean_sd([r.value for r in fresh])[0],
            bound=lowest / (m * window),
            sd=None,
            runs=n,
            fresh=m,
            p=p,
        )
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


def _check_sizes(n: int, m: int, rules: Rules) -> None:
    guarded = rules.inference == "guarded"
    if n < 2 or m < (n if guarded else 1):
        least = "as many fresh ones" if guarded else "a fresh one"
        raise ValueError(f"expected at least two submitted runs and {least}")


def exchangeable(submitted: Sequence[int], fresh: Sequence[int], level: float) -> tuple[float, int]:
    """How likely m of all counts, drawn without replacement, sum to no more than the fresh ones.

    One-sided; and the lowest sum for which that is more likely than the level. Exact by a recursion
    over the sums (Pagano, Tritchler 1983). Where that would take too long, for hundreds of runs, of
    9,999 drawings from a fixed seed.
    """
    import numpy as np

    m, least = len(fresh), min(*submitted, *fresh)
    # What all have is in every sum of m: without it the sums are short, above all near 1.
    counts = [count - least for count in (*submitted, *fresh)]
    observed = sum(fresh) - m * least
    total, most = len(counts), max(observed, sum(counts) * m // len(counts) + 1)
    if total * m * (most + 1) > LONGEST:
        rng, pool = np.random.default_rng(0), np.array(counts)
        sums = np.array([observed, *(rng.permutation(pool)[:m].sum() for _ in range(DRAWN))])
        below = np.bincount(sums, minlength=most + 1).cumsum() / len(sums)
    else:
        # One row for each number of runs that are drawn, one column for each sum.
        chance = np.zeros((m + 1, most + 1))
        chance[0, 0] = 1.0
        for i, count in enumerate(counts):
            # Of the i before, at least m less those that are left have been drawn, and at most i.
            drawn = np.arange(max(0, m - total + i), min(i, m) + 1)
            take = ((m - drawn) / (total - i))[:, None]
            rows = chance[drawn[0] : drawn[-1] + 1]
            taken = rows * take
            rows *= 1 - take
            if count <= most:
                into = chance[drawn[0] + 1 : drawn[-1] + 2, count:]
                into += taken[: len(into), : most + 1 - count]
        below = chance[m].cumsum()
    # Rounding must not decide where the level is met exactly, as of 1 in 20 arrangements.
    lowest = int(np.searchsorted(below, level * (1 + 1e-9), side="right"))
    return min(1.0, float(below[observed])), lowest + m * least


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

    Under guarded inference about: of 2,000 drawn submissions, over 999 of all arrangements. Runs
    are drawn as this submission looks: a Beta-distributed rate with its pooled mean
    (k+1)/(nK+2) and its spread net of binomial noise, then K episodes. Raises as `replicate`.
    """
    return _power(tuple(submitted), fresh, rules)


# A verification is checked by itself and beside the others, and the simulation is what takes long.
@lru_cache(maxsize=256)
def _power(submitted: tuple[Rate, ...], fresh: int, rules: Rules) -> ReplicationPower:
    import numpy as np

    window, n = _window(submitted), len(submitted)
    _check_sizes(n, fresh, rules)
    centre = (sum(r.successes for r in submitted) + 1) / (n * window + 2)
    variance = min((net_sd(submitted) or 0.0) ** 2, 0.9 * centre * (1 - centre))
    rng = np.random.default_rng(0)

    guarded = rules.inference == "guarded"
    simulations = min(rules.simulations, SIMULATED) if guarded else rules.simulations

    def draw(runs: int) -> Array:
        shape = (simulations, runs)
        if variance < 1e-9:
            return rng.binomial(window, centre, shape)
        size = centre * (1 - centre) / variance - 1
        return rng.binomial(window, rng.beta(centre * size, (1 - centre) * size, shape))

    repeated = draw(fresh)
    again = repeated.mean(axis=1) / window
    tries = draw(5 * n)
    if guarded:
        chosen = np.zeros((n + fresh, ARRANGED))
        chosen[n:] = 1.0
        rng.permuted(chosen, axis=0, out=chosen)

    def rejected(runs: int) -> float:
        shown = np.sort(tries[:, :runs], axis=1)[:, runs - n :]
        if guarded:
            sums = np.concatenate((shown, repeated), axis=1) @ chosen
            lower = (sums <= repeated.sum(axis=1, keepdims=True)).sum(axis=1)
            limit = 1 - rules.replication_confidence
            return float(np.mean((1 + lower) / (1 + ARRANGED) <= limit))
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
