"""Whatever lies in a folder, a command ends with one line and an exit code, never in a traceback.

A fault is put into one field after the other; every command reads it; the good experiment beside
it stays in the list.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from conftest import SMALL, Program
from qn_tracking import track
from qn_tracking.errors import StorageError

VALUES = (
    *("null", "5", "-1.5", "true", "[1]", "{}", '"x"', '""', "1" + "0" * 400, "-1e400"),
    *("NaN", "[" * 300 + "]" * 300, '"\\ud800"', '"a\\u0000b"', '{"a": 1}'),
)
"""JSON that is not what a field holds; not all of it is JSON."""
READ = (
    "list --columns id,config.*,results.*,tags,notes,curve",
    "show ID",
    "show ID --json",
    "compare ID OTHER",
    "compare --by config --tag a",
    "diff ID OTHER --resolved",
    "best --metric reward --by brain",
    "export --format csv",
    "export --format jsonl --rows episodes",
    "tail ID --no-follow",
    "rerun ID --dry-run",
    "fsck",
)
KILLED = """
import os
import re
from qn_tracking import track
from qn_tracking.errors import StorageError
with track({"policy": {"epsilon": 0.1}}, seed=3, tags={"a": "d"}) as run:
    run.episode(success=True, steps=3, reward=1.0)
    run.episode(success=False, steps=4, reward=2.0, loss=0.5)
    os._exit(9)
"""


@pytest.fixture
def ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qn_run: Program) -> list[str]:
    """Two experiments, and a run that was killed; the folder is the current one."""
    monkeypatch.chdir(tmp_path)
    Path("c.yml").write_text(SMALL)
    for seed in ("1", "2"):
        args = ("c.yml", "--episodes", "3", "--seed", seed, "--tag", f"a={seed}")
        assert qn_run(*args, "--notes", "n", "--track-experiment").returncode == 0
    done = sorted(path.stem for path in Path("experiments").glob("*.json"))
    assert subprocess.run([sys.executable, "-c", KILLED]).returncode == 9
    killed = {path.name for path in Path("experiments/runs").iterdir()} - set(done)
    return [*done, *killed]


def faults(text: str) -> Iterator[str]:
    """The document with one field after the other replaced, and with one missing."""
    doc = json.loads(text)
    values = cycle(VALUES)
    for path in _paths(doc):
        yield _with(doc, path, "@").replace('"@"', next(values))
        if path:
            yield _with(doc, path, None)


def _paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = list(enumerate(value[:1])) if isinstance(value, list) else []
    for key, one in inner:
        yield from _paths(one, (*above, key))


def _with(doc: Any, path: tuple[Any, ...], mark: str | None) -> str:
    if not path:
        return json.dumps(mark)
    whole = json.loads(json.dumps(doc))
    place = whole
    for key in path[:-1]:
        place = place[key]
    if mark is None:
        del place[path[-1]]
    else:
        place[path[-1]] = mark
    return json.dumps(whole)


def check(qn_exp: Program, line: str, about: str) -> str:
    """Runs a command; returns what it printed."""
    done = qn_exp(*line.split())
    assert "Traceback" not in done.stderr, (line, about, done.stderr)
    assert "internal" not in done.stderr, (line, about, done.stderr)
    assert done.returncode in range(5), (line, about, done)
    return str(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["record", "labels", "run.json", "episodes.jsonl"])
def test_no_field_of_a_stored_file_ends_a_command_in_a_traceback(
    ids: list[str], qn_exp: Program, name: str
) -> None:
    hurt, good, killed = ids
    if name == "labels":
        assert qn_exp("tag", hurt, "later=1").returncode == 0
        assert qn_exp("note", hurt, "text").returncode == 0
    path = {
        "record": Path(f"experiments/{hurt}.json"),
        "labels": Path(f"experiments/runs/{hurt}/labels.json"),
    }.get(name, Path(f"experiments/runs/{killed}/{name}"))
    id = hurt if name in ("record", "labels") else killed
    text = path.read_text()
    first, *rest = text.splitlines() if name == "episodes.jsonl" else (text,)
    commands = cycle(READ)
    for fault in faults(first):
        path.write_text("\n".join([fault, *rest, ""]))
        Path("experiments/.index.sqlite").unlink(missing_ok=True)
        assert good in check(qn_exp, "list", fault)
        for line in (next(commands) for _ in range(3)):
            check(qn_exp, line.replace("ID", id).replace("OTHER", good), fault)
    path.write_text(text)
    assert qn_exp("fsck").returncode == 0


def rewrite(id: str, *, metric: dict[str, Any] | None = None, **results: str) -> None:
    """Changes the results of a record; a value is JSON text."""
    path = Path(f"experiments/{id}.json")
    doc = json.loads(path.read_text())
    if metric is not None:
        doc["results"]["metrics"]["reward"] = metric
    text = json.dumps({**doc, "results": {**doc["results"], **dict.fromkeys(results, "@")}})
    for value in results.values():
        text = text.replace('"@"', value)
    path.write_text(text)


def test_a_metric_may_lack_its_deviation(ids: list[str], qn_exp: Program) -> None:
    rewrite(ids[0], metric={"n": 3, "mean": 1.5})
    shown = qn_exp("show", ids[0])
    assert shown.returncode == 0
    assert ["reward", "1.5", "(n", "3)"] in [line.split() for line in shown.stdout.splitlines()]


def test_a_rate_that_is_not_finite_is_no_count(ids: list[str], qn_exp: Program) -> None:
    rewrite(ids[0], success_rate="-1e400")
    done = qn_exp("compare", *ids[:2])
    assert (done.returncode, "internal" in done.stderr) == (3, False)


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [("command", [1], "show ID"), ("config", {"digest": {}}, "compare ID OTHER")],
)
def test_a_wrong_field_of_a_killed_run_is_named(
    ids: list[str], qn_exp: Program, field: str, value: object, line: str
) -> None:
    path = Path(f"experiments/runs/{ids[2]}/run.json")
    doc = json.loads(path.read_text())
    doc[field] = {**doc[field], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(doc))
    done = qn_exp(*line.replace("ID", ids[2]).replace("OTHER", ids[0]).split())
    assert done.returncode == 3
    assert f"run.json: {field}" in done.stderr


def test_options_of_a_plugin_in_a_study_must_be_a_table(ids: list[str], qn_run: Program) -> None:
    done = qn_run("c.yml", "--n-seeds", "1", "--episodes", "2")
    assert done.returncode == 0, done
    (path,) = Path("experiments/studies").glob("*/study.json")
    doc = json.loads(path.read_text())
    doc["plugins"]["metadata"] = [1]
    path.write_text(json.dumps(doc))
    done = qn_run("--resume", path.parent.name, "--dry-run", process=False)
    assert done.returncode == 3
    assert "plugins" in done.stderr


def test_an_unknown_pattern_of_columns_is_an_error_of_columns(
    ids: list[str], qn_exp: Program
) -> None:
    done = qn_exp("list", "--columns", "config.*.*")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --columns: no column 'config.*.*'")


def test_an_export_replaces_no_device_and_no_fifo(ids: list[str], qn_exp: Program) -> None:
    os.mkfifo("pipe")
    done = qn_exp("export", "--format", "csv", "--output", "pipe", "--force")
    assert done.returncode == 2
    assert "pipe: --output: is not a regular file" in done.stderr
    assert Path("pipe").is_fifo()


def test_a_deleted_current_folder_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qn_exp: Program,
    qn_run: Program,
    qn_bench: Program,
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    cause = f"{gone}: the current folder was removed"
    for call, arg in ((qn_exp, "list"), (qn_run, "small.yml"), (qn_bench, "leaderboard")):
        done = call(arg, process=True)
        assert (done.returncode, done.stderr) == (3, f"error: {cause}\n")
    with pytest.raises(StorageError, match=f"^{re.escape(cause)}$"):
        track({"a": 1})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_not_an_empty_one(
    tmp_path: Path, qn_bench: Program
) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir(mode=0o000)
    done = qn_bench("validate", "--benchmarks-dir", str(folder))
    folder.chmod(0o700)
    assert done.returncode != 0
    assert "permission denied" in done.stderr


# ------------------------------------------------------------------------------ numbers at the edge


@pytest.mark.parametrize(
    ("field", "number", "listed"),
    [
        ("wall_seconds", "1e400", False),
        ("wall_seconds", "1" + "0" * 400 + ".5", False),
        ("results.avg_reward", "-1e999", False),
        ("facts.metadata.x", "1e400", False),
        ("wall_seconds", "1e308", True),
        ("wall_seconds", "-1", True),
    ],
)
def test_a_number_no_run_can_have_is_named_and_hides_nobody(
    ids: list[str], qn_exp: Program, field: str, number: str, listed: bool
) -> None:
    bad, good, *_ = ids
    path = Path("experiments", f"{bad}.json")
    doc = json.loads(path.read_bytes())
    *way, last = field.split(".")
    section = doc
    for key in way:
        section = section.setdefault(key, {})
    section[last] = "HERE"
    path.write_text(json.dumps(doc).replace('"HERE"', number))
    for command in ("list", "stats"):
        done = qn_exp(command)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False)
        done = qn_exp(command, "--json")
        assert done.returncode == 0
        assert "Infinity" not in done.stdout
        json.loads(done.stdout, parse_constant=pytest.fail)
    shown = [row["id"] for row in json.loads(qn_exp("list", "--json").stdout)["experiments"]]
    assert good in shown
    assert qn_exp("show", bad).returncode == (0 if listed else 3)
    checked = qn_exp("fsck")
    assert checked.returncode == 1
    assert bad in checked.stdout + checked.stderr


def test_a_sum_of_steps_beyond_a_record_is_recorded_all_the_same(
    project: Path, qn_exp: Program
) -> None:
    with track({"a": 1}, seed=1, blocked=["metadata"]) as run:
        for _ in range(2):
            run.episode(steps=2**53 - 1, success=True)
    assert run.experiment is not None
    assert run.experiment.results.total_steps is None
    assert run.experiment.results.avg_steps == 2**53 - 1
    assert qn_exp("fsck").returncode == 0
    assert qn_exp("show", run.id).returncode == 0


DIES_AT_ONCE = """
import os
import re
import qn_tracking.builtin.json_storage as storage
class Journal:
    def __init__(self, *a):
        os._exit(9)
storage.Journal = Journal
from qn_tracking import track
from qn_tracking.errors import StorageError
track({"a": 1}, seed=1, blocked=["metadata"]).start()
"""


def test_a_run_that_died_before_its_journal_is_recovered_without_a_fault(
    project: Path, qn_exp: Program
) -> None:
    assert subprocess.run([sys.executable, "-c", DIES_AT_ONCE], cwd=project).returncode == 9
    done = qn_exp("recover", "--all")
    assert (done.returncode, done.stdout[:21]) == (0, "recovered 0 episodes:")
    assert qn_exp("fsck").returncode == 0


def test_recover_all_goes_on_past_any_one_run(
    project: Path, qn_exp: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        subprocess.run([sys.executable, "-c", KILLED], cwd=project)
    first, *others = sorted(path.name for path in Path("experiments/runs").iterdir())
    run = Path("experiments/runs", first, "run.json")
    run.write_text(run.read_text().replace('"seed": 3', '"seed": 1e400'))
    done = qn_exp("recover", "--all")
    assert done.returncode == 3
    assert first in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.stem for path in sorted(Path("experiments").glob("*.json"))] == others
