"""The summary of a run, taken in one pass with flat memory, against the plain definitions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from hashlib import sha256

import pytest
from hypothesis import given, settings, strategies as st

from qn_tracking.inference.proportion import final_window
from qn_tracking.inference.run import final_success
from qn_tracking.records.codec import canonical
from qn_tracking.records.model import Digests, Episode, FrozenDict
from qn_tracking.records.stats import CHUNK, CURVE_POINTS, Tally


def episode(index: int, **fields: object) -> Episode:
    exact = canonical({"index": index, **fields})
    for name in ("counts", "metrics"):
        if name in fields:
            fields[name] = FrozenDict(fields[name])  # type: ignore[call-overload]
    return Episode(index=index, exact=exact, **fields)  # type: ignore[arg-type]


def tally(*episodes: Episode) -> Tally:
    out = Tally()
    for one in episodes:
        out.add(one)
    return out


@pytest.mark.parametrize(
    ("n", "k"), [(0, 0), (5, 5), (20, 20), (50, 20), (100, 20), (101, 21), (200, 40)]
)
def test_the_final_window(n: int, k: int) -> None:
    assert final_window(n) == k


@settings(deadline=None)
@given(st.lists(st.floats(-1e12, 1e12), min_size=2, max_size=3 * CHUNK))
def test_spread_agrees_with_the_definitions(rewards: list[float]) -> None:
    results = tally(*(episode(i, reward=r) for i, r in enumerate(rewards))).results()
    spread = results.metrics["reward"]
    scale = max(map(abs, rewards)) + 1e-300
    assert spread.n == len(rewards)
    assert math.isclose(spread.mean, statistics.fmean(rewards), rel_tol=1e-9, abs_tol=1e-12 * scale)
    assert spread.sd is not None
    assert math.isclose(
        spread.sd, statistics.stdev(rewards), rel_tol=1e-6, abs_tol=1e-6 * scale + 1e-150
    )
    assert (spread.min, spread.max) == (min(rewards), max(rewards))


def test_a_mean_of_finite_numbers_is_finite() -> None:
    results = tally(*(episode(i, reward=1e308) for i in range(3 * CHUNK))).results()
    assert math.isclose(results.avg_reward or 0, 1e308)
    mixed = tally(*(episode(i, reward=(-1) ** i * 1.7e308) for i in range(3 * CHUNK))).results()
    assert math.isfinite(mixed.avg_reward or 0)


def test_numbers_that_are_not_finite_show() -> None:
    rewards = (1.0, float("nan"), 3.0)
    spread = (
        tally(*(episode(i, reward=r) for i, r in enumerate(rewards))).results().metrics["reward"]
    )
    assert math.isnan(spread.mean)
    assert spread.sd is None
    assert (spread.min, spread.max) == (1.0, 3.0)
    endless = tally(*(episode(i, reward=r) for i, r in enumerate((1.0, math.inf)))).results()
    assert endless.avg_reward == math.inf


def test_rates_are_over_the_episodes_that_have_them() -> None:
    flags = [None, True, False, *([False] * 10), *([True] * 20)]
    results = tally(*(episode(i, success=flag) for i, flag in enumerate(flags))).results()
    assert results.episodes == 33
    assert results.success_rate == 21 / 32
    assert (results.final_success_rate, results.final_window) == (1.0, 20)


def test_what_does_not_apply_is_absent() -> None:
    results = tally(episode(0), episode(1, metrics={"loss": 2.0})).results()
    assert results.success_rate is None
    assert results.avg_reward is None
    assert results.total_steps is None
    assert results.curve == ()
    assert results.metrics["loss"].n == 1
    assert tally().results().episodes == 0


@given(st.lists(st.booleans(), max_size=3 * CHUNK))
def test_the_curve_is_short_and_means_the_same(flags: list[bool]) -> None:
    results = tally(*(episode(i, success=flag) for i, flag in enumerate(flags))).results()
    assert len(results.curve) <= CURVE_POINTS
    assert all(0 <= point <= 1 for point in results.curve)
    if flags:
        width = -(-len(flags) // CURVE_POINTS)
        sizes = [min(width, len(flags) - i) for i in range(0, len(flags), width)]
        total = sum(point * size for point, size in zip(results.curve, sizes, strict=True))
        assert math.isclose(total, sum(flags), abs_tol=1e-9)


def test_digests_see_what_they_should() -> None:
    base = episode(0, success=True, steps=3, reward=1.0, termination="goal", counts={"foods": 2})
    same = tally(base).digests()
    assert tally(base).digests() == same
    other_reward = episode(
        0, success=True, steps=3, reward=1.5, termination="goal", counts={"foods": 2}
    )
    changed = tally(other_reward).digests()
    assert changed.exact != same.exact
    assert changed.outcome == same.outcome
    other_count = episode(
        0, success=True, steps=3, reward=1.0, termination="goal", counts={"foods": 1}
    )
    assert tally(other_count).digests().outcome != same.outcome


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, "goal", "],[", '"],["', "]\n["]),
            st.dictionaries(st.sampled_from(["b", "a", "],["]), st.integers(0, 9)),
        ),
        max_size=CHUNK + 9,
    )
)
def test_the_digests_are_of_a_line_for_each_episode(
    ends: list[tuple[str | None, dict[str, int]]],
) -> None:
    episodes = [episode(i, termination=t, counts=c) for i, (t, c) in enumerate(ends)]
    exact = b"".join(one.exact + b"\n" for one in episodes)
    outcome = b"".join(
        canonical([one.index, one.success, one.termination, one.steps, one.counts]) + b"\n"
        for one in episodes
    )
    assert tally(*episodes).digests() == Digests(
        exact=sha256(exact).hexdigest(), outcome=sha256(outcome).hexdigest()
    )


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.floats(0, 1)), max_size=2 * CHUNK))
def test_means_are_over_the_episodes_with_the_metric(metrics: list[dict[str, float]]) -> None:
    found = tally(*(episode(i, metrics=one) for i, one in enumerate(metrics))).results().metrics
    assert list(found) == list(dict.fromkeys(key for one in metrics for key in one))
    for key, spread in found.items():
        values = [one[key] for one in metrics if key in one]
        assert spread.n == len(values)
        assert spread.mean == pytest.approx(statistics.fmean(values))


def test_digests_do_not_depend_on_when_they_are_asked_for() -> None:
    episodes = [episode(i, success=i % 2 == 0, reward=i / 7) for i in range(600)]
    asked = Tally()
    for one in episodes:
        asked.add(one)
        if one.index % 97 == 0:
            asked.digests()
    assert asked.digests() == tally(*episodes).digests()


@pytest.mark.parametrize("unknown", [(), (0,), (5, 6, 7), range(0, 90, 2), range(99)])
def test_the_final_rate_is_over_episodes_that_succeed_or_fail(unknown: Iterable[int]) -> None:
    """A run has one final rate, wherever it is computed."""
    flags = [None if i in set(unknown) else i % 3 == 0 for i in range(100)]
    known = [flag for flag in flags if flag is not None]
    window = min(len(known), 20)
    results = tally(*(episode(i, success=flag) for i, flag in enumerate(flags))).results()
    final = final_success(flags)
    assert results.final_window == final.episodes == window
    assert results.final_success_rate == final.value == sum(known[-window:]) / window
    assert final_success([None, None]).value == 0


def test_a_metric_of_the_host_never_replaces_a_computed_one() -> None:
    own = {"reward": 9, "steps": 9, "final_success_rate": 9}
    results = tally(
        *(
            episode(i, success=True, steps=2, reward=1.0, counts=dict(own), metrics={"steps": 7.0})
            for i in range(30)
        )
    ).results()
    assert (results.final_success_rate, results.avg_steps, results.avg_reward) == (1.0, 2.0, 1.0)
    assert {name: spread.mean for name, spread in results.metrics.items()} == {
        "steps": 2.0,
        "reward": 1.0,
        "counts.reward": 9.0,
        "counts.steps": 9.0,
        "counts.final_success_rate": 9.0,
        "metrics.steps": 7.0,
    }
