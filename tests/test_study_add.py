"""Arms that are added to a study later, as an optimiser does, and those that it prunes."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from conftest import Program
from qn_tracking import ConfigError, Leaderboard, StorageError, Study, UsageError
from qn_tracking.records.submission import Contribution
from qn_tracking.store import studies
from qn_tracking.studies.execute import StudyProgress, _first_ones
from qn_tracking.studies.scripts import words
from qn_tracking.tracking.pool import run_task
from test_study_arms import LR, SHORT, declared, finish, rates


def statuses(study: Study, arm: str) -> list[str]:
    """Of the runs of an arm, in the order of its seeds."""
    place = list(study.arm_names).index(arm)
    return [one.status for one in study.runs() if study.record.place_of(one.index) == place]


def test_an_added_arm_has_the_seeds_of_the_others(project: Path) -> None:
    study = declared(2, 3)
    before = study.record
    assert study.add({LR: 0.3}) == f"{SHORT}=0.3"
    assert Study.load("lr").arm_names == study.arm_names
    assert (study.record.digest, study.record.runs) == (before.digest, 6)
    new = [(study.record.arm_of(i).name, study.record.seed_of(i)) for i in (6, 7, 8)]
    assert new == [(f"{SHORT}=0.3", seed) for seed in (0, 1, 2)]
    assert [study.record.seed_of(i) for i in range(6)] == [before.seed_of(i) for i in range(6)]


@pytest.mark.parametrize("arms", [1, 2])
def test_a_dry_run_has_the_added_arms(project: Path, qn_run: Program, arms: int) -> None:
    declared(arms, 3).add({LR: 0.3})
    done = qn_run("--resume", "lr", "--dry-run", process=False)
    assert done.returncode == 0, done
    assert f"{arms + 1} arms x 3 seeds = {3 * arms + 3}" in done.stdout
    assert f"{SHORT}=0.3" in done.stdout
    about = json.loads(qn_run("--resume", "lr", "--dry-run", "--json", process=False).stdout)
    assert (about["runs"], [one["name"] for one in about["arms"]][-1]) == (
        3 * arms + 3,
        f"{SHORT}=0.3",
    )


@pytest.mark.parametrize("baseline", [None, f"{SHORT}=0.1"])
def test_no_verdict_is_of_an_added_arm(
    project: Path, qn_exp: Program, baseline: str | None
) -> None:
    study = declared(2, 6, baseline=baseline)
    finish(study, rates(0.1, 0.9))
    before = study.compare()
    assert before.contest is not None
    assert before.contest.pairs[0].winner is not None
    name = study.add({LR: 0.3})
    finish(study, rates(0, 0, 1.0), skip=set(range(12)))
    table = study.table()
    assert table.rows[0].name == name
    assert (table.rows[0].added, table.rows[0].finished) == (True, 6)
    after = study.concluded(table)
    assert (after.contest, after.arms) == (before.contest, before.arms)
    assert before.notes == ()
    (note,) = after.notes
    assert note.startswith("added after results could be seen, and so in no comparison: ")
    assert name in note
    said = qn_exp("show", "lr").stdout
    assert f"{name} +" in said
    assert note in " ".join(said.split())
    assert not [line for line in said.splitlines() if line.startswith("- ") and name in line]


def test_a_study_of_added_arms_alone_concludes_nothing(project: Path) -> None:
    study = declared(1, 6)
    study.add({LR: 0.2})
    finish(study, rates(0.1, 1.0))
    found = study.compare()
    assert found.contest is None
    assert "added after" in found.notes[0]


def test_a_pruned_arm_keeps_what_is_complete(project: Path, qn_exp: Program) -> None:
    study = declared(2, 3)
    name = study.add({LR: 0.3})
    finish(study, rates(0.2, 0.5, 0.1), skip={7, 8})
    study.prune(name, "worse than the median")
    study.prune(name)  # once more says nothing new
    assert statuses(study, name) == ["completed", "pruned", "pruned"]
    (row,) = (row for row in study.table().rows if row.name == name)
    assert row.counts == {"completed": 1, "pruned": 2}
    assert f"pruned: {name} (1 of 3 runs)" in study.compare().notes
    assert len(study.run_ids()) == 7
    kept = json.loads(Path(f"experiments/studies/{study.id}/pruning-1.json").read_text())
    assert (kept["arm"], kept["reason"]) == (name, "worse than the median")
    assert " 7/9 " in qn_exp("list").stdout
    assert "   7  final_success_rate" in qn_exp("list", "--studies").stdout


def test_no_run_of_a_pruned_arm_begins(project: Path) -> None:
    from qn_tracking.studies.execute import _tasks

    study = declared(1, 2)
    name = study.add({LR: 0.3})

    def tasks() -> list[Any]:
        states = studies.states("experiments", study.record)
        return _tasks(study.record, study._planned(), states, lambda _: None)

    late = tasks()[-1]
    assert len(tasks()) == 4
    study.prune(name)
    assert len(tasks()) == 2
    assert run_task(late).status == "pruned"  # it was waiting for a worker
    assert not studies.begun("experiments", late.id)


@pytest.mark.parametrize(
    ("values", "options", "error"),
    [
        ({LR: 0.1}, {}, "differ in nothing"),
        ({LR: 0.3}, {"name": f"{SHORT}=0.2"}, "there is one called"),
        ({}, {}, "expected a value"),
        ({"seed": 3}, {}, "cannot be swept"),
        ({"brain.config.learning_rat": 0.3}, {}, f"did you mean {LR}?"),
        ({LR: "high"}, {}, "high"),
    ],
)
def test_an_arm_that_cannot_be_added(
    project: Path, values: dict[str, Any], options: dict[str, Any], error: str
) -> None:
    study = declared(2, 3)
    with pytest.raises((UsageError, ConfigError)) as raised:
        study.add(values, **options)
    assert error in str(raised.value)
    assert "\n" not in str(raised.value)
    assert Study.load("lr").arm_names == study.arm_names == [f"{SHORT}=0.1", f"{SHORT}=0.2"]


def test_an_arm_of_an_equal_value_is_not_added(project: Path) -> None:
    study = Study.declare("small.yml", sweep={LR: [1, 2]}, seeds=[1], name="lr")
    same = f"'{SHORT}=1.0' and '{SHORT}=1' differ in nothing"
    with pytest.raises(UsageError, match=same):
        study.add({LR: 1.0})
    script = Study.script(["python", "-c", "{x}"], sweep={"x": [1, 2]}, seeds=[1])
    with pytest.raises(UsageError, match=r"'x=2.0' and 'x=2' differ in nothing"):
        script.add({"x": 2.0})


@pytest.mark.parametrize(
    ("arm", "error"),
    [(f"{SHORT}=0.1", "all runs of a declared arm count"), (f"{SHORT}=0.33", "did you mean")],
)
def test_only_an_added_arm_is_pruned(project: Path, arm: str, error: str) -> None:
    study = declared(2, 3)
    study.add({LR: 0.3})
    with pytest.raises(UsageError, match=error):
        study.prune(arm)


def test_no_seeds_after_an_added_arm(project: Path) -> None:
    study = declared(2, 3)
    study.extend(seeds=[7])
    study.add({LR: 0.3})
    assert study.record.every_run == 12
    with pytest.raises(UsageError, match="arms were added"):
        study.extend(seeds=[8])


@pytest.mark.parametrize("rates", [[0.1], [0.1, 0.2]])
def test_further_seeds_derive_from_the_task_as_the_first_did(
    project: Path, rates: list[float]
) -> None:
    short = Study.declare("small.yml", sweep={LR: rates}, n_seeds=2, seed=5, episodes=20)
    longer = Study.plan("small.yml", sweep={LR: rates}, n_seeds=4, seed=5, episodes=20)
    assert short.record.task is not None
    short.extend(n_seeds=2)
    assert short.record.seeds == longer.record.seeds


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"first": 5}, "first: expected 6"),
        ({"study": "other"}, "study: is of 'other'"),
        ({"schema": 99}, "newer"),
    ],
)
def test_an_addition_that_was_changed_is_refused(
    project: Path, wrong: dict[str, Any], error: str
) -> None:
    study = declared(2, 3)
    study.add({LR: 0.3})
    path = Path(f"experiments/studies/{study.id}/addition-1.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
    with pytest.raises(StorageError, match="addition-1.json") as raised:
        Study.load("lr")
    assert error in str(raised.value)


def test_added_arms_travel_with_their_study(project: Path, qn_exp: Program) -> None:
    study = declared(2, 2)
    study.prune(study.add({LR: 0.3}))
    finish(study, rates(0.2, 0.5), skip={4, 5})
    page = qn_exp("show", "lr").stdout
    assert qn_exp("export", "lr", "--format", "bundle", "-o", "lr.zip").returncode == 0
    assert qn_exp("import", "lr.zip", "--experiments-dir", "other").returncode == 0
    assert qn_exp("show", "lr", "--experiments-dir", "other").stdout == page
    assert qn_exp("report", "lr", "-o", "lr.md").returncode == 0
    assert f"| added later | {SHORT}=0.3 |" in Path("lr.md").read_text()


def test_an_arm_of_a_script(project: Path) -> None:
    (project / "t.py").touch()
    study = Study.script(
        ["python", "t.py", "{lr}", "{seed}"], sweep={"lr": [1, 2]}, seeds=[5, 6], name="t"
    )
    assert study.add({"lr": 3}) == "lr=3"
    assert words(Study.load("t").record, 5) == ["python", "t.py", "3", "6"]
    with pytest.raises(UsageError, match="the arms of this study have: lr"):
        study.add({"rate": 3})


class Optimiser:
    """Asks for a value and is given what came of it, as Optuna's `ask` and `tell`."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float | None]] = []
        self._random = Random(1)

    def ask(self) -> float:
        return round(self._random.uniform(0.01, 0.2), 4)

    def tell(self, value: float, result: float | None) -> None:
        self.told.append((value, result))


@pytest.mark.slow
def test_an_optimiser_adds_arms_while_the_study_goes_on(project: Path) -> None:
    study = declared(1, 2)
    study.run()
    optimiser = Optimiser()
    for trial in range(3):
        rate = optimiser.ask()
        name = study.add({LR: rate})

        def look(now: StudyProgress, name: str = name, last: bool = trial == 2) -> None:
            (arm,) = (one for one in now.arms if one.name == name)
            if last and arm.finished == 1:
                study.prune(name, "the first run is enough")

        outcome = study.run(progress=look)
        assert not outcome.stopped
        (row,) = (row for row in study.table().rows if row.name == name)
        optimiser.tell(rate, row.mean.centre if row.mean else None)
    assert all(result is not None for _, result in optimiser.told)
    assert statuses(study, study.record.added[0].name) == ["completed"] * 2
    assert statuses(study, study.record.added[2].name) == ["completed", "pruned"]
    assert study.run().finished == 7  # there is nothing left to run


@pytest.mark.slow
def test_an_arm_of_another_process_is_run_by_the_one_that_runs(project: Path) -> None:
    study = declared(1, 1)
    study.save()
    names = []

    def meanwhile(_: StudyProgress) -> None:
        if not names:
            names.append(Study.load("lr").add({LR: 0.3}))

    assert study.run(progress=meanwhile).finished == 2
    assert statuses(study, names[0]) == ["completed"]


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("pruning-1.json", "0.3", "0.4", "pruning-1.json: arm: is of '"),
        ("pruning-1.json", "study", "stud", "pruning-1.json: "),
        (
            "addition-1.json",
            '"label"',
            '"lable"',
            "addition-1.json: arm.config: unknown key 'lable'",
        ),
        ("addition-1.json", '"max_steps": ', '"max_steps": 1', "has another digest"),
        ("study.json", '"max_steps": ', '"max_steps": 1', "has another digest"),
        ("addition-1.json", None, "addition-3.json", "addition-3.json: is never read"),
        ("pruning-1.json", None, "pruning-2.json", "pruning-2.json: is never read"),
        ("study.json", None, "extension-2.json", "extension-2.json: is never read"),
    ],
)
def test_files_beside_a_study_that_were_edited_are_found(
    project: Path, qn_exp: Program, file: str, old: str | None, new: str, fault: str
) -> None:
    study = declared(2, 2)
    finish(study, rates(0.1, 0.9))
    study.prune(study.add({LR: 0.3}))
    assert qn_exp("fsck").returncode == 0
    path = project / "experiments" / "studies" / study.id / file
    if old is not None:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    elif file == "study.json":
        (path.parent / new).write_text("{}")
    else:
        path.rename(path.parent / new)
    done = qn_exp("fsck")
    assert done.returncode == 1
    assert fault in done.stdout
    for asked in (("list",), ("list", "--studies"), ("stats",)):
        assert qn_exp(*asked).returncode == 0


def test_a_study_of_too_many_runs_is_not_read(project: Path, monkeypatch: Any) -> None:
    study = declared(2, 3)
    study.add({LR: 0.3})
    monkeypatch.setattr(studies, "MOST_RUNS", 8)
    with pytest.raises(StorageError, match="arm: 9 runs, a study has at most 8"):
        Study.load("lr")
    monkeypatch.setattr(studies, "MOST_RUNS", 5)
    with pytest.raises(StorageError, match="runs: 6 runs, a study has at most 5"):
        Study.load("lr")


def test_of_many_workers_that_died_three_are_named() -> None:
    said: list[str] = []
    warn = _first_ones(said.append)
    for place in range(9):
        warn(f"run {place}: its worker died")
    assert said[:3] == [f"run {place}: its worker died" for place in range(3)]
    assert said[3:] == ["the workers of more runs died or were stopped; each once more, by itself"]


def test_what_a_study_lacks_for_a_submission_is_a_line_an_arm(project: Path) -> None:
    study = declared(3, 4)
    finish(study, rates(0.1, 0.9, 0.5))
    found = Leaderboard("benchmarks").missing(study.record, experiments="experiments")
    than = f"4 runs of another configuration than {SHORT}=0.1"
    assert [text for text in found if "configuration" in text] == [
        f"{SHORT}=0.2: {than}", f"{SHORT}=0.3: {than}"
    ]  # fmt: skip
    with pytest.raises(UsageError, match="made of one configuration .it has 3 arms"):
        study.submit(contribution=Contribution(contributor="Ada"))
