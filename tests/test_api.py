"""`Experiments`: what `qn-exp` does, from Python."""

from __future__ import annotations

import datetime
import doctest
import io
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from qn_tracking import Experiments, Subject, track
from qn_tracking.errors import QnError, StorageError, UnsupportedError, UsageError
from qn_tracking.records.model import Episode, Experiment


def make(gamma: float = 0.9, seed: int = 1, wins: int = 3, **options: Any) -> str:
    """A run of six episodes in `experiments`, of which so many succeed."""
    with track(
        {"brain": {"config": {"gamma": gamma}}},
        seed=seed,
        subject=Subject(environment="static", brain="mlp", family="classical"),
        blocked=("metadata",),
        **options,
    ) as run:
        for i in range(6):
            run.episode(success=i < wins, steps=i + seed, reward=0.5 * i, loss=0.1 * i + gamma)
    return run.id


@pytest.fixture
def store(project: Path) -> Experiments:
    return Experiments("experiments")


def test_found_experiments_are_a_sequence_of_records(store: Experiments) -> None:
    low, high = make(wins=1), make(wins=5)
    found = store.find(where="results.success_rate > 0.5")
    assert (len(found), found.ids, found.total, found.more) == (1, [high], 2, False)
    (experiment,) = found
    assert isinstance(experiment, Experiment)
    assert experiment == found[0] == store.get(high) == store.get("@1") == store.get(high[:-2])
    assert store.find(sort="success:asc").ids == [low, high]
    assert store.find(limit=1).more
    with pytest.raises(TypeError, match=r"select\(found.ids\[:5\]\)"):
        store.find()[:5]  # type: ignore[index]
    assert store.select(store.find().ids[:1]).ids == [high]


@pytest.mark.parametrize(
    "conditions",
    [
        {"tag": "sweep=a"},
        {"tag": ["sweep", "sweep=a"]},
        {"seed": 7},
        {"seed": [7, 9]},
        {"where": "brain.config.gamma = 0.5"},
        {"min_success_rate": 0.9},
        {"status": "completed", "seed": 7},
        {"where": ["seed > 6", "seed < 8"]},
    ],
)
def test_conditions_are_those_of_the_command(store: Experiments, conditions: Any) -> None:
    make()
    wanted = make(gamma=0.5, seed=7, wins=6, tags={"sweep": "a"})
    assert store.find(**conditions).ids == [wanted]


def test_a_time_may_be_a_datetime(store: Experiments) -> None:
    id = make()
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    assert store.find(since=now - hour, until=now + hour).ids == [id]
    assert store.find(since=now + hour).ids == []
    assert store.find(until=now.date()).ids == [id]


@pytest.mark.parametrize(
    "conditions",
    [
        {"status": "lost"},
        {"since": "yesterday"},
        {"commit": "xyz"},
        {"min_success_rate": 2},
        {"where": "seed >"},
        {"tag": "\udcff"},
        {"env_type": "\x00"},
        {"seed": 2**70},
        {"seed": [1, -(2**70)]},
        {"limit": -1},
        {"limit": 2**70},
    ],
)
def test_a_condition_that_makes_no_sense_is_a_usage_error(
    store: Experiments, conditions: Any
) -> None:
    make()
    with pytest.raises(UsageError):
        store.find(**conditions).ids  # noqa: B018


def test_rows_have_the_fields_of_the_index_with_their_types(store: Experiments) -> None:
    id = make(tags={"sweep": "a"})
    store.tag(id, {"later": "b"})
    (row,) = store.find().rows()
    assert row["id"] == id
    assert row["started"].tzinfo is datetime.UTC
    assert (row["success_rate"], row["final_success_rate"], row["episodes"]) == (0.5, 0.5, 6)
    assert (row["tags.sweep"], row["tags.later"]) == ("a", "b")
    assert row["wall_seconds"] > 0


def test_columns_are_fields_metrics_and_stored_fields(store: Experiments) -> None:
    id = make(gamma=0.5)
    (row,) = store.find().rows(["id", "loss", "brain.config.gamma", "config.overrides", "success"])
    assert row == {
        "id": id,
        "loss": pytest.approx(0.75),
        "brain.config.gamma": 0.5,
        "config.overrides": {},
        "success": 0.5,
    }
    (row,) = store.find().rows(["config.*", "results.metrics.*"])
    assert row["brain.config.gamma"] == 0.5
    assert row["results.metrics.loss.mean"] == pytest.approx(0.75)
    with pytest.raises(UsageError, match="did you mean success_rate"):
        store.find().rows(["success_rat"])


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_tables_are_frames(store: Experiments, package: str) -> None:
    pytest.importorskip(package)
    first, second = make(seed=1), make(seed=2, tags={"a": "b"})
    name = f"to_{package}"
    frame = getattr(store.find(), name)()
    assert list(frame["id"]) == [second, first]
    assert "tags.a" in frame.columns
    assert "datetime" in str(frame["started"].dtype).lower()
    assert list(getattr(store.find(), name)(columns=["seed", "loss"]).columns) == ["seed", "loss"]
    empty = getattr(store.find(seed=99), name)()
    assert (len(empty), "success_rate" in empty.columns) == (0, True)
    episodes = getattr(store.episodes([first, second]), name)()
    assert list(episodes["id"]) == [first] * 6 + [second] * 6
    assert list(episodes["run_seed"]) == [1] * 6 + [2] * 6
    assert "metrics.loss" in episodes.columns
    assert len(getattr(store.best("loss"), name)()) == 1


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_package_that_is_missing_is_named(
    store: Experiments, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnsupportedError, match=f"pip install {package}"):
        getattr(store.find(), f"to_{package}")()


def test_episodes_of_one_or_several_runs(store: Experiments) -> None:
    first, second = make(seed=1), make(seed=2)
    episodes = store.episodes(first)
    assert all(isinstance(episode, Episode) for episode in episodes)
    assert [episode.steps for episode in episodes] == [1, 2, 3, 4, 5, 6]
    assert len(store.find().episodes()) == 12
    assert [id for id, _ in store.episodes([second, first]).pairs()] == [second] * 6 + [first] * 6
    assert [e.index for e in store.tail(first, last=2) if e] == [4, 5]
    (Path("experiments/runs") / first / "episodes.jsonl").unlink()
    with pytest.raises(StorageError, match="are not here"):
        list(store.episodes(first))


def test_comparisons_return_what_the_commands_print(store: Experiments) -> None:
    one, two = make(gamma=0.5, seed=1), make(gamma=0.9, seed=1)
    runs: Any = store.compare([one, two])
    assert runs.ids == [one, two]
    (row,) = (row for row in runs.differences["configuration"] if not row.same)
    assert (row.field, row.values) == ("brain.config.gamma", (0.5, 0.9))
    assert runs.conclusion.startswith("no conclusion: one run each")
    make(gamma=0.5, seed=2, wins=5)
    groups: Any = store.compare(by="config", where="seed > 0")
    assert [len(group.runs) for group in groups.groups] == [2, 1]
    assert groups.better is None
    diff = store.diff(one, two, resolved=True)
    assert [line for line in diff.lines if "gamma" in line] == [
        "-    gamma: 0.5",
        "+    gamma: 0.9",
    ]
    best = store.best("success_rate", by="config")
    assert [row["value"] for row in best] == [5 / 6, 0.5]
    with pytest.raises(UsageError, match="only one matching experiment"):
        store.compare([one])


def test_experiments_are_moved_and_looked_after(store: Experiments, tmp_path: Path) -> None:
    id = make()
    done = store.export(tmp_path / "some.zip", id, format="bundle")
    assert (done.count, done.bytes) == (1, (tmp_path / "some.zip").stat().st_size)
    stream = io.BytesIO()
    assert store.export(stream, format="jsonl", rows="episodes").count == 6
    assert len(stream.getvalue().splitlines()) == 6
    there = Experiments(tmp_path / "there")
    (arrived,) = there.import_(str(tmp_path / "some.zip"))
    assert (arrived.id, there.get(id)) == (id, store.get(id))
    assert store.note(id, "a remark")["notes"][0]["text"] == "a remark"
    assert store.stats()["experiments"] == 1
    assert store.check().faults == 0
    store.remove(id)
    assert (store.trash(), len(store.find())) == ([id], 0)
    store.restore(id[:-1])
    assert store.document(id)["labels"]["notes"][0]["text"] == "a remark"


def test_a_run_without_a_record_is_counted_and_passed_over(project: Path) -> None:
    said: list[str] = []
    store = Experiments("experiments", warn=said.append)
    done, dead = make(), make(seed=2)
    Path(f"experiments/{dead}.json").unlink()
    found = store.find()
    assert set(found.ids) == {done, dead}
    assert [experiment.id for experiment in found] == [done]
    assert said == [f"left out: {dead}: has no record: it is crashed (qn-exp recover {dead})"]
    assert store.crashed() == [dead]
    with pytest.raises(UnsupportedError):
        store.get(dead)
    assert store.document(dead)["status"] == store.status(dead) == "crashed"
    assert store.recover(dead).results.episodes == 6
    assert store.get(dead).status == "crashed"


def test_a_warning_is_one_of_python_by_default(project: Path) -> None:
    make()
    Path("experiments/bad.json").write_text("[]")
    with pytest.warns(UserWarning, match="expected a JSON object"):
        assert len(Experiments("experiments").find()) == 1


def test_the_folder_is_that_of_the_project(project: Path) -> None:
    assert Experiments().folder == "experiments"
    Path("pyproject.toml").write_text('[tool.qn-tracking]\nexperiments_dir = "results"\n')
    assert Experiments().folder == str(project / "results")
    with pytest.raises(StorageError, match="no such folder"):
        Experiments("nowhere").find().ids  # noqa: B018
    for wrong in ("", "a\x00b"):
        with pytest.raises(QnError):
            Experiments(wrong)


@pytest.mark.parametrize("name", ["experiments", "picture", "selection", "reports"])
def test_the_examples_are_true(store: Experiments, name: str) -> None:
    pytest.importorskip("pandas")
    make(gamma=0.5, seed=7, tags={"sweep": "a"})
    found = doctest.testmod(import_module(f"qn_tracking.api.{name}"))
    assert found.failed == 0


def test_the_library_imports_no_command_and_no_frames(project: Path) -> None:
    make()
    code = (
        "import sys\nfrom qn_tracking import Experiments\n"
        "print(Experiments('experiments').find().ids)\n"
        "loaded = set(sys.modules)\n"
        "assert not loaded & {'pandas', 'polars', 'attrs', 'cattrs', 'numpy', 'orjson'}\n"
        "assert not [name for name in loaded if name.startswith('qn_tracking.cli')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.replace("'", '"'))
