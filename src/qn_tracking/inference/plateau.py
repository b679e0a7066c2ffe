"""Whether the runs of a submission had stopped learning when they ended."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Literal

from attrs import frozen

from qn_tracking.inference.interval import t_quantile
from qn_tracking.inference.proportion import newcombe
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import checked_flags, mean_sd

State = Literal["trending", "plateau", "inconclusive", "not assessed"]


@frozen(kw_only=True)
class Plateau:
    """The change of the success rate from the quarter before to the last one, over runs.

    `state` is trending if the interval from `low` to `high` excludes 0; else plateau if the one
    from `inner_low` to `inner_high` is inside the margin; else inconclusive. Not assessed: no
    interval.
    """

    state: State
    change: float | None = None
    low: float | None = None
    high: float | None = None
    inner_low: float | None = None
    inner_high: float | None = None


def plateau(runs: Sequence[Sequence[bool]], *, rules: Rules = RULES) -> Plateau:
    """Of each run dₛ = mean of the last ⌊N/4⌋ − mean of the ⌊N/4⌋ before; t-intervals of d.

    Not assessed below 100 episodes or with fewer than two runs. Without variance between
    runs the interval is that of the two pooled counts (Newcombe). The plateau is a test of
    equivalence (Schuirmann 1987). Raises ValueError for runs of different lengths.
    """
    flags = [checked_flags(run) for run in runs]
    if len({len(run) for run in flags}) != 1:
        raise ValueError("expected runs of one length")
    n, episodes = len(flags), len(flags[0])
    if n < 2 or episodes < rules.plateau_episodes:
        return Plateau(state="not assessed")
    quarter = episodes // 4
    after = [sum(run[-quarter:]) for run in flags]
    before = [sum(run[-2 * quarter : -quarter]) for run in flags]
    change, sd = mean_sd([(a - b) / quarter for a, b in zip(after, before, strict=True)])

    def interval(confidence: float) -> tuple[float, float]:
        if sd == 0:
            trials = n * quarter
            return newcombe(sum(after), trials, sum(before), trials, confidence)
        half = t_quantile(confidence, n - 1) * sd / sqrt(n)
        return change - half, change + half

    low, high = interval(rules.confidence)
    inner_low, inner_high = interval(rules.plateau_confidence)
    margin = rules.plateau_margin
    state: State = "inconclusive"
    if low > 0 or high < 0:
        state = "trending"
    elif -margin < inner_low and inner_high < margin:
        state = "plateau"
    return Plateau(
        state=state,
        change=change,
        low=low,
        high=high,
        inner_low=inner_low,
        inner_high=inner_high,
    )
