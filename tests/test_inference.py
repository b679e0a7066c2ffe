"""The statistics against their definitions, SciPy, exact fractions, and simulated runs."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import orjson
import pytest
import scipy
from hypothesis import example, given, settings, strategies as st

import qn_tracking
from qn_tracking.inference.interval import bootstrap, iqm, mean_interval, t_interval, t_quantile
from qn_tracking.inference.multiplicity import holm
from qn_tracking.inference.pair import (
    Comparison,
    compare,
    detectable_effect,
    hedges_g,
    power,
    probability_of_improvement,
    runs_needed,
    verdict,
    welch,
)
from qn_tracking.inference.permutation import draws_for, permutation_test, smallest_p
from qn_tracking.inference.plateau import plateau
from qn_tracking.inference.proportion import final_window, newcombe, wilson
from qn_tracking.inference.rank import rank_intervals
from qn_tracking.inference.replication import replicate, replication_power
from qn_tracking.inference.rules import Rules, p_text
from qn_tracking.inference.run import (
    TimeTo,
    cvar,
    distance_efficiency,
    final_success,
    net_sd,
    rate,
    restricted_mean,
    sample_efficiency,
    time_to_threshold,
)
from qn_tracking.inference.sample import mean_sd
from qn_tracking.records.codec import plain, structure

TEN = [0.96, 0.98, 0.92, 1, 0.94, 0.98, 0.96, 0.90, 0.98, 0.62]

numbers = st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-6)
any_scale = st.floats(-1e300, 1e300)
lattice = st.lists(st.integers(0, 20), min_size=2, max_size=5)
quick = settings(deadline=None, max_examples=60)


def runs(sims: int, n: int, k: int, p: float = 0.8, sd: float = 0.06) -> Any:
    """Success rates over k episodes of n runs whose true rates vary, many times."""
    rng = np.random.default_rng(20)
    size = p * (1 - p) / sd**2 - 1
    return rng.binomial(k, rng.beta(p * size, (1 - p) * size, (sims, n))) / k


# ------------------------------------------------------------------------------ per run


def test_a_share_is_not_of_binary_fractions() -> None:
    assert final_window(25, 1, 0.28) == 7


def test_final_success_is_over_the_last_k() -> None:
    assert final_success([True] * 30 + [False] * 20) == rate(0, 20)
    assert final_success([True, False, True]) == rate(2, 3)
    assert plain(final_success([True] * 200)) == {"successes": 40, "episodes": 40, "value": 1.0}
    assert final_success(np.array([True, False])).value == 0.5


def test_distance_efficiency_is_over_all_and_nothing_for_a_failure() -> None:
    assert distance_efficiency([True, False, True], [0.5, 0.9, None]) is None
    assert distance_efficiency([True, False, True], [0.5, 0.9, 1.0]) == 0.5
    assert distance_efficiency([False, False], [None, None]) == 0


def test_sample_efficiency_is_over_all() -> None:
    assert sample_efficiency([False] * 30 + [True] * 10) == 0.25


@pytest.mark.parametrize(
    "call",
    [
        lambda: distance_efficiency([True], [1.5]),
        lambda: distance_efficiency([True], [math.nan]),
        lambda: final_success([]),
        lambda: final_success([0.5]),  # type: ignore[list-item]
        lambda: final_success([math.nan]),  # type: ignore[list-item]
        lambda: sample_efficiency(["yes"]),  # type: ignore[list-item]
        lambda: sample_efficiency([None]),  # type: ignore[list-item]
        lambda: rate(3, 2),
        lambda: rate(0, 0),
        lambda: rate(-1, 2),
        lambda: rate(1.0, 2),  # type: ignore[arg-type]
    ],
)
def test_a_run_that_makes_no_sense(call: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        call()


def test_time_to_threshold() -> None:
    assert time_to_threshold([True] * 39) is None
    assert time_to_threshold([True] * 40) == TimeTo(episodes=20, horizon=40, reached=True)
    learned = [False] * 30 + [True] * 30
    # 16 of the 20 before t: t = 46 has them, but 14 after it are no 20.
    assert time_to_threshold(learned) == TimeTo(episodes=60, horizon=60, reached=False)
    assert not time_to_threshold([*learned, *[True] * 5]).reached  # type: ignore[union-attr]
    assert time_to_threshold([*learned, *[True] * 6]) == TimeTo(
        episodes=46, horizon=66, reached=True
    )
    seven = [True] * 7 + [False] * 18  # .28·25 is 7, not 7.000000000000001
    at_once = time_to_threshold(seven * 2, rules=Rules(threshold=0.28, threshold_window=25))
    assert at_once == TimeTo(episodes=25, horizon=50, reached=True)
    lost = [True] * 20 + [False] * 20
    assert time_to_threshold(lost) == TimeTo(episodes=40, horizon=40, reached=False)


@quick
@given(st.lists(st.booleans(), min_size=40, max_size=90), st.sampled_from([0.5, 0.8]))
def test_time_to_threshold_is_its_definition(y: list[bool], level: float) -> None:
    n, limit = len(y), Fraction(str(level))
    expected = [
        t
        for t in range(20, n - 19)
        if Fraction(sum(y[t - 20 : t]), 20) >= limit
        and Fraction(sum(y[t - 20 :]), n - t + 20) >= limit
    ]
    found = time_to_threshold(y, rules=Rules(threshold=level))
    assert found == TimeTo(
        episodes=expected[0] if expected else n, horizon=n, reached=bool(expected)
    )


def test_a_static_brain_seldom_learns_in_our_eyes() -> None:
    y = (np.random.default_rng(1).random((1_000, 50)) < 0.6).tolist()
    windows = [any(sum(row[t - 10 : t]) >= 8 for t in range(10, 51)) for row in y]
    ours = [time_to_threshold(row).reached for row in y]  # type: ignore[union-attr]
    assert 0.80 < np.mean(windows) < 0.90  # exactly .8486
    assert np.mean(ours) < 0.03


def test_restricted_mean_keeps_the_failures() -> None:
    times = [
        TimeTo(episodes=20, horizon=50, reached=True),
        TimeTo(episodes=50, horizon=50, reached=False),
    ]
    found = restricted_mean(times)
    assert plain(found) == {"mean": 35.0, "fraction": 0.5}
    assert restricted_mean([None, None]) is None
    for wrong in (
        [],
        [*times, None],
        [times[0], TimeTo(episodes=60, horizon=60, reached=False)],
    ):
        with pytest.raises(ValueError, match="one length"):
            restricted_mean(wrong)


def test_net_sd_takes_chance_away() -> None:
    assert net_sd([rate(10, 20)]) is None
    assert net_sd([rate(0, 1), rate(1, 1)]) is None
    assert net_sd([rate(16, 20)] * 5) == 0
    found = net_sd([rate(0, 20), rate(20, 20)])
    assert found == pytest.approx(math.sqrt(0.5))
    # s² = .245, less the mean of .09/19 and .16/19
    some = net_sd([rate(2, 20), rate(16, 20)])
    assert some == pytest.approx(math.sqrt(0.245 - (0.09 + 0.16) / 2 / 19))
    squares = [
        net_sd([rate(round(v * 20), 20) for v in row]) ** 2  # type: ignore[operator]
        for row in runs(500, 40, 20, sd=0.12)
    ]
    assert 0.11 < math.sqrt(np.mean(squares)) < 0.13


def test_cvar_is_the_mean_of_the_worst_fifth() -> None:
    assert cvar(TEN) == pytest.approx((0.62 + 0.90) / 2)
    assert cvar(TEN[:5]) == 0.92
    assert cvar([0.3]) == 0.3
    assert cvar([float(v) for v in range(15)]) == 1.0  # ⌈.2·15⌉ is 3, also in binary
    assert cvar([float(v) for v in range(11)]) == 1.0


# -------------------------------------------------------------------------------- intervals


def test_the_reference_table() -> None:
    assert [f"{v:.6f}" for v in wilson(46, 50)] == [
        "0.811618",
        "0.968450",
    ]
    assert wilson(0, 50)[0] == 0
    assert f"{wilson(0, 50)[1]:.6f}" == "0.071348"
    assert f"{mean_sd(TEN)[0]:.3f}" == "0.924"
    assert f"{iqm(TEN):.6f}" == "0.956667"
    found = t_interval(TEN)
    assert found
    assert (f"{found.low:.5f}", f"{found.high:.5f}") == ("0.84454", "1.00346")
    assert iqm([0.7, 0.8, 0.96]) == pytest.approx(0.82, abs=1e-15)
    adjusted = holm([0.5, 0.001, 0.6, 0.008, 0.7, 0.039, 0.8, 0.9, 0.95, 1.0])
    assert [f"{adjusted[i]:.3f}" for i in (1, 3, 5)] == ["0.010", "0.072", "0.312"]
    assert smallest_p(3, 3) == 0.1


def test_the_reference_effects() -> None:
    effects = [f"{detectable_effect(n):.2f}" for n in (5, 10, 20, 30)]
    assert effects == ["2.02", "1.32", "0.91", "0.74"]


@pytest.mark.parametrize(
    ("n", "episodes", "error"), [(10, 50, 0.0338), (10, 200, 0.0274), (40, 50, 0.0169)]
)
def test_the_reference_standard_errors(n: int, episodes: int, error: float) -> None:
    means = runs(4_000, n, final_window(episodes)).mean(axis=1)
    assert means.std() == pytest.approx(error, rel=0.05)


def test_coverage_over_runs_and_not_over_episodes() -> None:
    rates = runs(4_000, 10, 50)
    mean, sd = rates.mean(axis=1), rates.std(axis=1, ddof=1)
    ancestor = abs(mean - 0.8) <= 1.96 * sd / math.sqrt(500)
    intervals = [t_interval(row) for row in rates[:1_500].tolist()]
    ours = [i is not None and i.low <= 0.8 <= i.high for i in intervals]
    pooled = [wilson(round(500 * m), 500) for m in mean[:1_500]]
    assert 0.18 < np.mean(ancestor) < 0.25
    assert 0.78 < np.mean([low <= 0.8 <= high for low, high in pooled]) < 0.87
    assert 0.92 < np.mean(ours) < 0.97


@quick
@given(st.integers(1, 5_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson(count: tuple[int, int]) -> None:
    k, n = count
    low, high = wilson(k, n)
    expected = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    assert 0 <= low <= k / n <= high <= 1
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson(n - k, n)[0] == pytest.approx(1 - high, abs=1e-12)


def test_wilson_ends_at_0_and_1() -> None:
    for n in range(1, 500):
        assert wilson(0, n)[0] == 0
        assert wilson(n, n)[1] == 1


def test_newcombe() -> None:
    low, high = newcombe(56, 70, 48, 80)  # table II of Newcombe 1998, case a
    assert (f"{low:.4f}", f"{high:.4f}") == ("0.0524", "0.3339")
    assert [f"{bound:.4f}" for bound in newcombe(10, 10, 0, 20)] == ["0.6791", "1.0000"]  # case h
    assert newcombe(48, 80, 56, 70)[0] == -high


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 8, 9, 29, 100, 999])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_t_quantile(df: int, confidence: float) -> None:
    assert t_quantile(confidence, df) == pytest.approx(
        scipy.stats.t.ppf((1 + confidence) / 2, df), 1e-10
    )


@quick
@given(st.lists(numbers, min_size=2, max_size=30))
def test_t_interval(values: list[float]) -> None:
    found = t_interval(values)
    if len(set(values)) == 1:
        assert found is None
        return
    assert found is not None
    mean = math.fsum(values) / len(values)
    assert math.isclose((found.low + found.high) / 2, mean, rel_tol=1e-9, abs_tol=1e-9)
    low, high = scipy.stats.t.interval(
        0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values)
    )
    scale = max(map(abs, values))
    assert found.low == pytest.approx(low, rel=1e-6, abs=1e-9 * scale)
    assert found.high == pytest.approx(high, rel=1e-6, abs=1e-9 * scale)


@quick
@given(st.lists(any_scale, min_size=1, max_size=40))
@example([0.24746077866623817] * 3 + [0.2474607786662382] * 6)  # their mean is …822
def test_iqm(values: list[float]) -> None:
    found = iqm(values)
    assert min(values) <= found <= max(values)
    if len(values) < 4:
        assert found == mean_sd(values)[0] or found in (min(values), max(values))
    if max(map(abs, values)) < 1e290:
        scale = max(map(abs, values))
        assert found == pytest.approx(
            scipy.stats.trim_mean(values, 0.25), rel=1e-9, abs=1e-12 * scale
        )


def test_rates_without_variance_are_pooled() -> None:
    for values, count in (([0.9] * 10, (180, 200)), ([0.9] * 2, (36, 40)), ([1.0], (20, 20))):
        found = mean_interval(values, [20] * len(values))
        assert found
        assert (found.low, found.high, found.method) == (*wilson(*count), "wilson")
    assert mean_interval([0.9] * 10) is mean_interval([0.4]) is None
    assert mean_interval([0.9, 0.95], [20, 20]) == t_interval([0.9, 0.95])


def test_an_interval_is_clipped_for_display_only() -> None:
    found = t_interval(TEN)
    assert found
    assert (found.clip(0, 1).low, found.clip(0, 1).high) == (found.low, 1)
    beyond = attrs.evolve(found, low=1.2, high=1.4).clip(0, 1)
    assert (beyond.low, beyond.high) == (1, 1)


def test_bootstrap() -> None:
    found = bootstrap(TEN)
    assert found
    assert found.value == pytest.approx(iqm(TEN))
    assert min(TEN) <= found.low <= found.value <= found.high <= max(TEN)
    assert (found.seed, found.resamples, found.under_covers) == (0, 9_999, True)
    assert bootstrap(TEN) == found
    assert bootstrap(TEN, seed=1) != found
    twenty = bootstrap(TEN * 2)
    assert twenty
    assert not twenty.under_covers
    expected = scipy.stats.bootstrap(
        (np.array(TEN),),
        lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis=axis),
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert found.low == pytest.approx(expected.low, abs=0.01)
    assert found.high == pytest.approx(expected.high, abs=0.01)
    huge = bootstrap([1e299 * value for value in TEN])
    assert huge
    assert math.isfinite(huge.high)
    assert bootstrap([0.5]) is bootstrap([0.5, 0.5]) is None


@pytest.mark.parametrize(("n", "low", "high"), [(3, 0.68, 0.80), (5, 0.84, 0.92), (20, 0.9, 0.96)])
def test_the_bootstrap_under_covers(n: int, low: float, high: float) -> None:
    rng, rules, hits = np.random.default_rng(4), Rules(resamples=499), 0
    for seed in range(1_000):
        found = bootstrap(rng.normal(size=n).tolist(), seed=seed, rules=rules)
        hits += found is not None and found.low <= 0 <= found.high
    assert low < hits / 1_000 < high


# ------------------------------------------------------------------------------ two samples


def by_definition(x: Sequence[int], y: Sequence[int]) -> Fraction:
    """The exact p, in fractions, listing every arrangement."""

    def squared_t(a: Sequence[int], b: Sequence[int]) -> tuple[bool, Fraction]:
        means = [Fraction(sum(s), len(s)) for s in (a, b)]
        error = sum(
            (
                sum((v - mean) ** 2 for v in s) / (len(s) * (len(s) - 1))
                for s, mean in zip((a, b), means, strict=True)
            ),
            Fraction(0),
        )
        d = (means[0] - means[1]) ** 2
        return (d > 0 and error == 0, d / error if error else Fraction(0))

    pooled = [*x, *y]
    found = []
    for chosen in combinations(range(len(pooled)), len(x)):
        rest = [v for i, v in enumerate(pooled) if i not in chosen]
        found.append(squared_t([pooled[i] for i in chosen], rest))
    observed = squared_t(x, y)
    return Fraction(sum(t >= observed for t in found), len(found))


@settings(deadline=None, max_examples=150)
@given(lattice, lattice, st.sampled_from([1, 1 / 20, 1 / 3, 1e-9, 1e200, 1e-200]))
@example([1, 1], [0, 0], 0.05)
@example([1, 1, 1], [0, 0], 0.05)
@example([3, 3, 3], [3, 3], 0.05)
@example([20, 20, 20, 20, 20], [0, 0, 0, 0, 0], 1 / 3)
@example([20, 20, 20, 20, 19], [20, 20, 20], 1 / 3)
def test_the_exact_permutation_p(x: list[int], y: list[int], unit: float) -> None:
    found = permutation_test([v * unit for v in x], [v * unit for v in y])
    assert found.exact
    assert found.seed is None
    assert found.arrangements == math.comb(len(x) + len(y), len(x))
    assert found.p == pytest.approx(float(by_definition(x, y)), abs=1e-12)
    assert found.p >= found.smallest - 1e-12


@quick
@given(lattice, lattice, st.integers(-50, 50), st.integers(1, 7))
def test_the_permutation_p_is_invariant(x: list[int], y: list[int], shift: int, scale: int) -> None:
    p = permutation_test(x, y).p
    assert permutation_test(y, x).p == p
    assert permutation_test([-v for v in x], [-v for v in y]).p == p
    assert permutation_test(x[::-1], y[::-1]).p == p
    far = [[(v + shift * 10**5) * scale for v in side] for side in (x, y)]
    assert permutation_test(*far).p == p
    moved = [[(v + shift) * scale / 20 for v in side] for side in (x, y)]
    assert permutation_test(*moved).p == p


def test_the_permutation_p_agrees_with_scipy() -> None:
    rng = np.random.default_rng(6)
    for n, m in ((4, 4), (5, 7), (2, 9), (8, 6)):
        x, y = rng.normal(size=n), rng.normal(1, 3, size=m)

        def statistic(a: Any, b: Any, axis: int) -> Any:
            return abs(scipy.stats.ttest_ind(a, b, axis=axis, equal_var=False).statistic)

        expected = scipy.stats.permutation_test(
            (x, y), statistic, vectorized=True, n_resamples=np.inf, alternative="greater"
        )
        assert permutation_test(x.tolist(), y.tolist()).p == pytest.approx(expected.pvalue)


def test_a_sampled_p_agrees_with_the_exact_one() -> None:
    rng = np.random.default_rng(7)
    for n, m in ((8, 8), (6, 10)):
        x, y = rng.normal(size=n).tolist(), rng.normal(0.8, 2, size=m).tolist()
        exact = permutation_test(x, y)
        sampled = permutation_test(x, y, rules=Rules(exact_limit=100), seed=5)
        assert not sampled.exact
        assert (sampled.seed, sampled.arrangements) == (5, 9_999)
        assert abs(sampled.p - exact.p) < 4 * math.sqrt(exact.p / 9_999)
        assert permutation_test(y, x, rules=Rules(exact_limit=100), seed=5).p == sampled.p
        assert permutation_test(x, y, rules=Rules(exact_limit=100), seed=6).p != sampled.p
    far = permutation_test([0.0] * 20, [1.0] * 20)
    assert far.p == far.smallest == 1 / 10_000


def test_enough_arrangements_for_a_family() -> None:
    assert draws_for(10, 10, family=999) is None
    assert draws_for(5, 5, rules=Rules(exact_limit=252)) is None
    assert draws_for(5, 5, rules=Rules(exact_limit=251)) == 9_999
    assert draws_for(20, 20) == 9_999
    assert draws_for(20, 20, family=100) == 40_000  # 20·m/alpha
    found = permutation_test([0.0] * 20, [1.0] * 20, family=100)
    assert found.arrangements == 40_000
    assert found.p * 100 < 0.05


def test_ten_against_ten_is_exact() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=10).tolist(), rng.normal(size=10).tolist()
    found = permutation_test(x, y)
    assert found.arrangements == 184_756


def test_the_false_alarm_rate_is_alpha_also_with_unlike_variances() -> None:
    rng = np.random.default_rng(9)
    alarms = [
        permutation_test(rng.normal(size=6).tolist(), rng.normal(0, 3, size=9).tolist()).p < 0.05
        for _ in range(1_000)
    ]
    assert 0.025 < np.mean(alarms) < 0.085


@quick
@given(
    st.lists(numbers, min_size=3, max_size=3, unique=True),
    st.lists(numbers, min_size=3, max_size=3, unique=True),
)
def test_three_against_three_is_never_significant(x: list[float], y: list[float]) -> None:
    pair = compare(x, y)
    assert pair.permutation
    assert pair.permutation.p >= 0.1
    found = verdict(pair)
    assert not found.better
    assert "fewer than 5 runs (3 against 3)" in found.reasons
    assert "smallest attainable p 0.10, not below 0.05" in found.reasons


def test_smallest_p() -> None:
    assert smallest_p(10, 10) == 2 / 184_756
    assert smallest_p(3, 4) == 1 / 35
    assert smallest_p(1, 9) == 1
    assert smallest_p(20, 20, draws=9_999) == 1e-4


@quick
@given(
    st.lists(numbers, min_size=2, max_size=12, unique=True),
    st.lists(numbers, min_size=2, max_size=12, unique=True),
)
def test_welch_agrees_with_scipy(x: list[float], y: list[float]) -> None:
    found = welch(x, y)
    expected = scipy.stats.ttest_ind(x, y, equal_var=False)
    interval = expected.confidence_interval()
    assert found
    assert found.t == pytest.approx(expected.statistic, rel=1e-6, abs=1e-9)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-9)
    assert found.df == pytest.approx(expected.df, rel=1e-6)
    scale = max(map(abs, [*x, *y]))
    assert found.low == pytest.approx(interval.low, rel=1e-6, abs=1e-9 * scale)
    assert found.high == pytest.approx(interval.high, rel=1e-6, abs=1e-9 * scale)


@quick
@given(st.lists(st.integers(0, 20), min_size=1), st.lists(st.integers(0, 20), min_size=1))
def test_probability_of_improvement(x: list[int], y: list[int]) -> None:
    found = probability_of_improvement(x, y)
    u = sum((a > b) + (a == b) / 2 for a in x for b in y)
    assert found == pytest.approx(u / (len(x) * len(y)))
    assert found + probability_of_improvement(y, x) == pytest.approx(1)


def test_probability_of_improvement_agrees_with_scipy() -> None:
    x, y = TEN, [0.9, 0.92, 0.98, 0.5]
    u = scipy.stats.mannwhitneyu(x, y).statistic
    assert probability_of_improvement(x, y) == pytest.approx(u / 40)


def test_hedges_g() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0]
    pooled = math.sqrt((3 * np.var(x, ddof=1) + 2 * np.var(y, ddof=1)) / 5)
    expected = (2.5 - 4) / pooled * math.gamma(2.5) / (math.sqrt(2.5) * math.gamma(2))
    assert hedges_g(x, y) == pytest.approx(expected)
    assert hedges_g(y, x) == pytest.approx(-expected)
    assert hedges_g([1.0], [2.0, 3.0]) is None
    assert hedges_g([1.0, 1.0], [2.0, 2.0]) is None


@quick
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm(ps: list[float]) -> None:
    found = holm(ps)
    order = sorted(range(len(ps)), key=ps.__getitem__)
    for place, i in enumerate(order):
        steps = [(len(ps) - k) * ps[j] for k, j in enumerate(order[: place + 1])]
        assert found[i] == min(1, max(steps))
        assert ps[i] <= found[i] <= min(1, len(ps) * ps[i])
    ordered = [found[i] for i in order]
    assert ordered == sorted(ordered)
    assert holm(ps[::-1])[::-1] == found


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_holm_refuses(p: float) -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        holm([0.5, p])


GOOD = [0.90, 0.95, 0.92, 0.94, 0.91, 0.93]
BAD = [0.50, 0.55, 0.52, 0.54, 0.51, 0.53]


@pytest.mark.parametrize(
    ("x", "y", "winner", "reasons"),
    [
        (GOOD, BAD, "first", []),
        (BAD, GOOD, "second", []),
        (GOOD[:4], BAD, None, ["fewer than 5 runs (4 against 6)"]),
        (GOOD, [v - 0.0199 for v in GOOD], None, ["difference within the margin", "not signif"]),
        (GOOD, [0.1, 0.99, 0.98, 0.97, 0.99, 0.2], None, ["not significant (p = "]),
        ([0.9], BAD, None, ["fewer than 5 runs (1 against 6)", "smallest attainable p 1.00,"]),
        ([0.9] * 6, [0.5] * 6, "first", []),
        (
            [0.9] * 6,
            [0.9] * 6,
            None,
            ["difference within the margin", "not significant (p = 1.00)"],
        ),
    ],
)
def test_better_has_four_conditions(
    x: list[float], y: list[float], winner: str | None, reasons: list[str]
) -> None:
    found = verdict(compare(x, y))
    assert (found.better, found.winner) == (winner is not None, winner)
    assert len(found.reasons) == len(reasons)
    for said, expected in zip(found.reasons, reasons, strict=True):
        assert said.startswith(expected)


def test_the_margin_is_met_by_what_is_equal_to_it() -> None:
    x = [0.82 + v for v in (0, 1e-4, -1e-4, 2e-4, -2e-4)]
    y = [v - 0.02 for v in x]
    assert verdict(compare(x, y)).better
    assert 0.82 - 0.8 < 0.02
    assert verdict(compare([0.82] * 5, [0.8] * 5)).better


def test_a_family_may_take_it_back() -> None:
    pair = compare(GOOD, BAD)
    assert verdict(pair, adjusted_p=0.049).better
    found = verdict(pair, adjusted_p=0.05)
    assert (found.better, found.p) == (False, 0.05)
    assert found.reasons == ("not significant (p = 0.05)",)


def test_without_a_margin_equal_means_are_not_better() -> None:
    found = verdict(compare(GOOD, GOOD), adjusted_p=0.01, rules=Rules(margin=0))
    assert found.reasons == ("no difference",)


def test_neither_side_has_variance() -> None:
    same, apart = compare([1.0] * 5, [1.0] * 5), compare([1.0] * 5, [0.9] * 5)
    assert same.permutation
    assert apart.permutation
    assert (same.permutation.p, apart.permutation.p) == (1, 2 / 252)
    for pair in (same, apart):
        assert pair.welch is pair.hedges_g is None
    one_sided = compare([1.0] * 5, GOOD)
    assert one_sided.welch
    assert one_sided.welch.df == pytest.approx(5)


def test_one_run_has_no_test() -> None:
    pair = compare([0.5], [0.7])
    assert pair.welch is pair.permutation is pair.hedges_g is None
    assert (pair.delta, pair.improvement) == (pytest.approx(-0.2), 0)
    with pytest.raises(ValueError, match="at least two"):
        permutation_test([0.5], [0.7, 0.8])


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150, 1e298])
def test_scale_does_not_matter(scale: float) -> None:
    x, y = [v * scale for v in GOOD], [v * scale for v in TEN]
    pair, expected = compare(x, y), compare(GOOD, TEN)
    assert pair.permutation == expected.permutation
    assert pair.hedges_g == pytest.approx(expected.hedges_g)
    assert pair.welch
    assert expected.welch
    assert pair.welch.p == pytest.approx(expected.welch.p)
    assert pair.welch.low == pytest.approx(expected.welch.low * scale)
    interval, before = t_interval(y), t_interval(TEN)
    assert interval
    assert before
    assert interval.high == pytest.approx(before.high * scale)
    assert bootstrap(y)


BROKEN = [math.nan, math.inf, -math.inf, 1e301, 10**400, "1", None]


@pytest.mark.parametrize("value", BROKEN, ids=[str(v)[:8] for v in BROKEN])
def test_what_is_not_a_finite_number_is_refused(value: Any) -> None:
    wrong, right = [0.5, value, 0.7], [0.5, 0.6, 0.7]
    for call in (t_interval, iqm, bootstrap, cvar):
        with pytest.raises(ValueError, match="expected finite numbers"):
            call(wrong)
    for pair in (compare, welch, hedges_g, probability_of_improvement, permutation_test):
        for sides in ((wrong, right), (right, wrong)):
            with pytest.raises(ValueError, match="expected finite numbers"):
                pair(*sides)


@pytest.mark.parametrize("call", [t_interval, iqm, cvar, lambda v: compare(v, [1.0])])
def test_no_runs_are_refused(call: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        call([])


@pytest.mark.parametrize("effect", [0.2, 0.5, 1.0, 3.0])
def test_runs_needed(effect: float) -> None:
    found = runs_needed(effect)
    assert found is not None
    assert found == runs_needed(-effect)
    assert power(effect, found) >= 0.8
    assert found == 5 or power(effect, found - 1) < 0.8
    in_a_family = runs_needed(effect, rules=Rules(alpha=0.05 / 20))
    assert in_a_family is not None
    assert in_a_family > found
    assert smallest_p(in_a_family, in_a_family) < 0.05 / 20


def test_runs_that_could_conclude_at_all() -> None:
    assert runs_needed(20, rules=Rules(alpha=0.05 / 20)) == 6  # 5 against 5 cannot go below 2/252


def test_runs_needed_where_no_number_is_known() -> None:
    assert runs_needed(None) is runs_needed(0) is runs_needed(1e-4) is None
    assert runs_needed(1e200) == 5
    with pytest.raises(ValueError, match="finite"):
        runs_needed(math.nan)


def test_power_is_alpha_without_an_effect() -> None:
    assert power(0, 10) == pytest.approx(0.05)
    nct = scipy.stats.nct(18, 0.5 * math.sqrt(5))
    limit = scipy.stats.t.ppf(0.975, 18)
    assert power(0.5, 10) == pytest.approx(nct.sf(limit) + nct.cdf(-limit))


# ------------------------------------------------------------------------------------ ranks


@quick
@given(
    st.lists(
        st.tuples(st.integers(0, 16), st.lists(st.integers(0, 4), min_size=5, max_size=6)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([0.0, 0.02, 0.2]),
)
def test_a_rank_interval_holds_the_rank_by_mean(
    drawn: list[tuple[int, list[int]]], margin: float
) -> None:
    rules = Rules(margin=margin)
    entries = {str(i): [(base + v) / 20 for v in spread] for i, (base, spread) in enumerate(drawn)}
    means = {key: Fraction(sum(round(v * 20) for v in s), len(s)) for key, s in entries.items()}

    def pair(one: str, other: str) -> Comparison:
        return compare(entries[one], entries[other], family=len(entries) - 1, rules=rules)

    ranks = rank_intervals(list(entries), pair, rules=rules)
    for found in ranks:
        first = 1 + sum(mean > means[found.id] for mean in means.values())
        last = sum(mean >= means[found.id] for mean in means.values())
        assert 1 <= found.low <= first <= last <= found.high <= len(entries)
        others = [key for key in entries if key != found.id]
        pairs = [pair(found.id, key) for key in others]
        adjusted = holm([p.permutation.p for p in pairs if p.permutation])
        said = {
            key: verdict(p, adjusted_p=a, rules=rules).winner
            for key, p, a in zip(others, pairs, adjusted, strict=True)
        }
        assert set(found.better) == {key for key in others if said[key] == "second"}
        assert set(found.worse) == {key for key in others if said[key] == "first"}


def test_ranks_by_hand() -> None:
    entries = {"a": GOOD, "b": [v - 0.001 for v in GOOD], "c": BAD, "d": [0.9]}
    calls: list[tuple[str, str]] = []

    def pair(one: str, other: str) -> Comparison:
        calls.append((one, other))
        return compare(entries[one], entries[other])

    found = rank_intervals("abcd", pair)
    assert [(r.id, r.low, r.high) for r in found] == [
        ("a", 1, 3),
        ("b", 1, 3),
        ("c", 3, 4),
        ("d", 1, 4),
    ]
    assert (found[0].worse, found[2].better) == (("c",), ("a", "b"))
    assert calls == list(combinations("abcd", 2))
    assert rank_intervals([], pair) == ()
    assert rank_intervals("a", pair)[0].high == 1
    with pytest.raises(ValueError, match="each id once"):
        rank_intervals("aa", pair)


def test_the_more_entries_the_less_each_pair_can_say() -> None:
    """5 against 5 can reach 2/252: Holm over eight others takes every rank away."""
    entries = {str(i): [v - i / 10 for v in GOOD[:5]] for i in range(9)}

    def pair(one: str, other: str) -> Comparison:
        return compare(entries[one], entries[other])

    few = rank_intervals(["0", "1", "2"], pair)
    assert [(r.low, r.high) for r in few] == [(1, 1), (2, 2), (3, 3)]
    assert {(r.low, r.high) for r in rank_intervals(list(entries), pair)} == {(1, 9)}


# ---------------------------------------------------------------------------------- plateau


def learning(n: int, episodes: int, before: float, after: float, seed: int = 0) -> list[list[bool]]:
    rng, quarter = np.random.default_rng(seed), episodes // 4
    level = np.array([before] * (episodes - quarter) + [after] * quarter)
    return (rng.random((n, episodes)) < level).tolist()  # type: ignore[no-any-return]


def test_plateau() -> None:
    assert plateau(learning(10, 400, 0.8, 0.8)).state == "plateau"
    assert plateau(learning(10, 400, 0.5, 0.9)).state == "trending"
    assert plateau(learning(10, 400, 0.9, 0.5)).state == "trending"
    assert plateau(learning(2, 100, 0.8, 0.8)).state == "inconclusive"
    assert plateau(learning(10, 99, 0.8, 0.8)).state == "not assessed"
    assert plateau(learning(1, 400, 0.8, 0.8)).state == "not assessed"
    strict = plateau(learning(10, 400, 0.8, 0.8), rules=Rules(plateau_margin=0.01))
    assert strict.state == "inconclusive"
    with pytest.raises(ValueError, match="one length"):
        plateau([[True] * 100, [True] * 101])


def test_plateau_by_hand() -> None:
    last = [24, 27, 30, 26]
    learned = [[False] * 59 + [True] * (31 + k) + [False] * (33 - k) for k in last]
    found = plateau(learned)  # 123 episodes: the last 30 are 93 to 122, 30 before are 63 to 92
    d = [(k - 3 - 30) / 30 for k in last]
    wide, narrow = t_interval(d), t_interval(d, confidence=0.9)
    assert wide
    assert narrow
    assert found.change == pytest.approx(sum(d) / 4)
    assert (found.low, found.high) == pytest.approx((wide.low, wide.high))
    assert (found.inner_low, found.inner_high) == pytest.approx((narrow.low, narrow.high))
    assert found.state == "trending"


def test_a_plateau_is_asked_of_the_90_percent_interval() -> None:
    """The last 30 of 120 after 30 successes of 60: d = k/30."""
    half = [True, False] * 15
    still = [half * 3 + [True] * (15 + k) + [False] * (15 - k) for k in (0, 1, -1, 2, -2)]
    found = plateau(still)
    assert found.change == pytest.approx(0)
    assert found.inner_high is not None
    assert found.high is not None
    between = (found.inner_high + found.high) / 2
    assert plateau(still, rules=Rules(plateau_margin=between)).state == "plateau"
    below = found.inner_high - 1e-6
    assert plateau(still, rules=Rules(plateau_margin=below)).state == "inconclusive"


def test_plateau_without_variance_looks_at_the_counts() -> None:
    found = plateau([[True] * 100] * 10)
    assert (found.state, found.change) == ("plateau", 0)
    assert found.low == newcombe(250, 250, 250, 250)[0]
    assert plateau([[True] * 100] * 2, rules=Rules(plateau_margin=0.05)).state == "inconclusive"
    step = [True] * 75 + [True] * 24 + [False]
    assert plateau([step] * 2).state == "inconclusive"  # one episode each is no trend


@pytest.mark.parametrize(("episodes", "margin"), [(200, 0.1), (500, 0.05)])
def test_what_ten_runs_can_tell_of_a_plateau(episodes: int, margin: float) -> None:
    rules = Rules(plateau_margin=margin)
    states = [plateau(learning(10, episodes, 0.8, 0.8, i), rules=rules).state for i in range(200)]
    assert states.count("plateau") > 120
    assert states.count("trending") < 30
    shorter = [plateau(learning(10, 100, 0.8, 0.8, i), rules=rules).state for i in range(200)]
    assert shorter.count("plateau") < states.count("plateau")


# ------------------------------------------------------------------------------ replication

RATES = [rate(k, 20) for k in (16, 17, 15, 18, 14, 19, 16, 12, 15, 18)]


def test_replication_by_hand() -> None:
    values = [r.value for r in RATES]
    mean, sd = np.mean(values), np.std(values, ddof=1)
    bound = mean - scipy.stats.t.ppf(0.95, 9) * sd * math.sqrt(1 / 10 + 1 / 5)
    found = replicate(RATES, [rate(14, 20)] * 5)
    assert found.bound == pytest.approx(bound)
    assert (found.accepted, found.sd) == (True, pytest.approx(sd))
    assert not replicate(RATES, [rate(13, 20)] * 5).accepted
    assert replicate(RATES, [rate(20, 20)] * 5).accepted  # a better mean is no fraud
    assert replicate(RATES, RATES).accepted


def test_runs_that_agree_are_floored() -> None:
    found = replicate([rate(20, 20)] * 10, [rate(19, 20)] * 5)
    p = 201 / 202
    assert found.sd == pytest.approx(math.sqrt(p * (1 - p) / 20))
    assert found.accepted == (1 - scipy.stats.t.ppf(0.95, 9) * found.sd * math.sqrt(0.3) <= 0.95)


@pytest.mark.parametrize(
    ("submitted", "fresh"),
    [
        (RATES[:1], RATES),
        (RATES, []),
        ([], []),
        (RATES, [rate(10, 21)]),
    ],
)
def test_replication_refuses(submitted: Any, fresh: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        replicate(submitted, fresh)
    if len(submitted) < 2 or not fresh:
        with pytest.raises(ValueError, match="expected"):
            replication_power(submitted, len(fresh))


def test_replication_power() -> None:
    found = replication_power(RATES, 10)
    assert found == replication_power(RATES, 10)
    assert 0.01 < found.false_alarm < 0.09
    assert found.false_alarm < found.best_of_2n < found.best_of_5n
    assert found.best_of_5n > 0.9
    more = replication_power(RATES, 30)
    assert more.best_of_2n > found.best_of_2n
    perfect = replication_power([rate(20, 20)] * 10, 5)
    assert 0 <= perfect.false_alarm < 0.1


def test_replication_power_applies_the_rule() -> None:
    """The vectorised simulation rejects as often as `replicate`, honest work and chosen."""
    found = replication_power(RATES, 5)
    known = [rate(k, 20) for k in range(21)]
    rows = runs(6_000, 25, 20, p=161 / 202, sd=max(net_sd(RATES) or 0.0, 1e-3))
    drawn = [[known[k] for k in row] for row in np.rint(rows * 20).astype(int).tolist()]
    honest = [not replicate(row[:10], row[20:]).accepted for row in drawn]
    chosen = [
        not replicate(sorted(row[:20], key=lambda r: r.value)[10:], row[20:]).accepted
        for row in drawn[:2_000]
    ]
    assert np.mean(honest) == pytest.approx(found.false_alarm, abs=0.01)
    assert np.mean(chosen) == pytest.approx(found.best_of_2n, abs=0.04)


# ------------------------------------------------------------------------------- the records


def test_results_are_plain_and_come_back() -> None:
    pair = compare(TEN, np.array(GOOD))  # type: ignore[arg-type]
    data = orjson.loads(orjson.dumps(plain(pair)))
    assert structure(data, Comparison, file="cache") == pair
    for result in (
        mean_interval(np.array(TEN)),  # type: ignore[arg-type]
        bootstrap(TEN),
        verdict(pair),
        rank_intervals("ab", lambda one, other: pair),
        plateau(learning(5, 120, 0.8, 0.8)),
        replicate(RATES, RATES),
        replication_power(RATES, 5),
        Rules(),
    ):
        _only_python(plain(result), result)


def _only_python(data: Any, result: Any) -> None:
    assert orjson.loads(orjson.dumps(data)) == data
    if attrs.has(type(result)):
        for field in attrs.fields(type(result)):
            value = getattr(result, field.name)
            assert type(value).__module__ != "numpy", field.name
            _only_python(plain(value), value)


def test_rules_are_checked() -> None:
    assert structure({"margin": 0.05}, Rules, file="protocol.yml").margin == 0.05
    for wrong in ({"alpha": 0}, {"alpha": math.nan}, {"trim": 0.5}, {"min_runs": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Rules(**wrong)


def test_a_leaderboard_of_known_pairs_needs_neither_numpy_nor_scipy() -> None:
    code = """
import sys
from qn_tracking.inference.pair import Comparison
from qn_tracking.inference.permutation import Permutation
from qn_tracking.inference.interval import mean_interval
from qn_tracking.inference.plateau import plateau
from qn_tracking.inference.rank import rank_intervals
from qn_tracking.inference import interval, replication, run
p = Permutation(p=1e-5, exact=True, arrangements=184756, seed=None, smallest=1e-5)
pair = Comparison(n=10, m=10, delta=.1, welch=None, permutation=p, hedges_g=None, improvement=.9)
assert rank_intervals("ab", lambda one, other: pair)[1].low == 2
assert mean_interval([.5, .6, .7], [10] * 3)
assert plateau([[True] * 100] * 3).state == "plateau"
print(*(name for name in sys.modules if name in {"numpy", "scipy", "cattrs"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "< 0.0001"), (4.59e-16, "< 0.0001"), (0.0000999, "< 0.0001"), (0.0001, "0.0001"),
        (0.000123, "0.00012"), (0.00321, "0.0032"), (0.0321, "0.032"), (0.0999, "0.1"),
        (0.1, "0.10"), (0.456, "0.46"), (1.0, "1.00"), (1, "1.00"),
        # On which side of .05 it is can be seen.
        (0.0496, "0.0496"), (0.049999, "0.049999"), (0.05, "0.05"), (0.0501, "0.05"),
    ],
)  # fmt: skip
def test_a_p_has_one_form_in_every_text(p: float, text: str) -> None:
    assert p_text(p) == text


def test_nothing_else_makes_a_text_of_a_p() -> None:
    root = Path(qn_tracking.__file__).parent
    formatted = re.compile(r"\{(\w+\.)*(\w*_)?p:\.\d")
    found = [path.name for path in root.rglob("*.py") if formatted.search(path.read_text())]
    assert found == ["rules.py"]
