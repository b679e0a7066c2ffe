"""`qn-exp check`: whether the arms of a study are where they are expected."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st

from conftest import SMALL, Program, command
from qn_tracking import ConfigError, Study
from qn_tracking.api.expected import expected_range
from test_docs import COMMANDS, block
from test_study_arms import declared, finish, rates

FILE = "ranges.yml"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of three arms of six runs, with success rates of .2, .5 and .8."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path("small.yml").write_text(SMALL)
        finish(declared(3, 6), rates(0.2, 0.5, 0.8))
    return place


@pytest.fixture
def study(project: Path, made: Path) -> Study:
    """The study, in a copy of its folder."""
    shutil.copytree(made, project, dirs_exist_ok=True)
    return Study.load("lr")


def test_a_study_is_in_the_ranges_that_were_written_from_it(study: Study, qn_exp: Program) -> None:
    done = qn_exp("check", "lr", "--expect", FILE, "--update")
    assert (done.returncode, done.stdout) == (0, "saved ranges of 3 arms to ranges.yml\n")
    done = qn_exp("check", "lr", "--expect", FILE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 arms are in their ranges (final_success_rate)\n"
    assert study.check(FILE).left == ()


def test_one_line_for_each_arm_that_left_its_range(study: Study, qn_exp: Program) -> None:
    Path(FILE).write_text(
        "arms:\n"
        "  learning_rate=0.1: {final_success_rate: [0.5, 0.6]}\n"
        "  learning_rate=0.2: {final_success_rate: [0, 1], reward: [0, 0.25]}\n"
        "  learning_rate=0.3: {final_success_rate: [0, 1]}\n"
    )
    done = qn_exp("check", "lr", "--expect", FILE)
    below, above, summary = done.stdout.splitlines()
    assert done.returncode == 1
    assert below.startswith("learning_rate=0.1: final_success_rate ")
    assert below.endswith(" is below 50.0% to 60.0% (the mean of 6 of 6 runs)")
    assert above.startswith("learning_rate=0.2: reward ")
    assert " is above 0 to 0.25 " in above
    assert summary == "2 of 3 arms not as expected (final_success_rate, reward)"
    doc = json.loads(qn_exp("check", "lr", "--expect", FILE, "--json").stdout)
    assert (doc["ok"], [one["sentence"] is None for one in doc["ranges"]]) == (
        False,
        [False, True, False, True],
    )


def test_arms_without_runs_or_ranges_are_named(project: Path, qn_exp: Program) -> None:
    made = declared(3, 4)
    finish(made, rates(0.2, 0.5, 0.8), skip={0, 3, 6, 9, 1, 4, 7})
    done = qn_exp("check", "lr", "--expect", FILE, "--update")
    assert done.returncode == 0
    assert "learning_rate=0.1: 0 finished runs of final_success_rate: a range takes two" in (
        done.stderr
    )
    assert "learning_rate=0.2: 1 finished run of final_success_rate" in done.stderr
    assert [*made.expected()[0]] == ["learning_rate=0.3"]
    whole = '{"final_success_rate": [0, 1]}'
    Path(FILE).write_text(f'{{"arms": {{"learning_rate=0.1": {whole}, "rate=0.2": {whole}}}}}')
    done = qn_exp("check", "lr", "--expect", FILE)
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == [
        "learning_rate=0.1: 0 of 4 runs finished: not checked",
        "rate=0.2: no such arm in the study (did you mean learning_rate=0.2?)",
    ]
    assert "learning_rate=0.3: no range in ranges.yml: not checked" in done.stderr
    Path(FILE).write_text('{"arms": {"none": {"final_success_rate": [0, 1], "reward": [0, 1]}}}')
    assert qn_exp("check", "lr", "--expect", FILE).stdout.count("none: no such arm") == 1


def test_a_study_without_two_runs_an_arm_writes_nothing(project: Path, qn_exp: Program) -> None:
    declared(2, 4)
    done = qn_exp("check", "lr", "--expect", FILE, "--update")
    assert done.returncode == 2
    assert "no arm has two finished runs" in done.stderr.splitlines()[-1]
    assert not Path(FILE).exists()


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (None, f"error: {FILE}: no such file"),
        ("arms: 3", f"error: {FILE}: arms: expected ranges of arms"),
        ("arms: {a: 3}", f"error: {FILE}: arms.a: expected METRIC: [LOW, HIGH]"),
        ("arms: {a: {r: [1]}}", f"error: {FILE}: arms.a.r: expected [LOW, HIGH], got [1]"),
        ("arms: {a: {r: [2, 1]}}", f"error: {FILE}: arms.a.r: expected [LOW, HIGH], got [2, 1]"),
        ("arms: {a: {r: [x, 1]}}", f"error: {FILE}: arms.a.r: expected [LOW, HIGH]"),
        ("arms: {a: {r: [.nan, 1]}}", f"error: {FILE}: arms.a.r: .nan is not a finite number"),
        ("arms: {a: {r: [0, 1]}}\nwhat: 1", f"error: {FILE}: what: is not known here"),
        ("arms: [", f"error: {FILE}"),
        ("\udcff", f"error: {FILE}: not UTF-8"),
    ],
)
def test_a_bad_file_is_one_line(study: Study, qn_exp: Program, text: Any, cause: str) -> None:
    if text is not None:
        Path(FILE).write_bytes(text.encode(errors="surrogateescape"))
    done = qn_exp("check", "lr", "--expect", FILE)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(cause)


def test_a_study_that_is_none_and_options_that_do_not_fit(study: Study, qn_exp: Program) -> None:
    for args, cause in (
        (["nothing"], "no study 'nothing'"),
        (["lr", "--metric", "reward"], "--metric needs --update"),
    ):
        done = qn_exp("check", *args, "--expect", FILE)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert cause in done.stderr
    with pytest.raises(ConfigError):
        study.check("none.yml")


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.booleans())
def test_the_mean_is_in_its_own_range(values: list[float], rate: bool) -> None:
    low, high = expected_range(values, rate)
    assert low <= sum(values) / len(values) + 1e-12
    assert high >= sum(values) / len(values) - 1e-12
    assert not rate or 0 <= low <= high <= 1


def test_runs_that_do_not_differ_leave_room_for_the_rare_one_of_a_rate() -> None:
    low, high = expected_range([1.0] * 10, rate=True)
    assert 0.5 < low < 0.9
    assert high == 1
    assert expected_range([7.5] * 10, rate=False) == (7.5, 7.5)


def test_any_metric_has_a_range_with_update(study: Study, qn_exp: Program) -> None:
    args = ("--update", "--metric", "reward", "--metric", "success_rate")
    assert qn_exp("check", "lr", "--expect", FILE, *args).returncode == 0
    assert qn_exp("check", "lr", "--expect", FILE).stdout == (
        "3 arms are in their ranges (reward, success_rate)\n"
    )


def test_further_runs_stay_in_the_range_as_often_as_is_said() -> None:
    """Of 400 pairs of ten equal runs; the share is exact for these draws."""
    chance, inside = Random(1), 0
    for _ in range(400):
        first, second = ([chance.gauss(0, 1) for _ in range(10)] for _ in range(2))
        low, high = expected_range(first, rate=False)
        inside += low <= sum(second) / 10 <= high
    assert 0.92 < inside / 400 < 0.98


@pytest.mark.slow
def test_the_workflow_of_the_page_runs(project: Path) -> None:
    (job,) = yaml.safe_load(block(COMMANDS, "tested: nightly"))["jobs"].values()
    lines = [step["run"] for step in job["steps"] if step.get("run", "").startswith("qn-")]
    run, check = (line for line in lines if "qn-exp show" not in line)
    done = command(*shlex.split(run))
    assert done.returncode == 0, done.stderr
    assert command(*shlex.split(f"{check} --update")).returncode == 0
    assert command(*shlex.split(check)).returncode == 0
