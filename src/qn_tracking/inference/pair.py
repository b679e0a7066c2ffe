"""Two samples of runs: how far apart, how sure, and whether one may be called better."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import exp, hypot, lgamma, sqrt
from typing import Any

from attrs import frozen

from qn_tracking.inference.guard import Guarded
from qn_tracking.inference.permutation import Permutation, permutation_test, smallest_p
from qn_tracking.inference.rules import RULES, Rules, p_text
from qn_tracking.inference.sample import checked, mean_sd

MOST_RUNS = 10_000


def _special() -> Any:
    from scipy import special  # type: ignore[import-untyped]

    return special


@frozen(kw_only=True)
class Welch:
    """Welch's t of the difference of two means: its interval and its own p, two-sided."""

    t: float
    df: float
    p: float
    low: float
    high: float
    confidence: float


def welch(x: Sequence[float], y: Sequence[float], *, rules: Rules = RULES) -> Welch | None:
    """mean(x) − mean(y) ± t·√(s²/n + s²/m), Satterthwaite's df (Welch 1947).

    None for fewer than two values on a side, and where neither side has any variance.
    """
    x, y = checked(x, "x"), checked(y, "y")
    (mx, sx), (my, sy) = mean_sd(x), mean_sd(y)
    ex, ey = sx / sqrt(len(x)), sy / sqrt(len(y))
    error = hypot(ex, ey)
    if min(len(x), len(y)) < 2 or error == 0:
        return None
    share = (ex / error) ** 2
    df = 1 / (share**2 / (len(x) - 1) + (1 - share) ** 2 / (len(y) - 1))
    t = (mx - my) / error
    half = float(_special().stdtrit(df, (1 + rules.confidence) / 2)) * error
    return Welch(
        t=t,
        df=df,
        p=min(1.0, 2 * float(_special().stdtr(df, -abs(t)))),
        low=mx - my - half,
        high=mx - my + half,
        confidence=rules.confidence,
    )


def hedges_g(x: Sequence[float], y: Sequence[float]) -> float | None:
    """The difference in pooled standard deviations, without its small-sample bias (Hedges 1981).

    None for fewer than two values on a side, and where neither side has any variance.
    """
    x, y = checked(x, "x"), checked(y, "y")
    if min(len(x), len(y)) < 2:
        return None
    (mx, sx), (my, sy) = mean_sd(x), mean_sd(y)
    df = len(x) + len(y) - 2
    pooled = hypot(sx * sqrt((len(x) - 1) / df), sy * sqrt((len(y) - 1) / df))
    if pooled == 0:
        return None
    unbiased = exp(lgamma(df / 2) - lgamma((df - 1) / 2)) / sqrt(df / 2)
    return (mx - my) / pooled * unbiased


def probability_of_improvement(x: Sequence[float], y: Sequence[float]) -> float:
    """How likely a run of x is above one of y: U/(n·m) of Mann and Whitney, ties one half."""
    x, y = checked(x, "x"), sorted(checked(y, "y"))
    wins = sum(bisect_left(y, value) + bisect_right(y, value) for value in x)
    return wins / (2 * len(x) * len(y))


@frozen(kw_only=True)
class Comparison:
    """All that is said of a pair, before any family of pairs is known. `delta` is first − second.

    What does not apply is None: with one run on a side there is no test, without variance on
    either side no `welch` and no `hedges_g`. The test that decides is `guarded` or `usual` under
    guarded inference (see `compare_guarded`), else `permutation`; `welch` is conventional.
    """

    n: int
    m: int
    delta: float
    welch: Welch | None
    permutation: Permutation | None
    hedges_g: float | None
    improvement: float
    guarded: Guarded | None = None
    usual: Permutation | None = None

    @property
    def p(self) -> float | None:
        """That of the test that decides; None where there is none."""
        test = self.guarded or self.usual or self.permutation
        return test.p if test else None

    @property
    def smallest(self) -> float:
        """The smallest p that the test can attain with so many runs; 0 if it has no such bound."""
        test = self.usual or self.permutation
        if test:
            return test.smallest
        return 0.0 if self.guarded else smallest_p(self.n, self.m)


def compare(
    x: Sequence[float],
    y: Sequence[float],
    *,
    family: int = 1,
    rules: Rules = RULES,
    tested: bool = True,
) -> Comparison:
    """Two samples, one value a run; without a test, which takes time, unless `tested`.

    `family` is the number of comparisons shown together: it sets only how many arrangements are
    drawn where not all can be looked at. Raises ValueError for no values, or not finite ones.
    """
    x, y = checked(x, "x"), checked(y, "y")
    testable = tested and min(len(x), len(y)) > 1
    return Comparison(
        n=len(x),
        m=len(y),
        delta=mean_sd(x)[0] - mean_sd(y)[0],
        welch=welch(x, y, rules=rules),
        permutation=permutation_test(x, y, family=family, rules=rules) if testable else None,
        hedges_g=hedges_g(x, y),
        improvement=probability_of_improvement(x, y),
    )


@frozen(kw_only=True)
class Verdict:
    """Whether one side may be called better, and if not, every reason, in words.

    `winner` is "first", "second" or None.
    """

    better: bool
    winner: str | None
    p: float | None
    reasons: tuple[str, ...]


def verdict(pair: Comparison, *, adjusted_p: float | None = None, rules: Rules = RULES) -> Verdict:
    """Better asks for enough runs, a test that could say it, the margin, and significance.

    `adjusted_p` is Holm's over the family that is shown; without it the pair stands alone.
    """
    p = pair.p if adjusted_p is None else adjusted_p
    smallest = pair.smallest
    reasons = []
    if min(pair.n, pair.m) < rules.min_runs:
        reasons.append(f"fewer than {rules.min_runs} runs ({pair.n} against {pair.m})")
    if smallest >= rules.alpha:
        reasons.append(f"smallest attainable p {p_text(smallest)}, not below {rules.alpha:g}")
    if abs(pair.delta) < rules.margin - 1e-12:
        reasons.append(f"difference within the margin ({abs(pair.delta):.3g} < {rules.margin:g})")
    if p is not None and not p < rules.alpha:
        reasons.append(f"not significant (p = {p_text(p)})")
    if pair.delta == 0 and not reasons:  # a margin of 0, and equal means of unlike spread
        reasons.append("no difference")
    if pair.usual and (pair.improvement - 0.5) * pair.delta <= 0 and not reasons:
        reasons.append("the mean and the order of the runs do not agree")
    winner = None if reasons else "first" if pair.delta > 0 else "second"
    return Verdict(better=not reasons, winner=winner, p=p, reasons=tuple(reasons))


def power(effect: float, runs: int, *, rules: Rules = RULES) -> float:
    """How likely so many runs a side show an effect of that many standard deviations.

    Of the two-sided t-test (noncentral t, df 2n − 2). Raises ValueError for fewer than two
    runs.
    """
    if runs < 2:
        raise ValueError("expected at least two runs")
    checked([effect], "effect")
    special, df = _special(), 2 * runs - 2
    limit = special.stdtrit(df, 1 - rules.alpha / 2)
    shift = min(abs(effect), 1e3) * sqrt(runs / 2)
    return float(1 - special.nctdtr(df, shift, limit) + special.nctdtr(df, shift, -limit))


def detectable_effect(runs: int, *, rules: Rules = RULES) -> float:
    """The smallest effect, in standard deviations, that so many runs a side show with .8."""
    low, high = 0.0, 1e3
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if power(middle, runs, rules=rules) < rules.power:
            low = middle
        else:
            high = middle
    return high


def runs_needed(effect: float | None, *, rules: Rules = RULES) -> int | None:
    """Runs a side for a conclusion, if the effect (Hedges' g) is what it looks like.

    The fewest that have a power of .8 and can be called better at all. None where no effect is
    known, for none, and beyond 10,000.
    """
    if effect is None or effect == 0:
        return None
    low = rules.min_runs
    while smallest_p(low, low) >= rules.alpha:
        low += 1
    high = MOST_RUNS
    if power(effect, high, rules=rules) < rules.power:
        return None
    while low < high:
        middle = (low + high) // 2
        if power(effect, middle, rules=rules) < rules.power:
            low = middle + 1
        else:
            high = middle
    return low
