"""Arms of a study against definitions, SciPy, the reference values of the design, and simulation."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import attrs
import numpy as np
import orjson
import pytest
import scipy
from hypothesis import example, given, settings, strategies as st

from qn_tracking.inference.arms import Arm, compare_arms, contest, deciding_test
from qn_tracking.inference.convergence import convergence
from qn_tracking.inference.guard import guarded_paired, half_run_welch, run_weight
from qn_tracking.inference.multiplicity import adjust, benjamini_hochberg, family, holm
from qn_tracking.inference.planning import (
    attainable_p,
    design,
    detectable_difference,
    enough_runs,
    power,
    runs_to_decide,
)
from qn_tracking.inference.rules import RULES
from qn_tracking.inference.superiority import brunner_munzel, improvement
from qn_tracking.records.codec import plain

lattice = st.lists(st.integers(0, 20), min_size=2, max_size=5)
rates = st.lists(st.integers(0, 20).map(lambda k: k / 20), min_size=2, max_size=12)
quick = settings(deadline=None, max_examples=60)


# ------------------------------------------------------------------- "a run usually beats a run"


def by_definition(x: Sequence[float], y: Sequence[float]) -> float:
    """Brunner and Munzel's statistic from ranks, over all arrangements."""

    def statistic(one: Sequence[float], other: Sequence[float]) -> float:
        n, m = len(one), len(other)
        ranks = scipy.stats.rankdata([*one, *other])
        inner = ranks[:n] - scipy.stats.rankdata(one), ranks[n:] - scipy.stats.rankdata(other)
        gap = ranks[n:].mean() - ranks[:n].mean()
        error = sum(size * inside.var(ddof=1) for size, inside in zip((n, m), inner, strict=True))
        if error < 1e-12:
            return math.inf if abs(gap) > 1e-12 else 0.0
        return abs(float(n * m * gap / (n + m) / math.sqrt(error)))

    pooled = [*x, *y]
    observed = statistic(x, y) - 1e-9
    found = [
        statistic([pooled[i] for i in part], [pooled[i] for i in set(range(len(pooled))) - {*part}])
        for part in combinations(range(len(pooled)), len(x))
    ]
    return sum(one >= observed for one in found) / len(found)


@settings(deadline=None, max_examples=40)
@given(lattice, lattice)
@example([1, 1], [1, 1, 1])
@example([3, 3, 3], [1, 1])
@example([0, 2], [1, 1])
def test_the_exact_p_is_its_definition(x: list[int], y: list[int]) -> None:
    found = brunner_munzel(x, y)
    assert found.exact
    assert found.arrangements == math.comb(len(x) + len(y), len(x))
    assert found.p == pytest.approx(by_definition(x, y))
    assert found.p >= found.smallest - 1e-12


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_complete_separation_is_the_most_extreme_case() -> None:
    high, low = [0.99] * 5, [0.0] * 5
    assert math.isnan(scipy.stats.brunnermunzel(high, low).pvalue)
    assert brunner_munzel(high, low).p == brunner_munzel(high, low).smallest == 2 / 252
    assert brunner_munzel([5, 6, 7], [1, 2]).p == pytest.approx(2 / 10)
    assert brunner_munzel(range(20, 40), range(20)).p == 1 / 10_000


def test_values_that_are_all_equal_have_p_1() -> None:
    assert brunner_munzel([1, 1, 1], [1, 1]).p == 1
    assert brunner_munzel([1] * 20, [1] * 20).p == 1


@quick
@given(rates, rates, st.randoms())
def test_the_p_knows_neither_sides_nor_order_nor_scale(
    x: list[float], y: list[float], random: Any
) -> None:
    p = brunner_munzel(x, y).p
    assert brunner_munzel(y, x).p == p
    assert brunner_munzel(random.sample(x, len(x)), random.sample(y, len(y))).p == p
    assert brunner_munzel([v**3 * 100 - 7 for v in x], [v**3 * 100 - 7 for v in y]).p == p
    assert brunner_munzel([-v for v in x], [-v for v in y]).p == p


def test_a_sampled_p_agrees_with_the_exact_one_and_repeats() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.8, 1, 8), rng.normal(0, 2, 8)
    sampled = attrs.evolve(RULES, exact_limit=0)
    found = brunner_munzel(x, y, rules=sampled, seed=3)
    assert (found.exact, found.arrangements, found.seed) == (False, 9_999, 3)
    assert found == brunner_munzel(x, y, rules=sampled, seed=3)
    assert found.p == pytest.approx(brunner_munzel(x, y).p, abs=0.02)


def test_for_large_samples_it_agrees_with_scipy() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(0.3, 1, 60), rng.normal(0, 2, 50)
    assert brunner_munzel(x, y).p == pytest.approx(scipy.stats.brunnermunzel(x, y).pvalue, abs=0.01)


@quick
@given(rates, rates)
def test_the_probability_of_improvement_is_inside_its_interval(
    x: list[float], y: list[float]
) -> None:
    one, other = improvement(x, y), improvement(y, x)
    assert 0 <= one.low <= one.value <= one.high <= 1
    assert one.high - one.low > 0.1
    assert (one.value, one.low) == pytest.approx((1 - other.value, 1 - other.high))


def test_an_interval_also_where_every_run_is_above() -> None:
    """Newcombe 2006: 5 against 5 without an overlap."""
    found = improvement([6, 7, 8, 9, 10], [1, 2, 3, 4, 5])
    assert (found.value, found.high) == (1, 1)
    assert 0.5 < found.low < 0.9


# ------------------------------------------------------------------------ "better on average"


def half_run_by_hand(x: Sequence[float], y: Sequence[float]) -> float:
    """The p for x above y, from the formula with weights."""
    sides = []
    for values, end, other in ((x, 0.0, y), (y, 1.0, x)):
        weight = run_weight(len(values), len(other))
        data, weights = np.array([*values, end]), np.array([1.0] * len(values) + [weight])
        size = weights.sum()
        mean = (weights * data).sum() / size
        sides.append((mean, (weights * (data - mean) ** 2).sum() / (size * (size - 1)), size - 1))
    (m1, v1, d1), (m2, v2, d2) = sides
    df = (v1 + v2) ** 2 / (v1**2 / d1 + v2**2 / d2)
    return min(1.0, 2 * float(scipy.stats.t.sf((m1 - m2) / math.sqrt(v1 + v2), df)))


@quick
@given(rates, rates)
@example([1.0, 1.0], [0.0, 0.0])
@example([0.0, 0.0], [0.0, 0.0])
@example([1.0, 1.0], [1.0, 1.0])
def test_half_run_welch(x: list[float], y: list[float]) -> None:
    one, other = half_run_welch(x, y), half_run_welch(y, x)
    assert one.p == pytest.approx(other.p)
    assert (one.delta, one.low, one.high) == pytest.approx((-other.delta, -other.high, -other.low))
    assert one.low <= one.delta + 1e-12
    assert one.delta <= one.high + 1e-12
    assert (one.p < 0.05) == (one.low > 0 or one.high < 0)
    if one.delta > 0:
        assert one.p == pytest.approx(half_run_by_hand(x, y))
    doubled = half_run_welch([2 * v + 5 for v in x], [2 * v + 5 for v in y], bounds=(5, 7))
    assert doubled.p == pytest.approx(one.p)
    assert doubled.low == pytest.approx(2 * one.low)


def simulated(mean: float, sd: float, runs: int, studies: int = 400) -> Any:
    rng = np.random.default_rng(int(1000 * sd))
    size = mean * (1 - mean) / sd**2 - 1
    return rng.binomial(20, rng.beta(mean * size, (1 - mean) * size, (studies, runs))) / 20


def share_below(x: Any, y: Any) -> float:
    return float(np.mean([half_run_welch(*pair).p < 0.05 for pair in zip(x, y, strict=True)]))


def test_half_run_welch_holds_its_level_at_unlike_spreads_and_still_finds() -> None:
    """Welch's own test calls the erratic side better in a fifth of the first studies."""
    assert share_below(simulated(0.9, 0.02, 20), simulated(0.9, 0.2, 10)) <= 0.07
    assert share_below(simulated(0.9, 0.02, 10), simulated(0.9, 0.25, 10)) <= 0.07
    assert share_below(simulated(0.95, 0.06, 20), simulated(0.8, 0.06, 20)) >= 0.8


@quick
@given(rates, st.randoms())
def test_guarded_paired(x: list[float], random: Any) -> None:
    y = random.sample(x, len(x))
    one, other = guarded_paired(x, y), guarded_paired(y, x)
    assert one.p == pytest.approx(other.p)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    places = random.sample(range(len(x)), len(x))
    again = guarded_paired([x[i] for i in places], [y[i] for i in places])
    assert again.p == pytest.approx(one.p)


@pytest.mark.parametrize(("pairs", "least"), [(10, 0.255), (20, 0.11), (50, 0.04)])
def test_the_smallest_constant_difference_that_pairs_show(pairs: int, least: float) -> None:
    def p(gap: float) -> float:
        return guarded_paired([0.5 + gap] * pairs, [0.5] * pairs).p

    assert p(least + 0.005) < 0.05 < p(least - 0.005)


@pytest.mark.parametrize(
    ("x", "bounds", "says"),
    [([0.5], (0, 1), "two values"), ([0.5, 1.5], (0, 1), "0 to 1"), ([0, 1], (1, 0), "bounds")],
)
def test_a_test_of_means_refuses(x: Any, bounds: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        half_run_welch(x, [0.5, 0.6], bounds=bounds)


# ------------------------------------------------------------------------------------- families


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=15), st.randoms())
def test_adjusted_p_values(ps: list[float], random: Any) -> None:
    found = benjamini_hochberg(ps)
    assert found == pytest.approx(scipy.stats.false_discovery_control(ps))
    assert all(p <= a <= h + 1e-12 for p, a, h in zip(ps, found, holm(ps), strict=True))
    places = random.sample(range(len(ps)), len(ps))
    assert benjamini_hochberg([ps[i] for i in places]) == pytest.approx([found[i] for i in places])
    assert adjust(ps, "benjamini-hochberg") == found
    assert adjust([], "benjamini-hochberg") == ()


def test_the_family_is_what_was_asked() -> None:
    assert family(4, 0) == ((1, 0), (2, 0), (3, 0))
    assert family(4, 2) == ((0, 2), (1, 2), (3, 2))
    assert len(family(5)) == 10
    for arms, baseline in ((1, None), (3, 3), (3, -1)):
        with pytest.raises(ValueError, match="expected"):
            family(arms, baseline)


# -------------------------------------------------------------------------------- which decides


def arm(name: str, values: Sequence[float], seeds: Sequence[int] | None = None) -> Arm:
    return Arm(name=name, values=values, seeds=None if seeds is None else tuple(seeds))


@settings(deadline=None, max_examples=25)
@given(
    st.lists(rates, min_size=2, max_size=4),
    st.sampled_from(["brunner-munzel", "half-run welch", "guarded paired"]),
    st.sampled_from([None, 0]),
    st.booleans(),
)
def test_a_pair_of_a_family_is_what_it_is_alone(
    values: list[list[float]], test: Any, baseline: int | None, lower: bool
) -> None:
    arms = [arm(str(i), one, range(len(one))) for i, one in enumerate(values)]
    found = contest(arms, baseline=baseline, test=test, lower_is_better=lower)
    for pair, one in zip(found.pairs, found.decisions, strict=True):
        alone = compare_arms(arms[pair.first], arms[pair.second], test=test, lower_is_better=lower)
        for name in ("p", "delta", "low", "high", "method", "improvement", "tests", "hedges_g"):
            assert getattr(pair, name) == getattr(alone, name)
        for field in attrs.fields(type(one)):
            assert getattr(pair, field.name) == getattr(one, field.name)
    assert list(found.shown) == [pair for pair in found.pairs if found.is_shown(pair)]


def test_which_test_decides_follows_from_the_design() -> None:
    assert deciding_test(19, shared_seeds=True) == "brunner-munzel"
    assert deciding_test(20, shared_seeds=True) == "guarded paired"
    assert deciding_test(20, shared_seeds=False) == "half-run welch"
    assert deciding_test(50, shared_seeds=True, bounded=False) == "brunner-munzel"


def test_five_runs_against_a_baseline_conclude_and_over_all_pairs_do_not() -> None:
    """Five arms: 4 · 2/252 = .032 against a baseline, 10 · 2/252 = .079 over all pairs."""
    middle = [arm(str(i), [0.4, 0.5, 0.6, 0.7, 0.8]) for i in range(3)]
    arms = [arm("base", [0.0] * 5), *middle, arm("best", [0.99, 1, 0.98, 0.99, 0.99])]
    asked = contest(arms, baseline=0)
    assert len(asked.pairs) == 4
    last = asked.pairs[-1]
    assert (last.adjusted_p, last.winner) == (pytest.approx(4 * 2 / 252), 4)
    overall = contest(arms)
    (pair,) = [one for one in overall.shown if one.first == 0]
    assert pair.adjusted_p == pytest.approx(10 * 2 / 252)
    assert (pair.winner, pair.reasons) == (None, ("not significant (p = 0.079)",))
    assert overall.leader == 4
    assert len(overall.shown) == 4
    two = contest([arms[0], arms[4]], baseline=0)
    assert (two.pairs[0].adjusted_p, two.pairs[0].winner) == (2 / 252, 1)


def test_only_pairing_decides_a_difference_that_seeds_hide() -> None:
    """30 shared seeds, gap .12, sd of the seeds .2, sd of the differences .02."""
    rng = np.random.default_rng(7)
    seeds = range(30)

    def spread(values: Any, mean: float, sd: float) -> Any:
        return (values - values.mean()) / values.std(ddof=1) * sd + mean

    low = spread(scipy.stats.beta.ppf((np.arange(30) + 0.5) / 30, 2, 3), 0.4, 0.2)
    low = spread(low, 0.42, 0.2)
    high = low + spread(rng.normal(size=30), 0.12, 0.02)
    shared = contest([arm("a", high, seeds), arm("b", low, seeds)])
    (pair,) = shared.pairs
    assert shared.decides == "guarded paired"
    assert pair.winner == 0
    assert pair.low is not None
    assert pair.low > 0
    assert pair.tests["half-run welch"] > 0.05
    apart = contest([arm("a", high, seeds), arm("b", low, range(100, 130))])
    assert apart.decides == "half-run welch"
    assert apart.pairs[0].winner is None
    assert "guarded paired" not in apart.pairs[0].tests


def test_pairs_are_of_equal_seeds_in_whatever_order() -> None:
    values = [0.1, 0.5, 0.9, 0.3]
    one = arm("a", values, [1, 2, 3, 4])
    other = arm("b", [0.3, 0.8, 0.5, 0.0], [4, 3, 2, 1])
    found = compare_arms(one, other, test="guarded paired")
    again = guarded_paired([0.1, 0.5, 0.9, 0.3], [0.0, 0.5, 0.8, 0.3])
    assert (found.pairs, found.tests["guarded paired"]) == (4, pytest.approx(again.p))


def test_pairs_that_lost_a_run_are_left_out() -> None:
    """The declared test stays the declared one, of the seeds that both arms finished."""
    one = arm("a", [0.9] * 24 + [0.0], range(25))
    other = arm("b", [0.5] * 24, range(24))
    (pair,) = contest([one, other], test="guarded paired").pairs
    assert (pair.pairs, pair.winner, pair.delta) == (24, 0, pytest.approx(0.4))
    apart = arm("b", [0.5] * 24, range(50, 74))
    (pair,) = contest([one, apart], test="guarded paired").pairs
    assert (pair.p, pair.winner) == (None, None)
    assert pair.reasons[0] == "fewer than 5 seeds that both ran (0)"


def test_without_a_range_there_is_usually_beats_and_a_t_interval() -> None:
    found = contest([arm("a", range(30, 60)), arm("b", range(30))], bounds=None)
    (pair,) = found.pairs
    assert (found.decides, pair.method, pair.winner) == ("brunner-munzel", "welch", 0)
    assert set(pair.tests) == {"brunner-munzel", "welch"}
    assert not found.pairs[0].reasons
    with pytest.raises(ValueError, match="needs the range"):
        contest([arm("a", [1, 2]), arm("b", [3, 4])], bounds=None, test="half-run welch")


@pytest.mark.parametrize("runs", [8, 25])
def test_less_may_be_better(runs: int) -> None:
    arms = [arm("a", [0.9] * runs), arm("b", [0.1] * runs)]
    assert contest(arms).pairs[0].winner == 0
    found = contest(arms, lower_is_better=True)
    assert (found.leader, found.pairs[0].winner, found.pairs[0].improvement.value) == (1, 1, 0)
    assert found.pairs[0].delta == pytest.approx(0.8)


def test_a_run_on_a_side_has_no_test_and_few_runs_no_verdict() -> None:
    (pair,) = contest([arm("a", [1.0]), arm("b", [0.0] * 5)]).pairs
    assert (pair.p, pair.adjusted_p, pair.winner, pair.method) == (None, None, None, "none")
    (pair,) = contest([arm("a", [1.0] * 4), arm("b", [0.0] * 4)]).pairs
    assert pair.adjusted_p == pytest.approx(2 / 70)
    assert pair.reasons == ("fewer than 5 runs (4 against 4)",)


@settings(deadline=None, max_examples=25)
@given(st.lists(rates, min_size=2, max_size=4), st.sampled_from(["holm", "benjamini-hochberg"]))
def test_the_order_of_arms_changes_nothing(values: list[list[float]], correction: Any) -> None:
    arms = [arm(str(i), one) for i, one in enumerate(values)]
    forth = contest(arms, correction=correction)
    back = contest(arms[::-1], correction=correction)
    mirrored = {(len(arms) - 1 - p.second, len(arms) - 1 - p.first): p for p in back.pairs}
    for pair in forth.pairs:
        other = mirrored[pair.first, pair.second]
        assert pair.adjusted_p == pytest.approx(other.adjusted_p)
        assert pair.delta == pytest.approx(-other.delta)
        winner = None if other.winner is None else len(arms) - 1 - other.winner
        assert pair.winner == winner


@pytest.mark.parametrize(
    ("values", "seeds", "says"),
    [([], None, "at least one"), ([1], (1, 2), "one seed a value"), ([1, 1], (1, 1), "once")],
)
def test_an_arm_that_makes_no_sense(values: Any, seeds: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"a: .*{says}"):
        arm("a", values, seeds)


def test_a_value_out_of_bounds_names_its_arm() -> None:
    with pytest.raises(ValueError, match="b: expected 0 to 1"):
        contest([arm("a", [0.5, 1.0]), arm("b", [0.5, 98.0])])


def test_a_contest_is_plain_data() -> None:
    found = contest([arm(name, [0.1 * i, 0.5, 0.9], range(3)) for i, name in enumerate("abc")])
    text = orjson.dumps(plain(found))
    assert orjson.loads(text)["decides"] == "brunner-munzel"
    assert orjson.dumps(plain(design(10, 3)))
    assert orjson.dumps(plain(convergence([True] * 200)))


# ------------------------------------------------------------------------------------- planning


@pytest.mark.parametrize(
    ("runs", "one", "four"), [(10, 0.28, 0.36), (20, 0.16, 0.19), (50, 0.09, 0.1)]
)
def test_what_a_test_of_means_shows_four_times_in_five(runs: int, one: float, four: float) -> None:
    assert detectable_difference("half-run welch", runs) == pytest.approx(one, abs=0.012)
    assert design(runs, 5, baseline=True).shows_on_average == pytest.approx(four, abs=0.012)


def test_a_design_that_cannot_conclude_says_with_how_many_it_could() -> None:
    found = design(5, 5)
    assert (found.comparisons, found.concludes, found.enough) == (10, False, 6)
    assert found.smallest_adjusted == pytest.approx(0.0794, abs=1e-4)
    assert found.shows is None
    asked = design(5, 5, baseline=True)
    assert (asked.concludes, asked.smallest_adjusted) == (True, pytest.approx(0.0317, abs=1e-4))
    # Benjamini–Hochberg can, if two of the ten are as far apart as can be.
    assert design(5, 5, correction="benjamini-hochberg").together == 2
    assert not design(4, 2).concludes
    # A study that was extended keeps its test, and each look counts.
    extended = design(25, 5, test="brunner-munzel", looks=2)
    assert extended.decides == "brunner-munzel"
    assert (extended.shows or 0) > (design(25, 5, test="brunner-munzel").shows or 1)
    assert design(6, 5, looks=3).concludes is False
    returns = design(10, 2, bounded=False, sd=50.0)
    assert returns.shows == pytest.approx(50 / 0.12 * (design(10, 2).shows or 0), rel=0.01)
    assert returns.shows_on_average is None
    assert [attainable_p("brunner-munzel", n) for n in (1, 3, 5)] == [1, 0.1, 2 / 252]
    assert [enough_runs(k) for k in (1, 4, 10, 15, 45)] == [5, 5, 6, 6, 7]


@pytest.mark.parametrize("test", ["brunner-munzel", "half-run welch", "guarded paired"])
@pytest.mark.parametrize("runs", [10, 20, 40])
def test_the_power_is_about_what_is_simulated(test: Any, runs: int) -> None:
    gap = detectable_difference(test, runs, sd=0.12)
    assert gap is not None
    rng = np.random.default_rng(3)
    few = attrs.evolve(RULES, resamples=499, draws=1, exact_limit=0)
    shown = 0
    for _ in range(400):
        if test == "guarded paired":
            y = rng.uniform(0.1, 0.3, runs)
            p = guarded_paired(np.clip(y + rng.normal(gap, 0.12, runs), 0, 1), y).p
        else:
            x = np.clip(rng.normal(0.5 + gap / 2, 0.12, runs), 0, 1)
            y = np.clip(rng.normal(0.5 - gap / 2, 0.12, runs), 0, 1)
            p = (half_run_welch if test == "half-run welch" else brunner_munzel)(
                x, y, **({} if test == "half-run welch" else {"rules": few})
            ).p
        shown += p < 0.05
    assert shown / 400 == pytest.approx(0.8, abs=0.08)


def test_more_runs_and_more_difference_show_more() -> None:
    for test in ("brunner-munzel", "half-run welch", "guarded paired"):
        found = [power(test, n, 0.2, 0.12) for n in (5, 10, 15, 20, 40)]
        assert found == sorted(found)
        found = [power(test, 20, gap, 0.12) for gap in (0, 0.05, 0.1, 0.2)]
        assert found == sorted(found)
    assert power("half-run welch", 20, 0.2, 0.12, 4) < power("half-run welch", 20, 0.2, 0.12)


def test_how_many_runs_would_decide() -> None:
    assert runs_to_decide(0.3, 0.12) == 5
    assert runs_to_decide(0.0, 0.12) is None
    assert runs_to_decide(0.001, 0.12) is None
    # Within the margin no mean is called better, however many runs there are.
    assert runs_to_decide(0.015, 0.01, more_than=20, shared_seeds=True) is None
    assert runs_to_decide(0.025, 0.01, more_than=20, shared_seeds=True) is not None
    assert runs_to_decide(0.015, 0.01, more_than=20, bounded=False) is not None
    many = runs_to_decide(0.1, 0.12, 4, more_than=20)
    assert many is not None
    assert many > 20
    assert power("half-run welch", many, 0.1, 0.12, 4) >= 0.8
    assert power("half-run welch", many - 1, 0.1, 0.12, 4) < 0.8
    assert runs_to_decide(0.1, 0.02, more_than=20, shared_seeds=True) == 23


# ---------------------------------------------------------------------------------- convergence


def curve(episodes: int, chance: Any, seed: int = 0) -> list[bool]:
    places = (np.arange(episodes) + 0.5) / episodes
    drawn = np.random.default_rng(seed).random(episodes)
    return [bool(one) for one in drawn < chance(places)]


def learned(by: float) -> Any:
    return lambda u: 0.1 + 0.8 * np.clip(u / by, 0, 1)


def test_a_curve_that_levels_off_has_an_onset_and_a_level() -> None:
    found = convergence(curve(1000, learned(0.3)))
    assert found.state == "reached"
    assert found.onset == pytest.approx(300, abs=100)
    assert found.level == pytest.approx(0.9, abs=0.03)
    assert found.extend_to is None


def test_a_curve_that_climbs_says_how_far_to_extend_it() -> None:
    found = convergence(curve(500, learned(1.25)))
    assert (found.state, found.onset, found.level) == ("still climbing", None, None)
    assert found.extend_to is not None
    assert 650 <= found.extend_to <= 1100


def test_a_curve_below_its_target_never_reached_it() -> None:
    low = curve(500, lambda u: 0.1 + 0 * u)
    assert convergence(low).state == "reached"
    assert convergence(low).onset == 0
    assert convergence(low, target=0.8).state == "never reached"
    assert convergence([False] * 500, target=0.8).state == "never reached"


def test_a_curve_that_collapses_or_is_short_is_not_called_level() -> None:
    assert convergence(curve(500, lambda u: np.where(u < 0.7, 0.9, 0.3))).state == "falling"
    assert convergence([True] * 99).state == "not assessed"
    assert convergence(curve(100, lambda u: 0.5 + 0 * u)).state == "inconclusive"


def test_returns_need_no_range_and_no_scale() -> None:
    rng = np.random.default_rng(1)
    u = np.arange(600) / 600
    returns = 200 * np.clip(u / 0.4, 0, 1) - 300 + rng.normal(0, 20, 600)
    one = convergence(returns, bounds=None)
    other = convergence(returns * 1000 + 5, bounds=None)
    assert one.state == other.state == "reached"
    assert one.onset == other.onset == pytest.approx(240, abs=40)
    climbing = convergence(200 * u + rng.normal(0, 20, 600), bounds=None)
    assert (climbing.state, climbing.extend_to) == ("still climbing", 1200)
    assert convergence([3.0] * 200, bounds=None).state == "reached"


@pytest.mark.parametrize("episodes", [100, 300, 2000])
def test_wrong_answers_are_rare(episodes: int) -> None:
    """The table of docs/statistics.md is of more runs; here 100 of each."""
    level = [convergence(curve(episodes, learned(0.3), s)).state for s in range(100)]
    climbs = [convergence(curve(episodes, learned(1.0), s)).state for s in range(100)]
    assert level.count("still climbing") + level.count("falling") <= 12
    assert climbs.count("reached") + climbs.count("falling") <= 5
    if episodes == 2000:
        assert level.count("reached") >= 88
        assert climbs.count("still climbing") >= 95


# ------------------------------------------------------------------------------------- together


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    program = (
        "from qn_tracking.inference import arms, convergence, planning\n"
        "import sys; print({'numpy', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
