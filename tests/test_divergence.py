"""Where two runs begin to differ: in the episodes of a phase, and in what was logged."""

from __future__ import annotations

from math import inf, nan
from typing import Any

from hypothesis import given, strategies as st

from qn_tracking.cli.exp_rerun import in_a_line
from qn_tracking.records.divergence import (
    Divergence,
    SeriesDivergence,
    first_of_phases,
    of_series,
)
from qn_tracking.records.model import Digests, Episode, Logged, of_phase
from qn_tracking.records.series import logged
from qn_tracking.reproduce.rerun import Plan, Rerun


def calls(*values: float, name: str = "loss", step: int = 0) -> list[Logged]:
    return [logged(step + n, 0, 0.5, {name: value}) for n, value in enumerate(values)]


def episode(phase: str, index: int, reward: float, after: int = 0) -> Episode:
    return of_phase(Episode(index=index, reward=reward), phase, after)


@given(st.lists(st.floats()))
def test_a_series_is_the_same_as_itself_with_every_nan_and_zero(values: list[float]) -> None:
    assert of_series(calls(*values), calls(*values)) == ({"loss": None} if values else {})


def test_the_first_point_that_differs_is_named_with_its_field() -> None:
    def first(one: list[Logged], other: list[Logged]) -> tuple[object, ...]:
        found = of_series(one, other)["loss"]
        assert found is not None
        return found.point, found.step, found.field, found.first, found.second, found.present

    both = (True, True)
    assert first(calls(1.0, nan, 3.0), calls(1.0, nan, inf)) == (2, 2, "value", 3.0, inf, both)
    assert first(calls(0.0), calls(-0.0)) == (0, 0, "value", 0.0, -0.0, both)
    assert first(calls(1.0, step=4), calls(1.0, step=5)) == (0, 4, "step", 4, 5, both)
    assert first(calls(1.0, 2.0), calls(1.0)) == (1, 1, "point", None, None, (True, False))
    assert first(calls(1.0), calls(1.0, 2.0)) == (1, 1, "point", None, None, (False, True))


def test_of_a_run_that_ended_early_its_beginning_is_compared() -> None:
    more = [*calls(1.0, 2.0), *calls(5.0, name="late")]
    assert of_series(calls(1.0), more, beginning=True) == {"loss": None}
    assert isinstance(of_series(calls(1.0), more)["late"], SeriesDivergence)
    assert of_series(calls(1.0, 2.0), calls(1.0), beginning=True)["loss"] is not None


def test_the_phase_of_the_first_difference_is_named() -> None:
    first = [episode("a", 0, 1.0), episode("b", 0, 2.0)]
    assert first_of_phases(first, [episode("b", 0, 2.0), episode("a", 0, 1.0)]) is None
    found = first_of_phases(first, [episode("a", 0, 1.0), episode("b", 0, 2.5)])
    assert found is not None
    assert (found.phase, found.field, found.first, found.second) == ("b", "reward", 2.0, 2.5)
    later = first_of_phases(first, [episode("a", 0, 1.0, after=3), episode("b", 0, 2.0)])
    assert later is not None
    assert (later.phase, later.field) == ("a", "after")
    gone = first_of_phases(first, [episode("a", 0, 1.0)])
    assert gone is not None
    assert (gone.phase, gone.field, gone.present) == ("b", "episode", (True, False))


def test_one_of_several_runs_is_a_line() -> None:
    plan = Plan(
        origin="a",
        config="c",
        digest=None,
        seed=1,
        planned=1,
        episodes=1,
        compared_by="episode",
        commit=None,
        patch=False,
        packages=None,
    )
    differs = SeriesDivergence(point=0, step=3, field="value", first=1.0, second=2.0)
    digests = Digests(exact="e", outcome="o")

    def line(**found: Any) -> str:
        return in_a_line("a", Rerun(plan=plan, digests=digests, **found))

    assert line(outcome="identical", series={"loss": None}) == "a: identical"
    series = {"loss": None, "speed": differs}
    assert line(outcome="identical", series=series) == "a: identical, 1 of 2 series differ"
    first = Divergence(episode=2, field="reward", first=1.0, second=2.0, phase="frozen")
    assert line(outcome="different", first_difference=first) == (
        "a: different, first at phase frozen, episode 2: reward: 1.0, now 2.0"
    )
