"""The constants of the statistics; a protocol fills them under its version."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf
from typing import Any, Literal

from attrs import Attribute, field, frozen, validators

from qn_tracking.inference.proportion import (
    CONFIDENCE,
    FINAL_LEAST,
    FINAL_SHARE,
    MIN_RUNS,
    PLATEAU_EPISODES,
)


def _within(low: float, high: float) -> Callable[[Any, Attribute[Any], Any], None]:
    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if not low <= value <= high:
            raise ValueError(f"{attribute.name}: expected {low:g} to {high:g}, got {value!r}")

    return check


def _number(default: float, low: float, high: float) -> Any:
    return field(default=default, validator=_within(low, high))


_TINY = 1e-6

Inference = Literal["student", "guarded"]
"""Which statistics a version of the protocol has: those for normal values, or for bounded ones."""


@frozen(kw_only=True)
class Rules:
    """The constants of every definition. A number out of range is a ValueError naming it.

    inference: `student` for the t-interval and the permutation test of Welch's t, `guarded` for
    methods that hold for bounded values.
    margin, min_runs, alpha: what "better" asks for, beside a test that could say it.
    confidence, power: of every interval; of the number of runs that a conclusion needs.
    final_least, final_share: K = min(N, max(final_least, ⌈final_share·N⌉)).
    threshold, threshold_window: the rate and the stretch of "time to 80%".
    worst_share, trim: of CVaR (the worst runs) and of the IQM (cut on each side).
    resamples, small_sample: of the bootstrap; below small_sample it under-covers.
    exact_limit, draws: a permutation test is exact up to exact_limit arrangements, else sampled
    with at least draws·m/alpha of them for a family of m comparisons.
    plateau_episodes, plateau_margin, plateau_confidence: fewer episodes are not assessed; ±δ.
    replication_confidence, simulations: one-sided; runs drawn to know the rule's power.
    """

    inference: Inference = field(
        default="student", validator=validators.in_(("student", "guarded"))
    )
    margin: float = _number(0.02, 0, inf)
    min_runs: int = _number(MIN_RUNS, 2, 10**6)
    alpha: float = _number(0.05, _TINY, 0.5)
    confidence: float = _number(CONFIDENCE, 0.5, 1 - _TINY)
    power: float = _number(0.8, 0.5, 1 - _TINY)
    final_least: int = _number(FINAL_LEAST, 1, 10**9)
    final_share: float = _number(FINAL_SHARE, 0, 1)
    threshold: float = _number(0.8, 0, 1)
    threshold_window: int = _number(20, 1, 10**9)
    worst_share: float = _number(0.2, _TINY, 1)
    trim: float = _number(0.25, 0, 0.499)
    resamples: int = _number(9_999, 99, 10**7)
    small_sample: int = _number(20, 0, 10**6)
    exact_limit: int = _number(200_000, 0, 10**7)
    draws: int = _number(20, 1, 10**6)
    plateau_episodes: int = _number(PLATEAU_EPISODES, 8, 10**9)
    plateau_margin: float = _number(0.1, 0, 1)
    plateau_confidence: float = _number(0.9, 0.5, 1 - _TINY)
    replication_confidence: float = _number(0.95, 0.5, 1 - _TINY)
    simulations: int = _number(20_000, 100, 10**7)


def share_of(share: float, n: int) -> int:
    """⌈share·n⌉, where 0.28·25 is 7 whatever binary fractions make of it."""
    return ceil(share * n - 1e-9)


RULES = Rules()


def p_text(p: float) -> str:
    """A p value as every text shows it, such as `0.032` or `< 0.0001`.

    With as many digits as show on which side of alpha it is.
    """
    if p < 0.0001:
        return "< 0.0001"
    if p >= 0.1:
        return f"{p:.2f}"
    texts = (f"{p:.{digits}g}" for digits in range(2, 18))
    return next(text for text in texts if (float(text) < RULES.alpha) == (p < RULES.alpha))
