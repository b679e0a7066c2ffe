"""Two samples of runs under guarded inference: the test that holds, and what so many runs show.

Of values in a known range the means are compared, by the half-run Welch test. Without a range no
test of means holds its level (Bahadur, Savage 1956); then the question is whether a run of one
usually beats a run of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, sqrt

from attrs import evolve, frozen

from qn_tracking.inference.arms import Test
from qn_tracking.inference.bounded import Range
from qn_tracking.inference.guard import half_run_welch
from qn_tracking.inference.pair import Comparison, Verdict, compare, verdict
from qn_tracking.inference.planning import detectable_difference, runs_to_decide
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import mean_sd
from qn_tracking.inference.superiority import brunner_munzel


def compare_guarded(
    x: Sequence[float],
    y: Sequence[float],
    *,
    bounds: Range | None,
    family: int = 1,
    rules: Rules = RULES,
) -> Comparison:
    """Two samples, one value a run; `bounds` are what the metric can be, None if not known.

    `family` is the number of comparisons shown together: it sets the weight of the added run, or
    how many arrangements are drawn. Raises ValueError for no values, not finite ones, or one out of
    bounds.
    """
    pair = compare(x, y, rules=rules, tested=False)
    if min(pair.n, pair.m) < 2:
        return pair
    if bounds is None:
        return evolve(pair, usual=brunner_munzel(x, y, family=family, rules=rules))
    return evolve(pair, guarded=half_run_welch(x, y, bounds=bounds, family=family, rules=rules))


def in_units(rules: Rules, bounds: Range | None) -> Rules:
    """The rules with the margin in units of the metric; without a range there is none."""
    return evolve(rules, margin=rules.margin * (bounds[1] - bounds[0]) if bounds else 0.0)


def picked_verdict(
    pair: Comparison, entries: tuple[int, int], *, bounds: Range | None, rules: Rules = RULES
) -> Verdict:
    """The verdict on two samples that were picked as the first of so many on each side.

    The best of a entries looks better than it is: its p is multiplied by a, as if each of them had
    been tried (Bonferroni). The other side needs none: to be picked as its best makes it
    harder to beat. Simulated, not proven, where the entries of a side differ in spread.
    """
    tries = entries[0] if pair.delta > 0 else entries[1]
    p = None if pair.p is None else min(1.0, tries * pair.p)
    return verdict(pair, adjusted_p=p, rules=in_units(rules, bounds))


@frozen(kw_only=True)
class Reach:
    """What so many runs a side show four times in five, in units of the metric.

    `detectable` is the smallest difference; None if none is. `needed` runs a side would show the
    difference that was seen; None for no difference, or if 10,000 would not.
    """

    detectable: float | None
    needed: int | None


def reach(
    x: Sequence[float],
    y: Sequence[float],
    *,
    bounds: Range | None,
    tries: int = 1,
    rules: Rules = RULES,
) -> Reach:
    """What the test of two samples can show, if runs vary as these do; about.

    `tries` is how many comparisons the one that was picked stands for.
    """
    (mx, sx), (my, sy) = mean_sd(x), mean_sd(y)
    width = bounds[1] - bounds[0] if bounds else 1.0
    sd = hypot(sx, sy) / sqrt(2) / width
    test: Test = "half-run welch" if bounds else "brunner-munzel"
    fewer = min(len(x), len(y))
    detectable = detectable_difference(test, fewer, tries, sd=sd, weighed=tries, rules=rules)
    needed = runs_to_decide(
        (mx - my) / width,
        sd,
        tries,
        bounded=bounds is not None,
        test=test,
        weighed=tries,
        rules=rules,
    )
    return Reach(detectable=None if detectable is None else detectable * width, needed=needed)
