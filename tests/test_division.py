"""The closed and the open division: derived from task, budget and seeds, whatever is claimed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import SMALL, command
from qn_tracking import Leaderboard, Study, config as configuration
from qn_tracking.api.board import validators
from qn_tracking.benchmark import protocol as rules
from qn_tracking.benchmark.category import categorize
from qn_tracking.benchmark.division import CHOSEN, division
from qn_tracking.benchmark.protocol import Rulebook, rulebook
from qn_tracking.benchmark.task import task_digest, task_of
from qn_tracking.errors import ConfigError, UsageError
from qn_tracking.ids import run_seed
from qn_tracking.records.submission import Contribution
from qn_tracking.render.board import BEGIN, END
from qn_tracking.yaml_core import parse

ROOT = Path(__file__).parent.parent
SHIPPED = Path(rules.__file__).parent / "protocol.yml"
ADA = Contribution(contributor="Ada", notes="a test")
TASK = {
    "environment": {"type": "static", "static": {"grid_size": 6}},
    "max_steps": 30,
    "body_length": 6,
}


def with_rules(place: Path, current: int, runs: int = 10) -> None:
    """A folder of benchmarks in whose version 9 the small task is one of the closed division."""
    book = parse(SHIPPED.read_text(), "protocol.yml")
    assert isinstance(book, dict)
    closed = {"digest": task_digest(TASK), "episodes": 50, "runs": runs, "task": TASK}
    first = next(one for one in book["versions"] if one["version"] == 1)
    book["versions"].append({**first, "version": 9, "seeds": "task", "tasks": {"tiny": closed}})
    book["current"] = current
    place.mkdir(exist_ok=True)
    (place / "protocol.yml").write_text(json.dumps(book))


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an entry of protocol 1, two closed ones and an open one."""
    place = tmp_path_factory.mktemp("divisions")
    before = os.getcwd()
    os.chdir(place)
    try:
        Path("small.yml").write_text(SMALL)
        with_rules(place / "benchmarks", 1)
        made = [submit(seed=1)]
        with_rules(place / "benchmarks", 9)
        made.append(submit(seed=1))
        made.append(submit(seed=1, overrides=["brain.config.learning_rate=0.02"]))
        made.append(submit(seed=1, overrides=["max_steps=31"]))
        Path("ids.json").write_text(json.dumps(made))
    finally:
        os.chdir(before)
    return place


def submit(**options: Any) -> str:
    study = planned(**options)
    study.run(warn=lambda _: None)
    made = study.submit(warn=lambda _: None)
    assert made.saved, made.findings
    return made.submission.id


def planned(config: str = "small.yml", **options: Any) -> Study:
    return Study.plan(config, contribution=ADA, command=["test"], **options)


@pytest.fixture
def board(submitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the four, in a copy to stand in: of protocol 1, closed, closed, open."""
    place = tmp_path / "board"
    shutil.copytree(submitted, place)
    monkeypatch.chdir(place)
    return list(json.loads(Path("ids.json").read_text()))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder to plan in, nothing submitted."""
    monkeypatch.chdir(tmp_path)
    Path("small.yml").write_text(SMALL)
    with_rules(Path("benchmarks"), 9)


def change(id: str, edit: Callable[[dict[str, Any]], None]) -> Path:
    (path,) = Path("benchmarks").glob(f"*/*/{id}.json")
    doc = json.loads(path.read_text())
    edit(doc)
    path.write_text(json.dumps(doc))
    return path


def refused(path: Path) -> set[tuple[str, str | None]]:
    (report,) = Leaderboard().validate([str(path)])
    return {(one.rule, one.field) for one in report.findings if one.level == "error"}


# ------------------------------------------------------------------------------- before anything ran


def differs(**options: Any) -> tuple[str, ...]:
    found = planned(**options).division
    assert found is not None
    assert found.closed == (not found.differs)
    return found.differs


@pytest.mark.usefixtures("tiny")
def test_the_budget_is_what_is_run_by_default() -> None:
    with_rules(Path("benchmarks"), 9, runs=12)
    study = planned()
    assert (study.record.runs, study.record.episodes) == (12, 50)
    assert differs() == ()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"overrides": ["max_steps=31"]}, "config.max_steps: 31, the task has 30"),
        ({"overrides": ["body_length=2"]}, "config.body_length: 2, the task has 6"),
        ({"episodes": 51}, "episodes: 51, the budget is 50"),
        ({"episodes": 200}, "episodes: 200, the budget is 50"),
    ],
)
def test_a_task_or_a_budget_that_differs_is_open(options: dict[str, Any], said: str) -> None:
    # Without a task of that name it would belong to `static_maze`, which this protocol lacks.
    if "overrides" in options:
        config = configuration.load("small.yml", options["overrides"])
        found = division(
            rulebook("benchmarks").now, "tiny", task_of(config, validators(config)), episodes=50
        )
        assert found is not None
        assert found.differs == (said,)
    else:
        assert differs(**options) == (said,)


@pytest.mark.usefixtures("tiny")
def test_fewer_runs_than_the_budget_are_open_and_more_are_not() -> None:
    with_rules(Path("benchmarks"), 9, runs=12)
    assert differs(n_seeds=11) == ("runs: 11, the budget is at least 12",)
    assert differs(n_seeds=40) == ()


@pytest.mark.usefixtures("tiny")
def test_brain_learning_reward_and_study_seed_are_free() -> None:
    for override in ("brain.config.gamma=0.5", "reward.reward_goal=9", "shots=2"):
        assert differs(overrides=[override], seed=7) == ()


@pytest.mark.usefixtures("tiny")
def test_a_category_without_a_task_is_open() -> None:
    assert differs(overrides=["environment.static.grid_size=7"]) == (
        "the protocol has no task for static_maze",
    )


@pytest.mark.usefixtures("tiny")
def test_the_division_is_said_before_the_first_episode() -> None:
    run = partial(command, "qn-run", "small.yml", "--save-benchmark", "--contributor", "Ada")
    given = ("--benchmark-notes", "n", "--n-seeds", "10")
    dry = json.loads(run(*given, "--dry-run", "--json").stdout)
    assert (dry["division"], dry["differs"], dry["episodes"]) == ("closed", [], 50)
    done = run(*given, "--episodes", "51")
    assert done.returncode == 0, done.stderr
    assert "division open: episodes: 51, the budget is 50\n" in done.stderr
    assert "division open: episodes: 51, the budget is 50\n" in done.stdout
    assert not Path("benchmarks/static_maze").exists()
    assert len(list(Path("benchmarks/tiny/classical").iterdir())) == 1


EASY = (
    "max_steps=100000",
    "brain.config.learning_rate=0",
    "satiety.initial_satiety=1000000",
    "environment.dynamic.grid_size=5",
    "environment.dynamic.num_initial_foods=1",
    "environment.dynamic.max_active_foods=1",
    "environment.dynamic.min_food_distance=1",
    "environment.dynamic.agent_exclusion_radius=1",
)


def test_an_easier_world_of_the_same_category_is_open() -> None:
    protocol = rulebook().version(2)
    config = configuration.load("mlp_dynamic_small", EASY)
    manager = validators(config)
    category = categorize(config, protocol, manager)
    assert str(category) == "dynamic_small/classical"
    found = division(protocol, category.environment, task_of(config, manager))
    assert found is not None
    named = {text.partition(":")[0] for text in found.differs}
    assert named == {
        f"config.{field.partition('=')[0]}" for field in EASY if not field.startswith("brain")
    }


# -------------------------------------------------------------------------------------------- seeds


@pytest.mark.usefixtures("tiny")
def test_seeds_derive_from_the_task_so_that_brains_share_them() -> None:
    one = planned(seed=3).record
    other = planned(seed=3, overrides=["brain.name=qmlp", "brain.config={}"]).record
    assert one.seeds == other.seeds
    assert list(one.seeds) == [run_seed(task_digest(TASK), 3, i) for i in range(10)]
    assert planned(seed=4).record.seeds != one.seeds
    assert planned(seed=3, overrides=["max_steps=31"]).record.seeds != one.seeds


@pytest.mark.usefixtures("tiny")
def test_so_do_those_of_a_study_whose_arms_have_one_task() -> None:
    arms = Study.plan("small.yml", sweep={"brain.config.gamma": [0.5, 0.9]}, n_seeds=10, seed=3)
    assert arms.record.seeds == planned(seed=3).record.seeds
    tasks = Study.plan("small.yml", sweep={"max_steps": [30, 31]}, n_seeds=10, seed=3)
    assert tasks.record.task is None
    assert tasks.record.seeds != arms.record.seeds
    arms.save()
    again = Study.load(arms.id).record
    assert (again.seeds, again.task) == (arms.record.seeds, task_digest(TASK))


@pytest.mark.usefixtures("tiny")
def test_a_study_whose_origin_of_seeds_was_changed_is_refused() -> None:
    study = planned(seed=3)
    study.save()
    path = Path("experiments/studies") / study.id / "study.json"
    path.write_text(path.read_text().replace(task_digest(TASK), "0" * 64))
    with pytest.raises(Exception, match="does not derive from the seed"):
        Study.load(study.id)


def test_an_older_protocol_derives_seeds_from_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yml").write_text(SMALL)
    with_rules(Path("benchmarks"), 1)
    record = planned(seed=3).record
    assert record.task is None
    digest = record.arms[0].config.digest
    assert digest is not None
    assert list(record.seeds) == [run_seed(digest, 3, i) for i in range(10)]
    assert planned(seed=3).division is None


def test_explicit_seeds_are_never_closed(board: list[str]) -> None:
    study = Study.plan("small.yml", seeds=range(100, 110), episodes=50)
    study.run(warn=lambda _: None)
    ids = [one.id for one in study.results()]
    made = Leaderboard(warn=lambda _: None).submit(ids, ADA)
    assert made.saved
    assert made.division is not None
    assert made.division.differs == (CHOSEN,)
    assert Leaderboard().get(made.submission.id).division == "open"


# -------------------------------------------------------------------------------- what is submitted


def test_what_was_submitted_is_valid(board: list[str]) -> None:
    assert all(report.valid for report in Leaderboard().validate())


def test_a_claimed_task_is_derived_again(board: list[str]) -> None:
    def easier(doc: dict[str, Any]) -> None:
        doc["task"]["max_steps"] = 30

    assert ("task", "task") in refused(change(board[3], easier))
    assert ("task", "task") in refused(change(board[1], lambda doc: doc.pop("task")))


def test_a_seed_of_another_origin_is_refused(board: list[str]) -> None:
    def other(doc: dict[str, Any]) -> None:
        doc["study"]["seed"] = 2

    assert refused(change(board[1], other)) == {("seeds", "runs[0].seed")}


# ------------------------------------------------------------------------------------ the leaderboard


def test_closed_entries_are_ranked_and_others_are_listed_with_what_differs(
    board: list[str],
) -> None:
    old, one, other, opened = board
    boards = {b.name: b for b in Leaderboard().boards().values()}
    tiny, maze = boards["tiny/classical"], boards["static_maze/classical"]
    assert {row.entry.id for row in tiny.rows} == {one, other}
    assert (tiny.open, tiny.archive) == ((), ())
    assert [row.entry.id for row in maze.open] == [opened]
    assert maze.open[0].differs == ("the protocol has no task for static_maze",)
    assert [row.entry.id for row in maze.archive] == [old]
    assert maze.rows == ()
    assert {row.entry.id for row in Leaderboard().entries()} == {one, other}


def test_the_commands_say_so_too(board: list[str]) -> None:
    old, one, _, opened = board
    bench = partial(command, "qn-bench")
    text = bench("leaderboard").stdout
    assert "open division, not ranked" in text
    assert "archive: protocol version 1, ranked by its own rules" in text
    found = {
        "/".join(b["category"].values()): b
        for b in json.loads(bench("leaderboard", "--json").stdout)
    }
    assert [row["entry"]["id"] for row in found["static_maze/classical"]["open"]] == [opened]
    assert found["static_maze/classical"]["open"][0]["differs"]
    assert [row["entry"]["id"] for row in found["static_maze/classical"]["archive"]] == [old]
    listed = {row["id"]: row["division"] for row in json.loads(bench("list", "--json").stdout)}
    assert (listed[old], listed[one], listed[opened]) == (None, "closed", "open")
    assert "open; the protocol has no task" in bench("show", opened).stdout


@pytest.mark.slow
def test_the_archive_is_ranked_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own entries of protocol 1, with their verifications, under both versions."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "benchmarks", "benchmarks")
    found = []
    for current in (1, 9):
        with_rules(Path("benchmarks"), current)
        boards = Leaderboard(warn=lambda _: None).boards()
        rows = [row for b in boards.values() for row in (b.rows if current == 1 else b.archive)]
        old = [row for row in rows if row.entry.protocol == 1]
        assert old
        found.append([(r.entry.id, r.rank_low, r.rank_high, r.better, r.status) for r in old])
        assert current == 1 or not any(b.rows for b in boards.values())
    assert found[0] == found[1]


def test_comparing_two_tasks_or_two_protocols_is_refused(board: list[str]) -> None:
    old, one, other, opened = board
    found = Leaderboard().compare(one, other)
    assert (found.notes, found.protocol) == ((), 9)
    with pytest.raises(UsageError, match="two tasks"):
        Leaderboard().compare(one, opened)
    with pytest.raises(UsageError, match="protocol version"):
        Leaderboard().compare(old, opened)


def test_another_budget_is_said_beside_a_comparison(board: list[str]) -> None:
    longer = submit(seed=5, episodes=60)
    found = Leaderboard().compare(board[1], longer)
    assert found.notes == (f"{longer} is in the open division: episodes: 60, the budget is 50",)
    assert found.notes[0] in command("qn-bench", "compare", board[1], longer).stdout


def test_ranking_by_reward_needs_a_reward_that_is_part_of_the_task(board: list[str]) -> None:
    def rewarded(doc: dict[str, Any]) -> None:
        doc["text"] += "reward: {reward_goal: 7.0}\n"
        made = configuration.from_text(
            doc["text"], doc["config"]["label"], doc["config"]["overrides"]
        )
        doc["config"]["data"]["reward"] = {"reward_goal": 7.0}
        doc["config"]["digest"] = made.digest

    change(board[1], rewarded)
    by_success = Leaderboard().boards()["tiny/classical"]
    by_reward = Leaderboard().boards(metric="reward")["tiny/classical"]
    assert board[1] in {row.entry.id for row in by_success.rows}
    (listed,) = by_reward.open
    assert listed.entry.id == board[1]
    assert "free in training" in listed.differs[0]
    with pytest.raises(UsageError, match="two training rewards"):
        Leaderboard().compare(board[1], board[2], metric="reward")
    assert "reward_goal" in command("qn-bench", "show", board[1]).stdout


def test_the_pages_have_the_divisions_apart(board: list[str]) -> None:
    for name in ("README.md", "BENCHMARKS.md"):
        Path(name).write_text(f"{BEGIN}\n{END}\n")
    Leaderboard().regenerate()
    readme, pages = Path("README.md").read_text(), Path("BENCHMARKS.md").read_text()
    old, one, _, opened = board
    assert "| tiny classical |" in readme
    assert (opened in pages, old in pages, one in pages) == (True, True, True)
    closed, _, rest = pages.partition("Open division, not ranked")
    listed, _, archive = rest.partition("## Archive")
    assert opened in listed
    assert "the protocol has no task for static" in listed
    assert (old in archive, old in listed, old in closed) == (True, False, False)
    assert task_digest(TASK)[:12] in pages
    assert " claimed |" in pages


# -------------------------------------------------------------------------------------------- costs


def test_what_a_run_cost_is_in_the_submission_and_in_the_table(board: list[str]) -> None:
    entry = Leaderboard().get(board[1])
    stored = Leaderboard().stored(board[1]).submission
    steps = [sum(filter(None, run.episodes.steps)) for run in stored.runs]
    assert entry.aggregates["environment_steps"] == pytest.approx(sum(steps) / len(steps))
    assert entry.aggregates["parameters"] == stored.runs[0].cost["parameters"] > 0
    assert entry.aggregates["circuits"] is None

    def fewer(doc: dict[str, Any]) -> None:
        doc["runs"][0]["cost"] = {"parameters": -1}

    assert ("range", "runs[0].cost.parameters") in refused(change(board[1], fewer))


# ------------------------------------------------------------------------------------ the protocol


def shipped() -> Rulebook:
    return rulebook()


def test_both_copies_of_the_protocol_are_one_but_for_the_archive() -> None:
    """Which submissions an old version keeps is of this leaderboard, and of no other."""
    own = (ROOT / "benchmarks" / "protocol.yml").read_text()
    before, comment, after = own.partition("    # What this version keeps, now that")
    kept, version, rest = after.partition("  - version: 2")
    assert SHIPPED.read_text() == before + version + rest
    assert comment
    folder = ROOT / "benchmarks"
    listed = set(parse(f"archive:{kept.partition('archive:')[2]}", "")["archive"])  # type: ignore[index]
    assert listed == {
        path.stem
        for path in folder.glob("*_*/*/*.json")
        if json.loads(path.read_text())["protocol"] == 1
    }


def test_an_old_version_takes_no_new_submissions(board: list[str]) -> None:
    """They would not have to have what it does not ask for: a task, seeds that derive from it."""
    path = Path("benchmarks/protocol.yml")
    book = json.loads(path.read_text())
    first = next(one for one in book["versions"] if one["version"] == 1)
    for archive, current, wrong in (
        ([board[0]], 9, set()),
        ([], 9, {("protocol", "protocol")}),
        ([], 1, set()),  # the version in force takes any
    ):
        first["archive"], book["current"] = archive, current
        path.write_text(json.dumps(book))
        (old,) = Path("benchmarks").glob(f"*/*/{board[0]}.json")
        assert refused(old) == wrong
        known = [entry.id for entry in Leaderboard(warn=lambda _: None).submissions()]
        assert (board[0] in known) is not bool(wrong)


def test_an_entry_with_runs_left_out_is_open(board: list[str]) -> None:
    """The best ten of sixty, as if the others had been stopped: the ten say nothing of the brain."""

    def leave_out(doc: dict[str, Any]) -> None:
        doc["study"].update(runs=60, failed=20, aborted=30)

    assert refused(change(board[1], leave_out)) == set()
    (tiny,) = Leaderboard().boards("tiny").values()
    assert [row.entry.id for row in tiny.rows] == [board[2]]
    differ = {one.entry.id: one.differs for one in tiny.open}
    assert differ[board[1]] == ("runs: 10 of the 60 that were declared",)


def test_version_1_has_no_divisions() -> None:
    first = shipped().version(1)
    assert (dict(first.tasks), first.seeds) == ({}, "configuration")
    assert division(first, "static_maze", TASK) is None


@pytest.mark.parametrize("name", [n for n in configuration.shipped() if "cartpole" not in n])
def test_every_shipped_configuration_is_of_the_closed_division(name: str) -> None:
    protocol = shipped().version(2)
    config = configuration.load(name)
    manager = validators(config)
    category = categorize(config, protocol, manager)
    found = division(protocol, category.environment, task_of(config, manager))
    assert found is not None
    assert found.closed, found
    assert category.environment in protocol.tasks


def test_a_digest_that_is_not_of_its_task_is_an_error(tmp_path: Path) -> None:
    with_rules(tmp_path, 9)
    text = (tmp_path / "protocol.yml").read_text()
    (tmp_path / "protocol.yml").write_text(text.replace(task_digest(TASK), "0" * 64))
    with pytest.raises(ConfigError, match="is not that of the task"):
        rulebook(str(tmp_path))


def test_the_command_lists_tasks_and_configurations(board: list[str]) -> None:
    done = command("qn-bench", "tasks", "small.yml", "mlp_dynamic_small", "--json")
    doc = json.loads(done.stdout)
    assert list(doc["tasks"]) == ["tiny"]
    small, other = doc["configs"]
    assert (small["category"], small["division"]) == ("tiny/classical", "closed")
    assert small["digest"] == doc["tasks"]["tiny"]["digest"]
    assert (other["division"], other["differs"]) == (
        "open",
        ["the protocol has no task for dynamic_small"],
    )
    listed = command("qn-bench", "tasks").stdout
    assert all(name in listed for name in configuration.shipped())
    assert command("qn-bench", "tasks", "no-such.yml").returncode == 1
