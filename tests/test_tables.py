"""Tables of other programs: what is in them arrives exactly, or the line that is wrong is named."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from conftest import Program
from qn_tracking import Experiments
from qn_tracking.errors import UsageError

START = 1_700_000_000.0
MONITOR = '#{"t_start": %s, "env_id": "CartPole-v1"}\nr,l,t,is_success,depth\n'


def monitor(path: str, rows: list[tuple[Any, ...]], start: float = START) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(map(str, row)) + "\n" for row in rows]
    Path(path).write_text(MONITOR % start + "".join(lines))


def the_record() -> Any:
    (id,) = Experiments("experiments").find().ids
    return Experiments("experiments").get(id)


def episodes() -> list[Any]:
    store = Experiments("experiments")
    return list(store.episodes(store.find().ids))


def test_a_monitor_of_stable_baselines3(qn_exp: Program) -> None:
    monitor("logs/monitor.csv", [(21.0, 21, 0.5, True, 3), (9.5, 10, 1.25, False, 4)])
    done = qn_exp("import", "logs/monitor.csv")
    assert (done.returncode, done.stdout) == (0, "1 imported\n"), done.stderr
    found = the_record()
    assert (found.status, found.subject.environment) == ("imported", "CartPole-v1")
    assert (found.started, found.ended) == (
        "2023-11-14T22:13:20.000000Z",
        "2023-11-14T22:13:21.250000Z",
    )
    assert found.results.success_rate == 0.5
    first, second = episodes()
    assert (first.reward, first.steps, first.success, first.timing["at"]) == (21.0, 21, True, 0.5)
    assert (second.reward, dict(second.metrics)) == (9.5, {"depth": 4.0})
    assert qn_exp("import", "logs/monitor.csv").stdout == "0 imported, 1 already here\n"
    assert qn_exp("fsck").returncode == 0


def test_monitors_of_one_folder_are_one_run_in_order_of_time(qn_exp: Program) -> None:
    monitor("logs/0.monitor.csv", [(1, 1, 1.0, 1, 0), (3, 1, 3.0, 1, 0)])
    monitor("logs/1.monitor.csv", [(2, 1, 1.0, 1, 0), (4, 1, 3.0, 0, 0)], START + 1)
    monitor("logs/other/monitor.csv", [(7, 1, 1.0, 1, 0)])
    assert qn_exp("import", "logs").stdout == "2 imported\n"
    store = Experiments("experiments")
    rewards = [[one.reward for one in store.episodes(id)] for id in store.find().ids]
    assert sorted(rewards) == [[1, 2, 3, 4], [7]]


def test_a_table_of_episodes(qn_exp: Program) -> None:
    Path("runs.csv").write_text(
        "episode,return,length,won,how,loss,note\n0,1.5,10,yes,goal,0.25,a\n1,nan,20,no,,,b\n"
    )
    done = qn_exp(
        "import",
        "runs.csv",
        "--map",
        "reward=return,steps=length",
        "--map",
        "success=won,termination=how",
    )
    assert (done.returncode, done.stdout) == (0, "1 imported\n"), done.stderr
    first, second = episodes()
    assert (first.reward, first.steps, first.success, first.termination) == (1.5, 10, True, "goal")
    assert dict(first.metrics) == {"episode": 0.0, "loss": 0.25}
    assert math.isnan(second.reward)
    assert (second.success, second.termination, dict(second.metrics)) == (
        False,
        None,
        {"episode": 1.0},
    )
    assert any(note.startswith("note: left out") for note in the_record().origin.notes)
    assert qn_exp("fsck").returncode == 0


def test_a_table_of_logged_values(qn_exp: Program) -> None:
    rows = [{"update": 10 * n, "loss": 1 / (n + 1), "at": START + n} for n in range(3)]
    rows[1]["speed"] = 7
    Path("log.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert qn_exp("import", "log.jsonl", "--map", "step=update,time=at").stdout == "1 imported\n"
    found = the_record()
    assert (found.started, found.wall_seconds) == ("2023-11-14T22:13:20.000000Z", 2.0)
    assert sorted(found.series) == ["loss", "speed"]
    points = Experiments("experiments").series(found.id, ["loss"]).columns()
    assert (points["step"], points["value"]) == ([0, 10, 20], [1.0, 1 / 2, 1 / 3])
    assert points["at"] == [0.0, 1.0, 2.0]
    assert qn_exp("fsck").returncode == 0


def test_the_same_table_read_otherwise_is_another_run(project: Path) -> None:
    Path("a.csv").write_text("r,l\n1,2\n")
    store = Experiments("experiments")
    for columns in ({"reward": "r"}, {"reward": "l"}, {"reward": "r"}):
        store.import_("a.csv", columns=columns)
    os.utime("a.csv", (1, 1))  # as a copy has another time
    assert store.import_("a.csv", columns={"reward": "r"})[0].outcome == "here"  # type: ignore[union-attr]
    assert len(store.find()) == 2


def test_every_table_of_a_folder_is_a_run(qn_exp: Program) -> None:
    for name in ("in/a.csv", "in/b/c.tsv", "in/d.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(
            f"r\tl\n1\t{len(name)}\n" if ".tsv" in name else f"r,l\n1,{len(name)}\n"
        )
    assert qn_exp("import", "in", "--map", "reward=r,steps=l").stdout == "2 imported\n"


number = st.floats(allow_nan=False) | st.integers(-(10**15), 10**15)


@settings(max_examples=30)
@given(st.lists(st.tuples(number, st.integers(0, 10**9), st.booleans()), min_size=1, max_size=20))
def test_what_is_written_arrives(
    tmp_path_factory: Any, rows: list[tuple[float, int, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    with open(folder / "a.csv", "w", newline="") as file:
        csv.writer(file).writerows([("r", "l", "s"), *rows])
    store = Experiments(str(folder / "experiments"))
    (one,) = store.import_(
        str(folder / "a.csv"), columns={"reward": "r", "steps": "l", "success": "s"}
    )
    assert not hasattr(one, "error"), one
    found = list(store.episodes(one.id))  # type: ignore[union-attr]
    assert [(e.reward, e.steps, e.success) for e in found] == [(float(r), n, s) for r, n, s in rows]


def test_lines_have_the_nan_and_infinity_that_python_writes(qn_exp: Program) -> None:
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": math.nan}, {"step": 3, "loss": -math.inf}]
    Path("log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = qn_exp("import", "log.jsonl", "--map", "step=step")
    assert (done.returncode, done.stdout) == (0, "1 imported\n"), done.stderr
    store = Experiments("experiments")
    values = store.series(store.find().ids, ["loss"]).columns()["value"]
    assert list(map(repr, values)) == ["0.5", "nan", "-inf"]


@pytest.mark.parametrize(
    ("text", "mapping", "said"),
    [
        ("r,l\n1,2\n", "reward=x", "no column 'x' with values (columns: r, l)"),
        ("r,l\n1,2\n", "reward=rr", "no column 'rr' with values (did you mean r?)"),
        ("r,l\n1,2\nmuch,2\n", "reward=r", "line 3: r: expected a number, got 'much'"),
        ("r,l\n1,2.5\n", "steps=l", "line 2: l: expected a whole number from 0, got '2.5'"),
        ("r,l\n1,-1\n", "steps=l", "line 2: l: expected a whole number from 0, got '-1'"),
        ("r,l\n1,maybe\n", "success=l", "line 2: l: expected true or false, got 'maybe'"),
        ("r,l\n1,2,3\n", "reward=r", "line 2: 3 cells, but 2 columns"),
        ("r,r\n1,2\n", "reward=r", "column 'r' is there twice"),
        ("r,l\n1,\n,2\n", "step=l", "line 2: l: expected a whole number, got None"),
        ("r,l\n1,2\n", "reward=r,time=l,steps=t", "no column 't' with values"),
        ("r,l\n", "reward=r", "has no rows"),
        ("", "reward=r", "has no rows"),
        ("r,l\n1,\x00\n", "steps=l", "line 2"),
        ("r\n" + "9" * 200_000 + "\n", "reward=r", "field larger than field limit"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(
    qn_exp: Program, text: str, mapping: str, said: str
) -> None:
    Path("a.csv").write_text(text)
    done = qn_exp("import", "a.csv", "--map", mapping)
    assert done.returncode == 3
    assert done.stderr.startswith("error: a.csv: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(Path().glob("experiments/*.json"))


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ("reward", "'reward': expected FIELD=COLUMN"),
        ("rewad=r", "unknown field 'rewad' (did you mean reward?)"),
        ("reward=r,reward=l", "reward: given twice"),
        ("reward=r,step=l", "a row is either an episode or logged values"),
        ("time=t", "a row is either an episode or logged values"),
    ],
)
def test_what_is_wrong_in_a_mapping_is_one_line(qn_exp: Program, mapping: str, said: str) -> None:
    done = qn_exp("import", "a.csv", "--map", mapping)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "r,l\n1,2\n", "its columns are not known (--map reward=…)"),
        ("a.wandb", ":W&B", "files of W&B cannot be read"),
        ("monitor.csv", "#{}\nr,l,t\n", "is no monitor.csv of Stable-Baselines3"),
        ("monitor.csv", "#{'t_start': 1}\n", "is no monitor.csv of Stable-Baselines3"),
        ("monitor.csv", '#{"t_start": 1}\na,b\n1,2\n', "line 3: t: expected seconds"),
        ("monitor.csv", '#{"t_start": 1}\nr,l,t\n1,2,-1\n', "line 3: t: expected seconds"),
        ("monitor.csv", '#{"t_start": 1}\nl,t\n1,2\n', "has not the columns r, l and t"),
    ],
)
def test_what_cannot_be_read_is_one_line(qn_exp: Program, name: str, text: str, said: str) -> None:
    Path("in").mkdir()
    Path("in", name).write_text(text)
    for path in (f"in/{name}", "in"):
        if (path, name) != ("in", "a.csv"):  # which a folder may hold beside its records
            done = qn_exp("import", path)
            assert (done.returncode, done.stderr.count("\n")) == (3, 1)
            assert said in done.stderr


def test_a_monitor_without_episodes_is_a_run_without(qn_exp: Program) -> None:
    monitor("monitor.csv", [])
    assert qn_exp("import", "monitor.csv").stdout == "1 imported\n"
    assert the_record().results.episodes == 0


def test_the_fields_of_a_mapping_are_checked_in_python(project: Path) -> None:
    with pytest.raises(UsageError, match="unknown field"):
        Experiments("experiments").import_("a.csv", columns={"reword": "r"})
