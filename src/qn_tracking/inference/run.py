"""What one run says, and the figures across runs that are not an interval or a test.

`success` is the outcome of each episode in order, true or false; a run without any, or with
another value, is a ValueError everywhere. What does not apply is None, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import fsum, sqrt

from attrs import frozen

from qn_tracking.inference.proportion import final_counts
from qn_tracking.inference.rules import RULES, Rules, share_of
from qn_tracking.inference.sample import checked, checked_flags, mean_sd


@frozen(kw_only=True)
class Rate:
    """A share of episodes that succeeded; `value` is successes/episodes."""

    successes: int
    episodes: int
    value: float


def rate(successes: int, episodes: int) -> Rate:
    """The rate of a count. ValueError unless 0 ≤ successes ≤ episodes and episodes ≥ 1."""
    check_count(successes, episodes)
    return Rate(successes=successes, episodes=episodes, value=successes / episodes)


def check_count(successes: int, trials: int) -> None:
    """ValueError unless they are whole numbers with 0 ≤ successes ≤ trials and trials ≥ 1."""
    for number in (successes, trials):
        if not isinstance(number, int):
            raise ValueError(f"expected whole numbers, got {number!r}")
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} are not a count")


def final_success(success: Sequence[bool | None], *, rules: Rules = RULES) -> Rate:
    """The success rate over the last K episodes: what a brain can do once trained.

    Episodes of which it is not known whether they succeeded do not count; without any other, the
    rate is 0. Raises ValueError for no episodes, and for what is no outcome.
    """
    known = checked_flags([flag for flag in success if flag is not None] or [False] * len(success))
    counts = final_counts(known, rules.final_least, rules.final_share)
    return rate(*counts) if counts else rate(0, len(success))


def sample_efficiency(success: Sequence[bool]) -> float:
    """The success rate over all episodes: high for who learns early; never censored."""
    flags = checked_flags(success)
    return sum(flags) / len(flags)


def distance_efficiency(
    success: Sequence[bool], efficiency: Sequence[float | None]
) -> float | None:
    """The mean over all episodes of an environment's own efficiency, 0 where the episode failed.

    `efficiency` is one number an episode in 0 … 1, or None where the episode failed; None if one
    that succeeded lacks it. Raises ValueError for lengths that differ, or a number out of range.
    """
    flags = checked_flags(success)
    kept = [e for flag, e in zip(flags, efficiency, strict=True) if flag]
    known = [e for e in kept if e is not None]
    if len(known) < len(kept):
        return None
    if known and not all(0 <= e <= 1 for e in checked(known, "efficiency")):
        raise ValueError("efficiency: expected 0 to 1")
    return fsum(known) / len(flags)


@frozen(kw_only=True)
class TimeTo:
    """When a run reached the threshold: after `episodes`, or, not `reached`, not within them.

    `horizon` is N; a run that did not reach it is right-censored there: episodes = horizon.
    """

    episodes: int
    horizon: int
    reached: bool


def time_to_threshold(success: Sequence[bool], *, rules: Rules = RULES) -> TimeTo | None:
    """The first t after which the brain had learned, and kept, the threshold; w is the window.

    The first t ≤ N − w with mean(y[t−w:t]) ≥ threshold and mean(y[t−w:N]) ≥ threshold; otherwise
    right-censored at N; None if N < 2w.
    """
    flags = checked_flags(success)
    n, window = len(flags), rules.threshold_window
    if n < 2 * window:
        return None
    sums = [0, *accumulate(flags)]

    def holds(first: int, last: int) -> bool:
        return sums[last] - sums[first] >= rules.threshold * (last - first) - 1e-9

    for t in range(window, n - window + 1):
        if holds(t - window, t) and holds(t - window, n):
            return TimeTo(episodes=t, horizon=n, reached=True)
    return TimeTo(episodes=n, horizon=n, reached=False)


@frozen(kw_only=True)
class RestrictedMean:
    """Across runs: the mean of min(t, N), and the share that reached the threshold."""

    mean: float
    fraction: float


def restricted_mean(times: Sequence[TimeTo | None]) -> RestrictedMean | None:
    """The restricted mean survival time up to N, and the fraction reached; None if it is absent.

    Averaging only the runs that reached it would hide the failures. Raises ValueError for no
    runs, or runs of different lengths: their means would not be of one thing.
    """
    known = [time for time in times if time is not None]
    if times and not known:
        return None
    if len(known) < len(times) or len({time.horizon for time in known}) != 1:
        raise ValueError("expected runs of one length")
    return RestrictedMean(
        mean=sum(time.episodes for time in known) / len(known),
        fraction=sum(time.reached for time in known) / len(known),
    )


def net_sd(rates: Sequence[Rate]) -> float | None:
    """The spread between runs without what chance alone makes of K episodes each.

    √max(0, s² − mean(p(1−p)/(K−1))): p(1−p)/(K−1) is the unbiased estimate of a rate's binomial
    variance. None for fewer than two runs, or runs of one episode.
    """
    if len(rates) < 2 or min(r.episodes for r in rates) < 2:
        return None
    values = checked(r.value for r in rates)
    _, sd = mean_sd(values)
    noise = fsum(r.value * (1 - r.value) / (r.episodes - 1) for r in rates) / len(rates)
    return sqrt(max(0.0, sd * sd - noise))


def cvar(values: Sequence[float], *, rules: Rules = RULES) -> float:
    """CVaR: the mean of the worst (lowest) ⌈.2n⌉ runs.

    Rockafellar, Uryasev 2000; as a measure of reliability, Chan et al. 2020.
    """
    ordered = sorted(checked(values))
    worst = ordered[: share_of(rules.worst_share, len(ordered))]
    return mean_sd(worst)[0]
