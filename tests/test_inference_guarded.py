"""Guarded inference against definitions, SciPy, enumeration and small simulations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import attrs
import numpy as np
import pytest
import scipy
from hypothesis import assume, example, given, settings, strategies as st

from qn_tracking.inference.bounded import gaffke, iqm_interval, weighted_below
from qn_tracking.inference.guard import half_run_pairs, half_run_welch, run_weight
from qn_tracking.inference.guarded import compare_guarded, in_units, picked_verdict, reach
from qn_tracking.inference.interval import iqm
from qn_tracking.inference.pair import Comparison, compare, verdict
from qn_tracking.inference.proportion import clopper_pearson, highest_shown, runs_to_show
from qn_tracking.inference.rank import guarded_ranks, rank_intervals
from qn_tracking.inference.replication import exchangeable, replicate, replication_power
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.run import Rate, rate

GUARDED = attrs.evolve(RULES, inference="guarded")
quick = settings(deadline=None, max_examples=60)
rates = st.lists(st.integers(0, 20).map(lambda k: k / 20), min_size=2, max_size=12)
counts = st.lists(st.integers(0, 5), min_size=2, max_size=5)


# ------------------------------------------------------------------------------------ Gaffke's bound


@quick
@given(st.integers(1, 60), st.data())
def test_of_zeros_and_ones_gaffke_is_clopper_pearson(n: int, data: Any) -> None:
    k = data.draw(st.integers(0, n))
    found = gaffke([1.0] * k + [0.0] * (n - k))
    assert (found.low, found.high) == pytest.approx(clopper_pearson(k, n), rel=1e-9, abs=1e-12)
    whole = scipy.stats.binomtest(k, n).proportion_ci(method="exact")
    assert clopper_pearson(k, n) == pytest.approx((whole.low, whole.high))


def test_gaffke_is_the_quantile_of_uniform_weights() -> None:
    rng = np.random.default_rng(3)
    values = rng.beta(8, 2, 15)
    weights = rng.dirichlet(np.ones(16), 400_000)
    found = gaffke(values)
    assert found.low == pytest.approx(np.quantile(weights @ [0, *values], 0.025), abs=1e-3)
    assert found.high == pytest.approx(np.quantile(weights @ [1, *values], 0.975), abs=1e-3)
    for t in (0.3, 0.75, 0.8):
        assert weighted_below([0, *values], t) == pytest.approx(
            np.mean(weights @ [0, *values] <= t), abs=3e-3
        )


@quick
@given(rates, st.randoms())
@example([0.0, 0.0], None)
@example([1.0, 1.0], None)
def test_gaffke_holds_the_mean_and_does_not_care_for_order_side_or_scale(
    x: list[float], random: Any
) -> None:
    found = gaffke(x)
    assert 0 <= found.low <= sum(x) / len(x) <= found.high <= 1
    mirrored = gaffke([1 - v for v in x])
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high))
    scaled = gaffke([5 + 2 * v for v in x], bounds=(5, 7))
    assert (scaled.low, scaled.high) == pytest.approx((5 + 2 * found.low, 5 + 2 * found.high))
    if random is not None:
        assert gaffke(random.sample(x, len(x))) == found


@quick
@given(rates, st.integers(0, 11), st.integers(0, 20))
def test_a_better_run_never_lowers_a_limit(x: list[float], place: int, to: int) -> None:
    place %= len(x)
    assume(to / 20 >= x[place])
    raised = [*x[:place], to / 20, *x[place + 1 :]]
    assert gaffke(raised).low >= gaffke(x).low - 1e-12
    assert gaffke(raised).high >= gaffke(x).high - 1e-12


@pytest.mark.parametrize("function", [gaffke, iqm_interval])
@pytest.mark.parametrize(
    ("values", "bounds"),
    [([], (0, 1)), ([math.nan], (0, 1)), ([1.2], (0, 1)), ([-0.1], (0, 1)), ([0.5], (1, 0))],
)
def test_what_is_not_in_range_is_refused(
    function: Any, values: list[float], bounds: tuple[float, float]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        function(values, bounds=bounds)


@pytest.mark.parametrize(
    "values",
    [[5e-324] * 2, [0.0, 5e-324], [5e-324, 1.0], [1e-310, 2e-310, 0.0], [1 - 2**-53, 1.0]],
)
def test_numbers_without_another_between_them_have_an_interval(values: list[float]) -> None:
    found = gaffke(values)
    assert 0 <= found.low <= sum(values) / len(values) <= found.high <= 1


def test_perfect_runs_show_no_more_than_their_number_allows() -> None:
    for n in (1, 10, 20, 50):
        assert gaffke([1.0] * n).low == pytest.approx(highest_shown(n))
        assert clopper_pearson(n, n)[0] == pytest.approx(highest_shown(n))
    for level in (0.5, 0.9, 0.95, 0.99):
        n = runs_to_show(level)
        assert highest_shown(n) >= level > highest_shown(n - 1)
    with pytest.raises(ValueError, match="level"):
        runs_to_show(1.0)


# --------------------------------------------------------------------------------------- the middle


@quick
@given(rates)
def test_the_interval_of_the_iqm(x: list[float]) -> None:
    found = iqm_interval(x)
    assert 0 <= found.low <= iqm(x) <= found.high <= 1
    scaled = iqm_interval([5 + 2 * v for v in x], bounds=(5, 7))
    assert (scaled.low, scaled.high) == pytest.approx((5 + 2 * found.low, 5 + 2 * found.high))
    # The same stream serves both sides, so the mirror image agrees but for the draws.
    mirrored = iqm_interval([1 - v for v in x])
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high), abs=0.06)


def test_the_interval_of_the_iqm_by_definition() -> None:
    values = [0.96, 0.98, 0.92, 1.0, 0.94, 0.98, 0.96, 0.90, 0.98, 0.62]
    rng = np.random.default_rng(5)
    weights = rng.dirichlet([0.5, *[1.0] * 10, 0.5], 100_000)
    at = np.array([0, *sorted(values), 1])
    ends = np.cumsum(weights, axis=1)
    inside = np.clip(ends, 0.25, 0.75)
    parts = np.diff(inside, axis=1, prepend=0.25) * 2
    assert parts.sum(axis=1) == pytest.approx(1.0)
    low, high = np.quantile(parts @ at, (0.025, 0.975))
    found = iqm_interval(values)
    assert (found.low, found.high) == pytest.approx((low, high), abs=8e-3)


def test_one_failed_run_moves_the_mean_but_not_the_middle() -> None:
    steady = [0.9, 0.95, 0.95, 1.0, 0.9, 0.95, 1.0, 0.95, 0.9, 0.95] * 2
    failed = [*steady[:-1], 0.0]
    assert iqm_interval(failed).low == pytest.approx(iqm_interval(steady).low, abs=0.02)
    assert gaffke(failed).low < gaffke(steady).low - 0.05


# ------------------------------------------------------------------------------------ pairs and ranks


@quick
@given(st.lists(rates, min_size=1, max_size=6))
@example([[1.0, 1.0], [0.0, 0.0], [1.0]])
def test_all_pairs_at_once_are_the_pairs_one_by_one(samples: list[list[float]]) -> None:
    found = half_run_pairs(samples, family=3)
    for (i, x), (j, y) in combinations(enumerate(samples), 2):
        one = half_run_welch(x, y, family=3).p if min(len(x), len(y)) > 1 else 1.0
        assert found[i, j] == found[j, i] == pytest.approx(one, rel=1e-9, abs=1e-300)


@quick
@given(st.lists(rates, min_size=0, max_size=6), st.sampled_from([0.05, 0.4]))
def test_ranks_at_once_are_the_ranks_by_definition(
    samples: list[list[float]], alpha: float
) -> None:
    rules = Rules(inference="guarded", alpha=alpha, min_runs=2)
    ids = [str(i) for i in range(len(samples))]

    def pair(i: str, j: str) -> Comparison:
        x, y = samples[int(i)], samples[int(j)]
        return compare_guarded(x, y, bounds=(0, 1), family=max(1, len(ids) - 1), rules=rules)

    slowly = rank_intervals(ids, pair, rules=rules)
    assert guarded_ranks(ids, samples, rules=rules) == slowly


def test_the_added_run_weighs_more_beside_many_comparisons_and_many_runs() -> None:
    assert run_weight(20, 20) == run_weight(50, 50) == pytest.approx(0.55, abs=0.01)
    assert run_weight(50, 20) == run_weight(20, 20)
    assert run_weight(20, 20) < run_weight(20, 50) < run_weight(20, 5_000)
    assert run_weight(20, 20) < run_weight(20, 20, 5) < run_weight(20, 20, 11)
    # What it is made for: n perfect runs beside the mean that is found to be worse.
    for family in (1, 11):
        w, level = run_weight(50, 50, family), 0.05 / family
        assert math.exp(-w - scipy.stats.norm.ppf(1 - level / 2) * math.sqrt(w)) == pytest.approx(
            2.7 * level
        )


def test_ranks_separate_what_fifty_runs_separate() -> None:
    good, bad = [0.9, 0.95, 1.0, 0.95, 0.9] * 10, [0.6, 0.65, 0.7, 0.55, 0.5] * 10
    first, second, third = guarded_ranks(["a", "b", "c"], [good, good, bad])
    assert (first.low, first.high, first.worse) == (1, 2, ("c",))
    assert (second.low, second.high) == (1, 2)
    assert (third.low, third.high, third.better) == (3, 3, ("a", "b"))
    with pytest.raises(ValueError, match="once"):
        guarded_ranks(["a", "a"], [good, bad])


def test_without_a_range_the_order_of_the_runs_decides() -> None:
    high, low = [float(v) for v in range(30, 40)], [float(v) for v in range(10)]
    pair = compare_guarded(high, low, bounds=None)
    assert pair.guarded is None
    assert pair.usual is not None
    assert verdict(pair, rules=in_units(GUARDED, None)).winner == "first"
    # Most runs are better, but the mean is lower: neither may be called better.
    erratic = [50.0] * 9 + [-2000.0]
    split = compare_guarded(erratic, low, bounds=None)
    result = verdict(split, rules=in_units(GUARDED, None))
    assert split.p is not None
    assert split.p < 0.05
    assert result.reasons == ("the mean and the order of the runs do not agree",)


def test_the_margin_is_a_share_of_the_range() -> None:
    x, y = [0.95] * 40, [0.90] * 40
    wide = [10 * v for v in x], [10 * v for v in y]
    one = compare_guarded(x, y, bounds=(0, 1))
    other = compare_guarded(*wide, bounds=(0, 10))
    assert one.p == pytest.approx(other.p)
    rules = attrs.evolve(GUARDED, margin=0.06)
    for pair, bounds in ((one, (0, 1)), (other, (0, 10))):
        reasons = verdict(pair, rules=in_units(rules, bounds)).reasons
        assert any("margin" in reason for reason in reasons)


def test_picking_the_best_of_many_is_paid_for_by_the_side_that_wins() -> None:
    x, y = [0.95, 1.0, 0.9, 0.95] * 5, [0.80, 0.7, 0.75, 0.85] * 5
    pair = compare_guarded(x, y, bounds=(0, 1))
    assert pair.p is not None
    alone = picked_verdict(pair, (1, 1), bounds=(0, 1))
    assert alone.winner == "first"
    assert alone.p == pair.p
    of_many = picked_verdict(pair, (12, 3), bounds=(0, 1))
    assert of_many.p == pytest.approx(12 * pair.p)
    assert picked_verdict(pair, (1, 12), bounds=(0, 1)).p == pair.p
    other = compare_guarded(y, x, bounds=(0, 1))
    assert picked_verdict(other, (3, 12), bounds=(0, 1)).p == pytest.approx(12 * pair.p)


def test_what_runs_can_show() -> None:
    x, y = [0.9, 0.8, 0.85, 0.95] * 5, [0.85, 0.75, 0.8, 0.9] * 5
    found = reach(x, y, bounds=(0, 1))
    assert found.detectable is not None
    assert found.needed is not None
    assert found.needed > 20
    wide = reach([10 * v for v in x], [10 * v for v in y], bounds=(0, 10))
    assert wide.detectable == pytest.approx(10 * found.detectable, rel=2e-3)
    assert wide.needed == found.needed
    picked = reach(x, y, bounds=(0, 1), tries=12)
    assert picked.detectable is not None
    assert picked.detectable > found.detectable
    assert picked.needed is not None
    assert picked.needed > found.needed
    assert reach(x, x, bounds=(0, 1)).needed is None


@quick
@given(rates, rates)
def test_conventional_figures_stand_beside(x: list[float], y: list[float]) -> None:
    found = compare_guarded(x, y, bounds=(0, 1))
    plain = compare(x, y)
    for name in ("n", "m", "delta", "welch", "hedges_g", "improvement"):
        assert getattr(found, name) == getattr(plain, name)
    assert found.permutation is None
    assert found.p == half_run_welch(x, y).p


# ----------------------------------------------------------------------------------------- replication


def by_enumeration(submitted: Sequence[int], fresh: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.array([sum(part) for part in combinations([*submitted, *fresh], len(fresh))])


@quick
@given(counts, counts)
@example([3, 3, 3], [1, 1, 1])
@example([5, 5], [5, 5])
def test_the_exact_distribution_of_fresh_sums(submitted: list[int], fresh: list[int]) -> None:
    sums = by_enumeration(submitted, fresh)
    p, lowest = exchangeable(submitted, fresh, 0.05)
    assert p == pytest.approx(float(np.mean(sums <= sum(fresh))))
    assert np.mean(sums <= lowest) > 0.05 + 1e-9
    assert np.mean(sums <= lowest - 1) <= 0.05 + 1e-9


def test_hundreds_of_runs_are_drawn_and_agree_with_the_exact_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(2)
    submitted, fresh = (rng.binomial(20, p, 40).tolist() for p in (0.9, 0.87))
    exact = exchangeable(submitted, fresh, 0.05)
    monkeypatch.setattr("qn_tracking.inference.replication.LONGEST", 0)
    drawn = exchangeable(submitted, fresh, 0.05)
    assert drawn[0] == pytest.approx(exact[0], abs=0.02)
    assert drawn[1] == pytest.approx(exact[1], abs=3)


def made(successes: Sequence[int], window: int = 20) -> list[Rate]:
    return [rate(int(k), window) for k in successes]


@quick
@given(st.lists(st.integers(0, 20), min_size=2, max_size=8), st.integers(0, 3), st.data())
def test_a_replication_is_accepted_exactly_from_its_bound_on(
    submitted: list[int], more: int, data: Any
) -> None:
    size = len(submitted) + more
    fresh = data.draw(st.lists(st.integers(0, 20), min_size=size, max_size=size))
    found = replicate(made(submitted), made(fresh), rules=GUARDED)
    assert found.p is not None
    assert found.accepted == (found.p > 0.05 + 1e-9) == (found.fresh_mean >= found.bound - 1e-12)
    if sum(fresh) / size >= sum(submitted) / len(submitted):
        assert found.accepted


def test_fewer_fresh_runs_than_submitted_are_no_replication() -> None:
    with pytest.raises(ValueError, match="as many fresh"):
        replicate(made([20] * 10), made([20] * 9), rules=GUARDED)
    with pytest.raises(ValueError, match="as many fresh"):
        replication_power(made([20] * 10), 9, rules=GUARDED)
    assert replicate(made([20] * 10), made([20] * 9)).accepted


def test_the_power_of_a_replication() -> None:
    rng = np.random.default_rng(1)
    erratic = made(rng.binomial(20, rng.beta(4, 1, 10)))
    found = replication_power(erratic, 10, rules=GUARDED)
    assert found.false_alarm <= 0.06
    assert found.false_alarm < found.best_of_2n < found.best_of_5n
    perfect = replication_power(made([20] * 10), 10, rules=GUARDED)
    assert perfect.false_alarm <= 0.06


# -------------------------------------------------------------------- small checks of the calibration


def drawn(mean: float, sd: float, runs: int, samples: int, seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    size = mean * (1 - mean) / sd**2 - 1
    skill = rng.beta(mean * size, (1 - mean) * size, (samples, runs))
    return rng.binomial(20, skill) / 20


def test_near_one_the_interval_of_the_mean_covers_where_students_does_not() -> None:
    samples = drawn(0.98, 0.06, 10, 300, 11)
    covered = [gaffke(x.tolist()) for x in samples]
    assert np.mean([one.low <= 0.98 <= one.high for one in covered]) >= 0.93
    half = scipy.stats.t.ppf(0.975, 9) * samples.std(axis=1, ddof=1) / math.sqrt(10)
    assert np.mean(abs(samples.mean(axis=1) - 0.98) <= half) < 0.8


def test_equal_entries_of_unlike_spread_are_rarely_ranked() -> None:
    groups = [drawn(0.9, sd, 20, 60, seed) for seed, sd in enumerate((0.02, 0.2) * 3)]
    wrong = 0
    for at in range(60):
        ranks = guarded_ranks("abcdef", [group[at].tolist() for group in groups])
        wrong += any(rank.better for rank in ranks)
    assert wrong <= 3
