"""Several arms in one study: how they are written, declared, run and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import Program
from qn_tracking import Study
from qn_tracking.errors import QnError, StorageError, UsageError
from qn_tracking.records.codec import plain
from qn_tracking.studies.sweep import choices, factors, parse

LR = "brain.config.learning_rate"


# ------------------------------------------------------------------------------------- the grammar


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2, 3", [1, 2, 3]),
        ("1e-3,0.5,true,null,relu", [0.001, 0.5, True, None, "relu"]),
        ("[1,2],[3]", [[1, 2], [3]]),
        ("{a: 1, b: 2}, {}", [{"a": 1, "b": 2}, {}]),
        ("\"a,b\",'c, d','it''s, so',don't", ["a,b", "c, d", "it's, so", "don't"]),
        ('"a\\"b,c",d', ['a"b,c', "d"]),
        ("range(3)", [0, 1, 2]),
        ("range(4, 10, 3)", [4, 7]),
        ("range(3, 0, -1)", [3, 2, 1]),
        ("range(2),7", [0, 1, 7]),
        ("linspace(0,1,5)", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("linspace(0,8,3)", [0, 4, 8]),
        ("geomspace(8,64,4)", [8, 16, 32, 64]),
        ("geomspace(1e-4,1e-2,5)", [0.0001, 0.000316227766017, 0.001, 0.00316227766017, 0.01]),
        ("geomspace(0.01,0.0001,2)", [0.01, 0.0001]),
        ("geomspace(0.5, 9, 1)", [0.5]),
    ],
)
def test_values_are_written_short(text: str, values: list[Any]) -> None:
    found = parse(text, "--sweep x")
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a value is empty"),
        ("1,,2", "a value is empty"),
        ("1,", "a value is empty"),
        ("[1,2", "] is missing"),
        ("1]", "] without its opening bracket"),
        ("(1]", "] without its opening bracket"),
        ("'a,b", "a quote ' is not closed"),
        ("[1,,,2", "] is missing"),
        ("geomspce(1,2,3)", "unknown function 'geomspce' (did you mean geomspace?)"),
        ("open(1)", "unknown function 'open' (in quotes it is text)"),
        ("geomspace(0,1,3)", "two ends of the same sign"),
        ("geomspace(-1,1,3)", "two ends of the same sign"),
        ("geomspace(1,2)", "expected geomspace(FIRST, LAST, COUNT)"),
        ("linspace(0,1,2.5)", "expected a whole number of values"),
        ("linspace(0,1,0)", "0 values, expected 1 to 1000"),
        ("range(0.5)", "expected whole numbers"),
        ("range(1,2,0)", "the step is 0"),
        ("range(5,1)", "0 values, expected 1 to 1000"),
        ("range(1000000000000)", "expected 1 to 1000"),
        ("range(a)", "expected numbers"),
        ("range()", "a value is empty"),
        ("geomspace(1e-300,1e300,3)", "too large"),
        (".nan", "is not a finite number"),
    ],
)
def test_what_is_malformed_is_one_line(text: str, said: str) -> None:
    with pytest.raises(QnError) as error:
        parse(text, "--sweep x")
    assert said in str(error.value)
    assert str(error.value).startswith("--sweep x: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["a"], "expected FIELD=VALUES"),
        (["=1"], "expected FIELD=VALUES"),
        (["a..b=1"], "expected FIELD=VALUES"),
        (["a=1", "a=2"], "--sweep a: is given twice"),
    ],
)
def test_fields_that_cannot_be(texts: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace(".", r"\.")):
        factors(texts)


def names(labels: list[str], swept: dict[str, Any], *, paired: bool = False) -> list[str]:
    return [one.name for one in choices(labels, swept, paired=paired)]


def test_arms_are_every_combination_or_pairs() -> None:
    two = {"brain.lr": [0.1, 0.2], "seeds.lr": ["a", "b"], "brain.gamma": [1, 2]}
    assert len(names(["x.yml"], two)) == 8
    assert names(["x.yml"], two, paired=True) == [
        "brain.lr=0.1 seeds.lr=a gamma=1",
        "brain.lr=0.2 seeds.lr=b gamma=2",
    ]
    assert names(["d/x.yml", "y.yml"], {"lr": [1, 2]}) == [
        "x lr=1", "x lr=2", "y lr=1", "y lr=2"
    ]  # fmt: skip
    pairs = choices(["x"], {"a": [1, 1, 2], "b": [3, 4, 4]}, paired=True)
    assert [one.name for one in pairs] == ["a=1 b=3", "a=1 b=4", "a=2 b=4"]
    assert names(["a/x.yml", "b/x.yml"], {}) == ["a/x.yml", "b/x.yml"]
    assert names(["config", "config"], {}) == ["config 1", "config 2"]
    (one,) = choices(["x"], {"a": [{"k": "é\n", "n": 1e-05}]})
    assert parse(one.overrides[0].partition("=")[2], "") == [{"k": "é\n", "n": 1e-05}]


@pytest.mark.parametrize(
    ("swept", "paired", "said"),
    [
        ({"seed": [1, 2]}, False, "--seeds gives the seeds that all arms share"),
        ({"episodes": [1, 2]}, False, "all arms have the same number of episodes"),
        ({"a": [1, 2, 1]}, False, "1 is given twice"),
        ({"a": [2, 1, 1.0]}, False, "--sweep a: 1 and 1.0 are the same"),
        ({"a": [True, 1]}, False, "true and 1 are the same"),
        ({"a": [0, -0.0]}, False, "0 and -0.0 are the same"),
        ({"a": [1, "1"]}, False, '1 and "1" are the same'),
        ({"a": ["true", True]}, False, '"true" and true are the same'),
        ({"a": [[1, {"b": 2}], [1.0, {"b": 2.0}]]}, False, "are the same"),
        ({"a": parse("0.1,1e-1", "")}, False, "0.1 is given twice"),
        ({"a": parse("1000,1e3", "")}, False, "1000 and 1000.0 are the same"),
        ({"a": parse("null,~", "")}, False, "null is given twice"),
        ({"a": parse("a,'a'", "")}, False, "a is given twice"),
        ({"a": parse("linspace(0,1,3),1", "")}, False, "1.0 and 1 are the same"),
        ({"a": []}, False, "0 values"),
        ({"a": [1, 2], "b": [1]}, True, "a has 2, b has 1"),
        ({"a": [1, 2]}, True, "--zip needs two fields"),
        ({"a": [1, 2, 1], "b": [3, 4, 3]}, True, "--sweep a, b: 1, 3 is given twice"),
        ({"a": [1, 1.0], "b": [3.0, 3]}, True, "a, b: 1, 3.0 and 1.0, 3 are the same"),
    ],
)
def test_a_sweep_that_makes_no_sense(swept: dict[str, Any], paired: bool, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        choices(["x"], swept, paired=paired)


# -------------------------------------------------------------------------------------- declaring


def test_all_arms_have_the_same_seeds(project: Path) -> None:
    study = Study.declare(
        "small.yml", sweep={LR: "0.1,0.2,0.3"}, seeds=[4, 5], name="lr", baseline="0.2"
    )
    record = Study.load("lr").record
    assert plain(record) == plain(study.record)
    assert record.runs == 6
    assert record.baseline == "learning_rate=0.2"
    assert record.test == "brunner-munzel"
    runs = [(record.arm_of(i).name, record.seed_of(i)) for i in range(6)]
    assert runs == [(arm.name, seed) for seed in (4, 5) for arm in record.arms]
    assert [arm.config.overrides for arm in record.arms] == [{LR: r} for r in (0.1, 0.2, 0.3)]


def test_derived_seeds_are_of_the_task_or_else_of_what_the_arms_share(project: Path) -> None:
    def seeds(values: str, field: str = LR) -> tuple[int, ...]:
        return Study.plan("small.yml", sweep={field: values}, n_seeds=3, seed=1).record.seeds

    assert seeds("0.1,0.2") == seeds("0.3,0.4,0.5") == seeds("8,16", "brain.config.hidden_dim")
    # Of several tasks:
    assert seeds("10,20", "max_steps") == seeds("30,40,50", "max_steps")
    assert seeds("10,20", "max_steps") != seeds("6,7", "environment.static.grid_size")
    assert seeds("10,20", "max_steps") != seeds("0.1,0.2")


@pytest.mark.parametrize(("runs", "test"), [(19, "brunner-munzel"), (20, "guarded paired")])
def test_the_test_that_decides_is_declared(project: Path, runs: int, test: str) -> None:
    def declared(metric: str) -> str | None:
        sweep = {LR: [0.1, 0.2]}
        return Study.plan("small.yml", sweep=sweep, seeds=range(runs), metric=metric).record.test

    assert declared("final_success_rate") == test
    assert declared("reward") == "brunner-munzel"
    assert Study.plan("small.yml", seeds=range(runs)).record.test is None


def test_a_design_that_can_conclude_nothing_says_so_first(qn_run: Program) -> None:
    sweep = ("small.yml", "--sweep", f"{LR}=range(5)", "--seeds", "1-5", "--dry-run")
    done = qn_run(*sweep, "--name", "lr", "--question", "is less more?")
    assert done.returncode == 0, done.stderr
    assert "5 arms x 5 seeds = 25" in done.stdout
    assert "10 comparisons, each arm with each other" in done.stdout
    assert "nothing: 5 runs an arm are too few for 10 comparisons" in done.stdout
    assert "0.079" in done.stdout
    assert "6 runs an arm could conclude something; so could 5, if" in done.stdout
    assert "is less more?" in done.stdout
    done = qn_run(*sweep, "--baseline", "learning_rate=0")
    assert "4 comparisons, each arm with learning_rate=0" in done.stdout
    assert "a difference of" in done.stdout
    about = json.loads(qn_run(*sweep, "--json").stdout)
    assert about["design"]["together"] is None
    assert [arm["overrides"] for arm in about["arms"]] == [{LR: i} for i in range(5)]
    assert not Path("experiments").exists()


def test_a_dry_run_shows_the_seeds_that_will_run(qn_run: Program) -> None:
    def seeds(*args: str) -> str:
        done = qn_run("small.yml", "--sweep", f"{LR}=0.1,0.2", *args, "--dry-run")
        return next(line for line in done.stdout.splitlines() if line.startswith("  seeds"))

    assert seeds("--seeds", "4,5").split()[1:] == ["4,", "5"]
    assert seeds("--n-seeds", "2", "--seed", "1") == seeds("--n-seeds", "2", "--seed", "1")
    assert "drawn at the start (--seed N draws the same ones again)" in seeds("--n-seeds", "2")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["small.yml", "--sweep", f"{LR}=1,2"], "--sweep needs --n-seeds or --seeds"),
        (["small.yml", "--name", "x"], "--name needs --n-seeds or --seeds"),
        (["small.yml", "other.yml"], "2 configurations need --seeds or --n-seeds"),
        (["small.yml", "--sweep", "brain.config.lerning_rate=1,2", "--seeds", "1"],
         "with brain.config.lerning_rate=1: brain.config: unknown key 'lerning_rate'"
         " (did you mean learning_rate?)"),
        (["small.yml", "--sweep", "learning_rate=1,2", "--seeds", "1"], "learning_rate"),
        (["small.yml", "--sweep", f"{LR}=0.1,high", "--seeds", "1"], "with brain.config.learning"),
        (["small.yml", "--sweep", f"{LR}=0.1", "--set", f"{LR}=1", "--seeds", "1"], "is set, too"),
        (["small.yml", "small.yml", "--seeds", "1"],
         "'small 1' and 'small 2' differ in nothing: one configuration"),
        (["whole.yml", "float.yml", "--seeds", "1"],
         "'whole' and 'float' differ in nothing: one configuration"),
        (["study.yml"], f"{LR}: 1 and 1.0 are the same"),
        (["small.yml", "--sweep", f"{LR}=1,1.0", "--seeds", "1"],
         f"--sweep {LR}: 1 and 1.0 are the same"),
        (["small.yml", "nope.yml", "--seeds", "1"], "nope.yml: no such file"),
        (["small.yml", "--sweep", f"{LR}=1,2", "--seeds", "1,1"], "1 is given twice"),
        (["small.yml", "--sweep", f"{LR}=1,2", "--n-seeds", "0"], "expected a whole number from 1"),
        (["small.yml", "--sweep", f"{LR}=1,2", "--zip", "--seeds", "1"], "--zip needs two fields"),
        (["small.yml", "--sweep", f"{LR}=1,2", "--seeds", "1", "--baseline", "lerning_rate=1"],
         "--baseline: 'lerning_rate=1': no such arm (did you mean learning_rate=1?)"),
        (["small.yml", "--sweep", f"{LR}=1,2", "--seeds", "1", "--name", "a b"], "--name: 'a b'"),
        (["small.yml", "--sweep", f"{LR}=1,2", "--save-benchmark", "--yes", "--contributor", "A",
          "--benchmark-notes", ""], "a submission is made of one configuration"),
        (["--resume", "x", "--sweep", "a=1"], "--sweep cannot be combined with --resume"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_writes_nothing(
    project: Path, qn_run: Program, args: list[str], said: str
) -> None:
    small = Path("small.yml").read_text()
    for name, rate in (("whole", 1), ("float", 1.0)):
        config = small.replace("hidden_dim: 8", f"hidden_dim: 8, learning_rate: {rate}")
        Path(f"{name}.yml").write_text(config)
    Path("study.yml").write_text(
        f"study: {{configs: [small.yml], sweep: {{{LR}: [1, 1.0]}}, seeds: [1]}}\n"
    )
    done = qn_run(*args, process=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("experiments").exists()


def test_a_name_is_given_once(project: Path, qn_run: Program) -> None:
    first = Study.declare("small.yml", seeds=[1], episodes=1, name="lr")
    with pytest.raises(UsageError, match=f"lr is taken by the study {first.id}") as error:
        Study.declare("small.yml", seeds=[2], name="lr")
    assert error.value.hint == "qn-run --resume lr goes on with it"
    with pytest.raises(UsageError, match="is the id of something else"):
        Study.declare("small.yml", seeds=[2], name=first.id)
    with pytest.raises(UsageError, match="cannot be the name of a study"):
        Study.declare("small.yml", seeds=[2], name="../lr")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["question"], "which one?"),
        (["baseline"], "learning_rate=0.2"),
        (["test"], "half-run welch"),
        (["seeds"], [4, 6]),
        (["arms", 0, "text"], "max_steps: 31"),
    ],
)
def test_a_study_that_was_changed_is_refused(project: Path, path: list[Any], value: Any) -> None:
    Study.declare("small.yml", sweep={LR: [0.1, 0.2]}, seeds=[4, 5], name="lr")
    (file,) = Path("experiments/studies").glob("*/study.json")
    doc = json.loads(file.read_text())
    inner = doc
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    file.write_text(json.dumps(doc))
    with pytest.raises(StorageError, match="digest: the design was changed after it was declared"):
        Study.load("lr")


# ---------------------------------------------------------------------------------------- running


def test_arms_run_side_by_side_and_go_on(project: Path, qn_run: Program) -> None:
    args = ("small.yml", "--sweep", f"{LR}=0.001,0.1", "--seeds", "7,8", "--episodes", "3")
    done = qn_run(*args, "--jobs", "2", "--name", "lr")
    assert done.returncode == 0, done.stderr
    assert ": 2 arms, 4 runs declared" in done.stderr
    study = Study.load("lr")
    runs = study.results()
    assert [one.seed for one in runs] == [7, 7, 8, 8]
    assert [one.config.overrides[LR] for one in runs] == [0.001, 0.1] * 2
    # Each run is what it would be alone.
    alone = ("--episodes", "3", "--seed", "8", "--json")
    said = qn_run("small.yml", "--set", f"{LR}=0.1", *alone).stdout
    assert json.loads(said)["digests"]["exact"] == runs[3].digests.exact  # type: ignore[union-attr]
    # A run that is gone is run again, by the name of the study.
    Path(f"experiments/{runs[2].id}.json").unlink()
    again = qn_run("--resume", "lr", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["finished"] == 4
    assert study.results()[2].digests == runs[2].digests


def test_progress_is_told_of_every_arm(project: Path) -> None:
    seen: list[Any] = []
    study = Study.plan("small.yml", sweep={LR: [0.1, 0.2]}, seeds=[1, 2], episodes=2)
    study.run(progress=seen.append, stop=lambda: True, warn=lambda _: None)
    assert [arm.name for arm in seen[0].arms] == ["learning_rate=0.1", "learning_rate=0.2"]
    assert str(seen[0]) == "runs 0/4  episodes 0/8  | learning_rate=0.1 0, learning_rate=0.2 0"
