"""What a design can show before any run, and what a study without a verdict would have needed."""

from __future__ import annotations

from math import sqrt

from attrs import frozen

from qn_tracking.inference.arms import Test, deciding_test
from qn_tracking.inference.multiplicity import Correction, family
from qn_tracking.inference.permutation import draws_for
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.superiority import smallest_superiority_p

MOST_RUNS = 10_000


@frozen(kw_only=True)
class Design:
    """What so many runs an arm can show of so many comparisons.

    `smallest` is the smallest p of one comparison, `smallest_adjusted` that of the one that
    separates its arms completely where no other does, so the first step of Holm, or of
    Benjamini–Hochberg. `concludes`: it is below alpha. If not, `enough` is the fewest runs an arm
    with which it is. `shows` is the difference in mean that the test shows four times in five,
    None where there is none in the metric's range or the range is not known.
    """

    runs: int
    comparisons: int
    decides: Test
    correction: Correction
    smallest: float
    smallest_adjusted: float
    concludes: bool
    enough: int
    shows: float | None


def design(
    runs: int,
    arms: int,
    *,
    baseline: bool = False,
    shared_seeds: bool = False,
    bounded: bool = True,
    correction: Correction = "holm",
    rules: Rules = RULES,
) -> Design:
    """What so many runs of each of so many arms can show. Raises ValueError for fewer than two."""
    comparisons = len(family(arms, 0 if baseline else None))
    test = deciding_test(runs, shared_seeds=shared_seeds, bounded=bounded)
    smallest = smallest_p(test, runs, comparisons, rules=rules)
    return Design(
        runs=runs,
        comparisons=comparisons,
        decides=test,
        correction=correction,
        smallest=smallest,
        smallest_adjusted=min(1.0, comparisons * smallest),
        concludes=comparisons * smallest < rules.alpha and runs >= rules.min_runs,
        enough=enough_runs(comparisons, rules=rules),
        shows=detectable_difference(test, runs, comparisons, rules=rules) if bounded else None,
    )


def smallest_p(test: Test, runs: int, comparisons: int = 1, *, rules: Rules = RULES) -> float:
    """The smallest p that the test can attain with so many runs on both sides.

    For the tests of means about 0: they decide only where there are enough runs.
    """
    if test != "brunner-munzel":
        return 0.0
    draws = draws_for(runs, runs, family=comparisons, rules=rules)
    return smallest_superiority_p(runs, runs, draws=draws)


def enough_runs(comparisons: int, *, rules: Rules = RULES) -> int:
    """The fewest runs an arm with which one of so many comparisons can be concluded at all."""
    runs = rules.min_runs
    while comparisons * smallest_p("brunner-munzel", runs, comparisons, rules=rules) >= rules.alpha:
        runs += 1
    return runs


def detectable_difference(
    test: Test, runs: int, comparisons: int = 1, *, sd: float = 0.12, rules: Rules = RULES
) -> float | None:
    """The difference in mean of a rate that the test shows four times in five, or None.

    `sd` is that of the runs of an arm, or of the differences of pairs.
    """
    low, high = 0.0, 1.0
    if power(test, runs, high, sd, comparisons, rules=rules) < rules.power:
        return None
    while high - low > 1e-4:
        middle = (low + high) / 2
        enough = power(test, runs, middle, sd, comparisons, rules=rules) >= rules.power
        low, high = (low, middle) if enough else (middle, high)
    return high


def runs_to_decide(
    difference: float,
    sd: float,
    comparisons: int = 1,
    *,
    shared_seeds: bool = False,
    bounded: bool = True,
    rules: Rules = RULES,
) -> int | None:
    """Runs an arm that would decide, four times in five, if the difference is what it looks like.

    None for no difference, and beyond 10,000.
    """
    low, high = rules.min_runs, MOST_RUNS

    def enough(runs: int) -> bool:
        test = deciding_test(runs, shared_seeds=shared_seeds, bounded=bounded)
        return power(test, runs, difference, sd, comparisons, rules=rules) >= rules.power

    if not difference or not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def power(
    test: Test,
    runs: int,
    difference: float,
    sd: float,
    comparisons: int = 1,
    *,
    rules: Rules = RULES,
) -> float:
    """How often the test shows such a difference at the first step of Holm. An approximation."""
    from scipy import special  # type: ignore[import-untyped]

    alpha, gap = rules.alpha / comparisons, abs(difference)
    if comparisons * smallest_p(test, runs, comparisons, rules=rules) >= rules.alpha:
        return 0.0
    size = runs + 0.5
    if test == "brunner-munzel":
        mean, error, df = gap, sd * sqrt(2 / runs), 2.0 * runs - 2
    elif test == "half-run welch":
        # The two means lie around the middle of the range: each is pulled by half a run.
        mean, df = (runs * gap - 0.5) / size, 2 * (size - 1)
        far = (1 + gap) / 2
        error = sqrt(2 * (runs * sd * sd + 0.5 * far * far) / (size * (size - 1)))
    else:
        mean, df = (runs * gap - 0.5) / size, size - 1
        error = sqrt((runs * sd * sd + 0.5 * (1 + gap) ** 2) / (size * (size - 1)))
    if error == 0:
        return float(mean > 0)
    limit = special.stdtrit(df, 1 - alpha / 2)
    return float(1 - special.nctdtr(df, min(max(mean / error, 0.0), 1e3), limit))
