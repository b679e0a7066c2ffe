"""What a design can show before any run, and what a study without a verdict would have needed."""

from __future__ import annotations

from functools import lru_cache
from math import pi, sqrt

from attrs import frozen

from qn_tracking.inference.arms import ENOUGH_RUNS, Test, deciding_test
from qn_tracking.inference.guard import PAIRED, guarded_paired, half_run_welch, run_weight
from qn_tracking.inference.multiplicity import Correction, family
from qn_tracking.inference.pair import MOST_RUNS
from qn_tracking.inference.permutation import draws_for, smallest_p
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.superiority import normal_power

SD = 0.12
"""Of the runs of an arm: .06 between runs, and the chance of 20 episodes at .7 or so."""


@frozen(kw_only=True)
class Design:
    """What so many runs an arm can show.

    `smallest` is the smallest p of one comparison; `smallest_adjusted` the smallest that a single
    one may have in the family, where the others show nothing. `together` is how many have to be at
    `smallest` at once for a verdict: 1 after Holm, more perhaps after Benjamini–Hochberg, None if
    all of them would not do. `enough` is the fewest runs an arm with which one alone would do.

    `shows` is the difference in mean that the deciding test shows four times in five, and
    `shows_on_average` the one that a test of means would: of rates, for runs of that `sd`. None
    where no difference does.
    """

    runs: int
    comparisons: int
    decides: Test
    correction: Correction
    smallest: float
    smallest_adjusted: float
    together: int | None
    enough: int
    shows: float | None
    shows_on_average: float | None
    sd: float

    @property
    def concludes(self) -> bool:
        """Whether it can show anything at all."""
        return self.together is not None


def design(
    runs: int,
    arms: int,
    *,
    baseline: bool = False,
    shared_seeds: bool = False,
    bounded: bool = True,
    correction: Correction = "holm",
    test: Test | None = None,
    looks: int = 1,
    sd: float = SD,
) -> Design:
    """What so many runs of each of so many arms can show, with a baseline or of all pairs.

    `test` is the one that was declared; without one it follows from the number of runs. Every p is
    multiplied by the `looks`. `sd` is that of the runs of an arm; with shared seeds, of the
    differences. Raises ValueError for fewer than two arms.
    """
    comparisons = len(family(arms, 0 if baseline else None))
    counted = comparisons * looks
    test = test or deciding_test(runs, shared_seeds=shared_seeds, bounded=bounded)
    on_average: Test = "guarded paired" if shared_seeds else "half-run welch"
    smallest = attainable_p(test, runs, comparisons)
    needed = int(counted * smallest / RULES.alpha + 1e-9) + 1
    shows = detectable_difference(test, runs, counted, sd=sd)
    possible = runs >= RULES.min_runs and needed <= (1 if correction == "holm" else comparisons)
    return Design(
        runs=runs,
        comparisons=comparisons,
        decides=test,
        correction=correction,
        smallest=smallest,
        smallest_adjusted=min(1.0, counted * smallest),
        together=needed if possible else None,
        enough=enough_runs(counted),
        shows=None if bounded and shows is not None and shows > 1 else shows,
        shows_on_average=(
            detectable_difference(on_average, runs, counted, sd=sd) if bounded else None
        ),
        sd=sd,
    )


@lru_cache(maxsize=4096)  # a plan asks for the same numbers of runs again and again
def attainable_p(
    test: Test, runs: int, comparisons: int = 1, *, weighed: int = 1, rules: Rules = RULES
) -> float:
    """The smallest p that the test can attain with so many runs on both sides.

    1 for fewer than two runs: there is no test.
    """
    if runs < 2:
        return 1.0
    if test == "brunner-munzel":
        draws = draws_for(runs, runs, family=comparisons, rules=rules)
        return smallest_p(runs, runs, draws=draws)
    best, worst = [1.0] * runs, [0.0] * runs
    if test == "guarded paired":
        return guarded_paired(best, worst, rules=rules).p
    return half_run_welch(best, worst, family=weighed, rules=rules).p


def enough_runs(comparisons: int) -> int:
    """The fewest runs an arm with which one of so many comparisons can be concluded alone."""
    runs = RULES.min_runs
    while comparisons * smallest_p(runs, runs) >= RULES.alpha:
        runs += 1
    return runs


def detectable_difference(
    test: Test,
    runs: int,
    comparisons: int = 1,
    *,
    sd: float = SD,
    weighed: int = 1,
    rules: Rules = RULES,
) -> float | None:
    """The difference in mean that the test shows four times in five; see `power`.

    Of rates for a test of means. None if not even one of 1 is, or of ten sd for order alone.
    """
    low, high = 0.0, 10 * sd if test == "brunner-munzel" else 1.0
    if power(test, runs, high, sd, comparisons, weighed=weighed, rules=rules) < rules.power:
        return None
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        found = power(test, runs, middle, sd, comparisons, weighed=weighed, rules=rules)
        enough = found >= rules.power
        low, high = (low, middle) if enough else (middle, high)
    return high


def runs_to_decide(
    difference: float,
    sd: float,
    comparisons: int = 1,
    *,
    more_than: int = 0,
    shared_seeds: bool = False,
    bounded: bool = True,
    test: Test | None = None,
    weighed: int = 1,
    rules: Rules = RULES,
) -> int | None:
    """Runs an arm that decide four times in five if the difference is what it looks like.

    The fewest beyond `more_than`, the runs there are, by `test`, or else by the one that decides
    for so many. A difference that was observed looks larger than it is where it was picked for
    being large. None for no difference, for one of means within the margin, and beyond 10,000.
    """
    if not difference:
        return None

    def enough(runs: int) -> bool:
        by = test or deciding_test(runs, shared_seeds=shared_seeds, bounded=bounded)
        found = power(by, runs, difference, sd, comparisons, weighed=weighed, rules=rules)
        return found >= rules.power

    first = max(more_than + 1, rules.min_runs)
    # Within each stretch one test decides, and more runs never show less.
    for low, high in ((first, ENOUGH_RUNS - 1), (max(first, ENOUGH_RUNS), MOST_RUNS)):
        if low > high or not enough(high):
            continue
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle + 1, high)
        return low
    return None


def power(
    test: Test,
    runs: int,
    difference: float,
    sd: float,
    comparisons: int = 1,
    *,
    weighed: int = 1,
    rules: Rules = RULES,
) -> float:
    """How often the test shows such a difference at the first step of Holm; about.

    `weighed` is the family that the weight of the added run is for (see `run_weight`).

    For values spread about normally with that sd, of rates around the middle of their range. Of the
    permutation test of few runs it is simulated, always from one seed.
    """
    from scipy import special  # type: ignore[import-untyped]

    alpha, gap = rules.alpha / comparisons, abs(difference)
    if test != "brunner-munzel" and gap < rules.margin:
        return 0.0  # of means it would not be called better, however sure
    if runs < 2 or attainable_p(test, runs, comparisons, weighed=weighed, rules=rules) >= alpha:
        return 0.0
    if test == "brunner-munzel" and runs < ENOUGH_RUNS:
        return normal_power(gap / sd, runs, alpha, rules=rules) if sd else 1.0
    if test == "brunner-munzel":
        # Ranks of normal values are worth 3/π of the values.
        shift = min(gap / sd * sqrt(runs / 2 * 3 / pi), 1e3) if sd else 1e3
        limit = special.stdtrit(2 * runs - 2, 1 - alpha / 2)
        return float(special.nctdtr(2 * runs - 2, -shift, -limit))
    # The added run does not vary: it makes the error larger, not the spread of the means.
    paired = test == "guarded paired"
    weight = PAIRED if paired else run_weight(runs, runs, weighed, rules.alpha)
    size = runs + weight
    if paired:
        squares, df, sides = runs * sd * sd + weight * (1 + gap) ** 2, size - 1, 1
    else:
        squares, df, sides = runs * sd * sd + weight * ((1 + gap) / 2) ** 2, 2 * (size - 1), 2
    error = sqrt(sides * squares / (size * (size - 1)))
    ahead = (runs * gap - weight) / size - special.stdtrit(df, 1 - alpha / 2) * error
    spread = sd * sqrt(sides * runs) / size
    return float(special.ndtr(ahead / spread)) if spread else float(ahead > 0)
