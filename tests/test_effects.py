"""Main effects of a grid: what each factor does by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from conftest import Program
from qn_tracking import Recorder, Study, make_manager
from qn_tracking.records.model import Membership
from qn_tracking.store.studies import run_id
from qn_tracking.studies.arms import Side, table
from qn_tracking.studies.effects import main_effects

numbers = st.floats(-100, 100).map(lambda value: round(value, 3))


def rows(of: dict[str, dict[int, float]]) -> Any:
    sides = [
        Side(
            name=name,
            declared=len(values),
            docs=tuple(
                {
                    "id": f"{name}{seed}",
                    "status": "completed",
                    "seed": seed,
                    "results": {"metrics": {"score": {"mean": value}}},
                }
                for seed, value in values.items()
            ),
        )
        for name, values in of.items()
    ]
    found = table(sides, "score")
    return sorted(found.rows, key=lambda row: found.order.index(row.name))


def grid(a: list[float], b: list[float], seeds: list[float]) -> tuple[Any, dict[str, Any]]:
    """Arms whose score is the sum of an effect of a, one of b, and one of the seed."""
    names = {f"{i} {j}": (i, j) for i in range(len(a)) for j in range(len(b))}
    scores = {
        name: {seed: a[i] + b[j] + each for seed, each in enumerate(seeds)}
        for name, (i, j) in names.items()
    }
    return rows(scores), {name: {"m.a": i, "m.b": j} for name, (i, j) in names.items()}


@given(
    a=st.lists(numbers, min_size=2, max_size=3),
    b=st.lists(numbers, min_size=1, max_size=3),
    seeds=st.lists(numbers, min_size=2, max_size=5),
)
def test_effects_that_add_up_are_found_whatever_the_seeds_do(
    a: list[float], b: list[float], seeds: list[float]
) -> None:
    found = main_effects(*grid(a, b, seeds), "score")
    expected = [("a", i, a[i] - a[0]) for i in range(1, len(a))]
    expected += [("b", j, b[j] - b[0]) for j in range(1, len(b))]
    assert [(one.factor, one.level) for one in found] == [(f, str(i)) for f, i, _ in expected]
    assert [one.delta for one in found] == pytest.approx([d for *_, d in expected], abs=1e-6)
    assert all(one.seeds == len(seeds) for one in found)


def test_an_interval_is_over_seeds() -> None:
    values = {"0 0": [1, 2, 3], "0 1": [1, 2, 3], "1 0": [2, 4, 3], "1 1": [2, 2, 5]}
    _, names = grid([0, 0], [0, 0], [0, 0, 0])
    arms = rows({name: dict(enumerate(map(float, some))) for name, some in values.items()})
    (a, b) = main_effects(arms, names, "score")
    assert a.delta == pytest.approx(1.0)  # 1, 1 and 1 for the three seeds
    assert (a.low, a.high) == (None, None)  # which do not differ
    assert b.low is not None
    assert b.low < b.delta < b.high  # type: ignore[operator]


@pytest.mark.parametrize(
    ("arms", "why"),
    [
        ({"0 0": 1.0, "1 1": 2.0}, "no whole grid: one factor could be the other"),
        ({"0 0": 1.0, "0 1": 2.0, "1 0": 3.0}, "a cell is missing"),
    ],
)
def test_what_is_no_whole_grid_has_no_effects(arms: dict[str, float], why: str) -> None:
    names = {name: dict(zip(("a", "b"), name.split(), strict=True)) for name in arms}
    found = rows({name: {1: value, 2: value} for name, value in arms.items()})
    assert main_effects(found, names, "score") == (), why


def test_show_says_them_of_a_study(project: Path, qn_exp: Program) -> None:
    study = Study.script(
        ["sh", "-c", "{a} {b} {seed}"], sweep={"a": [1, 2], "b": [0.1, 0.5]}, seeds=[1, 2, 3],
        name="grid",
    )  # fmt: skip
    study.save()
    for index in range(study.record.runs):
        values = study.record.arm_of(index).config.data["values"]
        run = Recorder(
            {"x": 1},
            manager=make_manager(("json_storage",)),
            seed=study.record.seed_of(index),
            experiments_dir="experiments",
            id=run_id(study.id, index, 0),
            study=Membership(id=study.id, index=index, attempt=0),
        )
        with run:
            for episode in range(20):
                run.episode(success=episode < 20 * values["b"] * values["a"])
    shown = qn_exp("show", "grid").stdout
    assert "main effects, each over all other factors, seed by seed (3); no verdict:" in shown
    assert "- a 2 against 1: +30 points [" in shown
    assert "- b 0.5 against 0.1: +60 points [" in shown
    effects = json.loads(qn_exp("show", "grid", "--json").stdout)["effects"]
    assert [one["factor"] for one in effects] == ["a", "b"]
    assert study.effects()[0].delta == pytest.approx(0.3)
