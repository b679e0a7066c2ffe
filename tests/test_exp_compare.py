"""`qn-exp compare`, `diff` and `best`: what differs, and what may be concluded from it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from conftest import Program
from qn_tracking import track
from qn_tracking.studies import comparison
from qn_tracking.studies.comparison import ABSENT, PRIMARY

Make = Callable[..., str]


@pytest.fixture
def make(project: Path) -> Make:
    """Records a run of chance in `experiments`: its configuration, seed, and chance of success."""

    def call(
        config: dict[str, Any], seed: int, chance: float = 0.5, episodes: int = 50, **options: Any
    ) -> str:
        dice = random.Random(f"{seed} {chance}")
        options = {"blocked": ["metadata"], **options}
        with track(config, seed=seed, warn=lambda text: None, **options) as run:
            for _ in range(episodes):
                won = dice.random() < chance
                run.episode(success=won, steps=dice.randint(1, 9), reward=dice.gauss(won, 0.1))
            return run.id

    return call


def _json(qn_exp: Program, *args: str) -> Any:
    done = qn_exp(*args, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _fields(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {row["field"]: row["values"] for row in rows}


# ----------------------------------------------------------------------------------------- compare


def test_every_difference_of_the_configuration_is_told(make: Make, qn_exp: Program) -> None:
    one = make({"policy": {"epsilon": 0.1, "layers": [8, 8]}, "gone": None, "same": 1}, 1)
    two = make({"policy": {"epsilon": 0.2, "layers": [8, 9]}, "new": {}, "same": 1.0}, 1)
    found = _json(qn_exp, "compare", one, two)
    rows = found["differences"]["configuration"]
    assert _fields(rows) == {
        "policy.epsilon": [0.1, 0.2],
        "policy.layers": [[8, 8], [8, 9]],
        "gone": [None, None],
        "new": [None, {}],
    }
    assert {row["field"]: row["present"] for row in rows}["gone"] == [True, False]
    assert found["differences"]["packages"] == found["differences"]["system"] == []
    assert "same" in _fields(
        _json(qn_exp, "compare", one, two, "--all")["differences"]["configuration"]
    )
    shown = qn_exp("compare", one, two).stdout
    assert re.search(r"policy\.epsilon +0\.1 +0\.2\n", shown)
    assert re.search(r"gone +null +-\n", shown)
    assert "same" not in re.findall(r"^\S+", shown, re.MULTILINE)


def test_two_single_runs_support_no_conclusion_however_far_apart(
    make: Make, qn_exp: Program
) -> None:
    one = make({"a": 1}, 1, chance=0.02, episodes=400)
    two = make({"a": 2}, 2, chance=0.98, episodes=400)
    found = _json(qn_exp, "compare", one, two)
    assert found["better"] is None
    assert "one run each, but 5 or more of each are needed" in found["conclusion"]
    rate = next(m for m in found["metrics"] if m["metric"] == "success_rate")
    first, second = rate["values"]
    assert first["low"] < first["value"] < first["high"] < second["low"]
    assert first["episodes"] == 400
    assert rate["delta"] == pytest.approx(second["value"] - first["value"])
    assert rate["low"] < rate["delta"] < rate["high"]
    reward = next(m for m in found["metrics"] if m["metric"] == "reward")
    assert reward["delta"] is not None
    assert reward["low"] is None


def test_what_is_identical_is_said(make: Make, qn_exp: Program) -> None:
    one, same = make({"a": 1}, 1), make({"a": 1}, 1)
    other = make({"a": 1}, 2)
    found = _json(qn_exp, "compare", one, other, same)
    assert found["identical"] == [[one, same]]
    assert found["same_outcome"] == []
    assert "A and C are identical" in qn_exp("compare", one, other, same).stdout
    assert "it is the same run" in qn_exp("compare", one, same).stdout


def test_the_same_outcome_with_other_floats_is_said(project: Path, qn_exp: Program) -> None:
    ids = []
    for reward in (0.1 + 0.2, 0.3):
        with track({"a": 1}, seed=1, warn=lambda text: None) as run:
            run.episode(success=True, steps=3, reward=reward)
        ids.append(run.id)
    found = _json(qn_exp, "compare", *ids)
    assert found["identical"] == []
    assert found["same_outcome"] == [ids]
    assert "differ in rewards or metrics only" in qn_exp("compare", *ids).stdout


def test_packages_are_compared_by_name_where_the_lists_are_here(
    make: Make, qn_exp: Program, project: Path
) -> None:
    one, two = (make({"a": 1}, seed, blocked=[]) for seed in (1, 2))
    path = project / "experiments" / "runs" / two / "packages.txt"
    if not path.exists():
        pytest.skip("the list of packages was not ready when the run ended")
    assert _json(qn_exp, "compare", one, two)["packages_by"] == "name"
    path.write_text("attrs==1\n")  # no longer the list that the record names
    done = qn_exp("compare", one, two, "--json")
    assert "not the list that the record names" in done.stderr
    assert json.loads(done.stdout)["packages_by"] == "digest"


def _runs(make: Make, config: dict[str, Any], chance: float, seeds: Sequence[int]) -> list[str]:
    return [make(config, seed, chance) for seed in seeds]


def test_better_is_said_of_enough_runs_that_support_it(make: Make, qn_exp: Program) -> None:
    low = _runs(make, {"a": 1}, 0.3, range(5))
    high = _runs(make, {"a": 2}, 0.9, range(10, 15))
    found = _json(qn_exp, "compare", *low, *high)
    names = [group["name"] for group in found["groups"]]
    assert [len(group["runs"]) for group in found["groups"]] == [5, 5]
    assert found["better"] == {"group": names[1], "than": names[0], "metric": PRIMARY}
    (pair,) = next(m for m in found["metrics"] if m["metric"] == PRIMARY)["pairs"]
    test = pair["comparison"]
    assert test["permutation"]["p"] == pytest.approx(2 / 252)  # all 252 arrangements, no ties
    assert test["welch"]["low"] < test["delta"] < test["welch"]["high"]
    assert test["improvement"] == 1
    # Nobody knows whether more steps are better.
    (steps,) = next(m for m in found["metrics"] if m["metric"] == "steps")["pairs"]
    assert steps["verdict"] is None
    # One test decides; the others are shown without a verdict.
    page = qn_exp("compare", "--by", "config", *low, *high).stdout
    assert f"{names[1]} usually beats {names[0]}: p 0.0079" in page
    everything = qn_exp("compare", "--by", "config", *low, *high, "--all").stdout
    assert "differences, conventional" in everything
    assert "BETTER" not in everything
    # The other way around, the same one is better.
    assert _json(qn_exp, "compare", *high, *low)["better"]["group"] == names[1]
    # A table of the ten runs, if asked for.
    assert len(_json(qn_exp, "compare", "--ungrouped", *low, *high)["experiments"]) == 10


def test_four_runs_a_side_are_not_enough(make: Make, qn_exp: Program) -> None:
    low = _runs(make, {"a": 1}, 0.3, range(4))
    high = _runs(make, {"a": 2}, 0.9, range(10, 14))
    found = _json(qn_exp, "compare", *low, *high)
    assert found["better"] is None
    assert "fewer than 5 runs" in found["conclusion"]


def test_a_run_counts_once_and_only_whole(make: Make, qn_exp: Program) -> None:
    low = _runs(make, {"a": 1}, 0.3, range(3))
    high = _runs(make, {"a": 2}, 0.9, range(3))
    again = make({"a": 2}, 1, 0.9)
    with pytest.raises(ZeroDivisionError), track({"a": 2}, seed=9, warn=lambda _: None) as run:
        run.episode(success=True)
        raise ZeroDivisionError
    found = _json(qn_exp, "compare", *low, *high, again, run.id)
    assert [len(group["runs"]) for group in found["groups"]] == [3, 3]
    causes = {one["id"]: one["cause"] for one in found["left_out"]}
    assert causes[again].startswith("repeats a run")
    assert causes[run.id] == "failed, not a whole run"


def test_groups_by_any_field_and_by_filters(make: Make, qn_exp: Program) -> None:
    for seed in range(2):
        for way in ("left", "right"):
            make({"a": {"way": way}}, seed, tags={"sweep": "ways"})
    found = _json(qn_exp, "compare", "--by", "a.way", "--tag", "sweep=ways")
    assert [group["name"] for group in found["groups"]] == ["left", "right"]
    assert _fields(found["differences"]["configuration"]) == {"a.way": ["left", "right"]}


@pytest.mark.parametrize(
    ("args", "cause"),
    [
        (["@1"], "only one matching experiment"),
        ([], "no experiments given"),
        (["@1", "@2", "--family", "quantum"], "ids and --family together"),
        (["@1", "@2", "--by", "a."], "--by"),
        (["@1", "@2", "--by", "config", "--ungrouped"], "--by and --ungrouped"),
        (["@1", "nope"], "no experiment 'nope'"),
    ],
)
def test_what_makes_no_sense_is_usage(
    make: Make, qn_exp: Program, args: list[str], cause: str
) -> None:
    make({"a": 1}, 1)
    make({"a": 1}, 2)
    done = qn_exp("compare", *args)
    assert done.returncode == 2
    assert cause in done.stderr
    assert done.stderr.count("\n") == 1


def test_hostile_text_is_escaped_and_columns_keep_to_the_terminal(
    make: Make, qn_exp: Program
) -> None:
    one = make({"note": "\x1b]0;gotcha\x07\u202etxt", "long": "x" * 500}, 1)
    two = make({"note": "[/nope] 日本語", "long": "y" * 500}, 1)
    done = qn_exp("compare", one, two, env={"COLUMNS": "60"})
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    tables = [line for line in done.stdout.splitlines() if re.match(r"(note|long|success)", line)]
    assert tables
    assert max(len(line) for line in tables) <= 60
    assert "[/nope]" in qn_exp("compare", one, two).stdout
    exact = _fields(_json(qn_exp, "compare", one, two)["differences"]["configuration"])
    assert exact["note"] == ["\x1b]0;gotcha\x07\u202etxt", "[/nope] 日本語"]


LEAF = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text(max_size=3)
TREE = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(TREE, TREE)
@settings(max_examples=200, deadline=None)
def test_differences_are_none_exactly_where_the_data_are_equal(one: Any, other: Any) -> None:
    sides = [comparison.leaves({"top": side}) for side in (one, other)]
    same = all(row.same for row in comparison.differences(sides))

    def exact(value: Any) -> Any:
        """With true told from 1, as JSON does."""
        if isinstance(value, dict):
            return {key: exact(item) for key, item in value.items()}
        if isinstance(value, list):
            return [exact(item) for item in value]
        return ("bool", value) if isinstance(value, bool) else value

    assert same == (exact(one) == exact(other))


@given(st.lists(st.dictionaries(st.sampled_from("abc"), LEAF), min_size=2, max_size=4))
def test_differences_have_every_field_of_every_side(sides: list[dict[str, Any]]) -> None:
    rows = comparison.differences(sides)
    assert {row.field for row in rows} == {key for side in sides for key in side}
    for row in rows:
        for side, value in zip(sides, row.values, strict=True):
            assert (value is ABSENT) == (row.field not in side)


# -------------------------------------------------------------------------------------------- diff


def test_diff_is_of_the_texts_and_resolved_of_what_ran(qn_run: Program, qn_exp: Program) -> None:
    Path("other.yml").write_text(
        Path("small.yml").read_text().replace("hidden_dim: 8", "hidden_dim: 9")
    )
    for name in ("small.yml", "other.yml"):
        done = qn_run(name, "--episodes", "1", "--seed", "1", "--track-experiment", "--quiet")
        assert done.returncode == 0
    done = qn_exp("diff", "@2", "@1")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("--- ")
    assert lines[0].endswith("/small.yml")
    assert "-  config: {hidden_dim: 8, num_hidden_layers: 1}" in lines
    assert "+  config: {hidden_dim: 9, num_hidden_layers: 1}" in lines
    assert qn_exp("diff", "@2", "@1", "--exit-code").returncode == 1
    assert "-    hidden_dim: 8" in qn_exp("diff", "@2", "@1", "--resolved").stdout
    same = qn_exp("diff", "@1", "@1", "--exit-code")
    assert same.returncode == 0
    assert same.stdout == "the texts are the same\n"


def test_diff_shows_overrides_where_the_texts_are_the_same(
    qn_run: Program, qn_exp: Program
) -> None:
    for gamma in ("0.9", "0.8"):
        qn_run(
            "small.yml",
            "--episodes",
            "1",
            "--set",
            f"brain.config.gamma={gamma}",
            "--track-experiment",
        )
    found = _json(qn_exp, "diff", "@2", "@1")
    assert found["kind"] == "resolved"
    assert found["same"] is False
    assert {"-    gamma: 0.9", "+    gamma: 0.8"} <= set(found["diff"])


def test_diff_without_the_texts_says_so_and_compares_what_ran(make: Make, qn_exp: Program) -> None:
    import shutil

    one, two = make({"a": {"b": 1}}, 1), make({"a": {"b": 2}}, 1)
    shutil.rmtree(Path("experiments/runs") / one)
    done = qn_exp("diff", one, two)
    assert done.returncode == 0
    assert "the text of its configuration is not here" in done.stderr
    assert "-  b: 1\n+  b: 2" in done.stdout


def test_a_text_that_is_not_the_one_recorded_is_refused(make: Make, qn_exp: Program) -> None:
    one, two = make({"a": 1}, 1), make({"a": 2}, 1)
    (Path("experiments/runs") / one / "config.yml").write_text("a: 2\n")
    done = qn_exp("diff", one, two)
    assert done.returncode == 3
    assert "is not the text that the record names" in done.stderr


# -------------------------------------------------------------------------------------------- best


def test_best_of_each_group_and_ties_go_to_the_first(make: Make, qn_exp: Program) -> None:
    make({"kind": "a"}, 1, chance=0.2)
    best_a = make({"kind": "a"}, 2, chance=0.9)
    tie = make({"kind": "b"}, 3, chance=0.5)
    make({"kind": "b"}, 3, chance=0.5)
    make({"kind": "c"}, 4, chance=1.0, episodes=3)
    found = _json(
        qn_exp,
        "best",
        "--single",
        "--metric",
        "success_rate",
        "--within",
        "kind",
        "--min-episodes",
        "10",
    )
    assert [(one["group"], one["id"], one["of"]) for one in found["best"]] == [
        (["a"], best_a, 2),
        (["b"], tie, 2),
    ]
    assert found["metric"] == "results.success_rate"
    lowest = _json(
        qn_exp, "best", "--single", "--metric", "success_rate", "--within", "kind", "--lowest"
    )["best"]
    assert lowest[0]["id"] != best_a
    assert len(lowest) == 3
    assert "luckiest" in qn_exp("best", "--single", "--metric", "reward").stdout


@pytest.mark.parametrize("field", ["reward", "results.metrics.loss.mean", "results.avg_reward"])
def test_what_is_not_finite_is_sorted_by_its_size_and_nan_last(
    project: Path, qn_exp: Program, field: str
) -> None:
    infinity = float("inf")
    ids = {}
    for i, value in enumerate((1.0, -infinity, 3.0, infinity, float("nan"), -5.0, None)):
        with track({"i": i}, seed=i, blocked=["metadata"], warn=lambda text: None) as run:
            if value is None:
                run.episode(steps=1)
            else:
                run.episode(steps=1, reward=value, loss=value)
        ids[run.id] = value
    kept = [ids[row["id"]] for row in _json(qn_exp, "list", "--sort", field)["experiments"]]
    assert str(kept) == str([infinity, 3.0, 1.0, -5.0, -infinity, float("nan"), None])
    kept = [
        ids[row["id"]] for row in _json(qn_exp, "list", "--sort", f"{field}:asc")["experiments"]
    ]
    assert str(kept) == str([-infinity, -5.0, 1.0, 3.0, infinity, float("nan"), None])


def test_best_names_what_is_not_finite(project: Path, qn_exp: Program) -> None:
    ids = []
    for i, value in enumerate((1.0, float("inf"), float("nan"))):
        with track({"i": 0}, seed=i, blocked=["metadata"], warn=lambda text: None) as run:
            run.episode(reward=value)
        ids.append(run.id)
    found = _json(qn_exp, "best", "--single", "--metric", "reward", "--within", "config")
    assert [one["id"] for one in found["best"]] == [ids[0]]
    assert found["not_finite"] == {ids[1]: "Infinity", ids[2]: "NaN"}
    said = qn_exp("best", "--metric", "reward").stdout
    assert f"left out, as not finite: {ids[1]} (Infinity), {ids[2]} (NaN)" in said


def test_best_by_any_metric_and_a_wrong_one_names_the_others(make: Make, qn_exp: Program) -> None:
    id = make({"a": 7}, 1)
    assert _json(qn_exp, "best", "--single", "--metric", "a")["best"][0]["value"] == 7
    assert (
        _json(qn_exp, "best", "--single", "--metric", "results.metrics.reward.max")["best"][0]["id"]
        == id
    )
    for args, hint in (
        (["--metric", "rewad"], "reward"),
        (["--metric", "reward", "--by", "rewad"], "--by"),
    ):
        done = qn_exp("best", *args)
        assert done.returncode == 2
        assert hint in done.stderr
        assert done.stderr.count("\n") == 1
