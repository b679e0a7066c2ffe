"""Whatever lies in a folder, a command ends with one line and an exit code, never in a traceback.

A fault is put into one field after the other; every command reads it; the good experiment beside
it stays in the list.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from itertools import cycle
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from conftest import SMALL, Program, command
from qn_tracking import track
from qn_tracking.errors import StorageError
from qn_tracking.store import phases, series
from qn_tracking.store.columns import columns, every_column
from qn_tracking.store.read import Lines

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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with two experiments and a run that was killed, and their ids."""
    place = tmp_path_factory.mktemp("made")
    (place / "c.yml").write_text(SMALL)
    env = {"GIT_CEILING_DIRECTORIES": str(place.parent), "GIT_CONFIG_GLOBAL": os.devnull}
    for seed in ("1", "2"):
        args = ("c.yml", "--episodes", "3", "--seed", seed, "--tag", f"a={seed}")
        run = command("qn-run", *args, "--notes", "n", "--track-experiment", env=env, cwd=place)
        assert run.returncode == 0
    done = sorted(path.stem for path in place.glob("experiments/*.json"))
    assert subprocess.run([sys.executable, "-c", KILLED], cwd=place).returncode == 9
    killed = {path.name for path in place.glob("experiments/runs/*")} - set(done)
    return place, [*done, *killed]


@pytest.fixture
def ids(project: Path, made: tuple[Path, list[str]]) -> list[str]:
    """Two experiments, and a run that was killed; the folder is the current one."""
    place, ids = made
    shutil.copytree(place, project, symlinks=True, dirs_exist_ok=True)
    return ids


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
        "labels": next(iter(sorted(Path(f"experiments/labels/{hurt}").glob("*.json"))), Path()),
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
    doc["arms"][0]["plugins"]["metadata"] = [1]
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


@pytest.mark.parametrize("steps", ["-1e308", "1.5", "[1]", "1" + "0" * 400])
def test_no_journal_of_an_unfinished_run_ends_a_list(
    ids: list[str], qn_exp: Program, steps: str
) -> None:
    path = Path(f"experiments/runs/{ids[2]}/episodes.jsonl")
    path.write_text(re.sub('"steps":[0-9]+', f'"steps":{steps}', path.read_text()))
    done = qn_exp("list")
    assert done.returncode == 0
    assert ids[0] in done.stdout


def test_a_reward_that_is_text_is_listed_before_the_record_is_there(
    project: Path, qn_exp: Program
) -> None:
    run = track({"a": 1}, seed=1, blocked=["metadata"]).start()
    run.episode(reward=Fraction(1, 3), steps=1)
    run.episode(reward=float("inf"), steps=1)
    done = qn_exp("list")
    assert (done.returncode, run.id in done.stdout, done.stderr) == (0, True, "")
    run.end()


def test_a_question_that_is_no_unicode_is_kept_as_escapes(ids: list[str], qn_exp: Program) -> None:
    done = qn_exp("gather", *ids[:2], "--name", "two", "--question", "\udcff?")
    assert done.returncode == 0
    (path,) = Path("experiments/studies").glob("*/gathered.json")
    assert json.loads(path.read_text())["question"] == "\\udcff?"


@pytest.mark.parametrize("words", [("list", ""), ("stats", " ", "")])
def test_an_argument_without_characters_is_one_too_many(
    project: Path, qn_exp: Program, words: tuple[str, ...]
) -> None:
    done = qn_exp(*words)
    assert done.returncode == 2
    assert done.stderr == f"error: unexpected argument '' (see qn-exp {words[0]} --help)\n"


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
    for name in ("list", "stats"):
        done = qn_exp(name)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False)
        done = qn_exp(name, "--json")
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


def test_what_cannot_be_compared_or_exported_is_left_out_of_a_choice(
    ids: list[str], qn_exp: Program, qn_run: Program
) -> None:
    assert qn_run("c.yml", "--episodes", "3", "--seed", "3", "--track-experiment").returncode == 0
    hurt, *good = sorted(path.stem for path in Path("experiments").glob("*.json"))
    rewrite(hurt, metrics="7")
    done = qn_exp("compare", "--ungrouped", "--where", "seed > 0", "--status", "completed")
    assert (done.returncode, hurt in done.stderr, hurt in done.stdout) == (0, True, False)
    assert done.stderr.count("\n") == 1
    # One that is named is refused.
    assert qn_exp("compare", hurt, *good).returncode == 3
    Path(f"experiments/runs/{good[0]}/episodes.jsonl").write_bytes(b"\xff\n")
    rows = ("export", "--format", "jsonl", "--rows", "episodes")
    done = qn_exp(*rows, "--status", "completed")
    assert done.returncode == 0
    assert {json.loads(line)["id"] for line in done.stdout.splitlines()} == set(good[1:])
    assert f"left out: experiments/runs/{good[0]}" in done.stderr
    assert qn_exp(*rows, good[0]).returncode == 3


@pytest.mark.parametrize(
    "results",
    [
        {"curve": '[0.5, {"a": 1}]'},
        {"curve": '["x"]'},
        {"metrics": '{"reward": 5}'},
        {"metrics": '{"reward": {"n": 1, "mean": [1]}}'},
        {"terminations": '{"goal": "x"}'},
    ],
)
def test_a_summary_without_its_numbers_hides_nobody(
    ids: list[str], qn_exp: Program, results: dict[str, str]
) -> None:
    hurt, good, _ = ids
    assert qn_exp("gather", hurt, good, "--name", "two").returncode == 0
    rewrite(hurt, **results)
    (field,) = results
    for line in ("list", "show two", "compare two", "best", "report two -o two.md", "stats"):
        done = qn_exp(*line.split())
        assert done.returncode == 0, done
        assert done.stderr.count(f"experiments/{hurt}.json: results.{field}") <= 1
    assert good in qn_exp("list").stdout
    assert qn_exp("show", hurt).returncode == 3


@pytest.mark.parametrize("name", ["episodes.jsonl", "phases.jsonl", "series.jsonl"])
def test_a_line_whose_checksum_is_right_may_hold_anything(project: Path, name: str) -> None:
    with track({"a": 1}, seed=1, blocked=["metadata"]) as run:
        for phase in (None, "evaluation"):
            run.episode(success=True, steps=3, reward=1.5, counts={"k": 1}, loss=2.5, phase=phase)
        run.log({"x": 1.5}, step=1)
    folder = Path("experiments/runs", run.id)
    path = folder / name
    read: dict[str, list[Any]] = {
        "episodes.jsonl": [
            lambda: [*Lines(str(path))],
            lambda: every_column("experiments", run.id),
            lambda: columns("experiments", run.id, ["steps", "k", "loss", "timing.at"]),
        ],
        "phases.jsonl": [
            lambda: list(phases.lines(str(folder)) or ()),
            lambda: columns("experiments", run.id, ["steps", "after"], "evaluation"),
        ],
        "series.jsonl": [lambda: [*series.calls(str(folder))], lambda: series.points(str(folder))],
    }
    (line,) = path.read_bytes().splitlines()
    refused = set()
    for fault in faults(line[:-18].decode() + "}"):
        body = json.dumps(json.loads(fault), separators=(",", ":")) if fault[:1] == "{" else fault
        data = body.removesuffix("}").encode("utf-8", "surrogatepass")
        path.write_bytes(data + b',"crc":"%08x"}\n' % crc32(data))
        for call in read[name]:
            try:
                call()
            except StorageError as error:
                refused.add(str(error).partition(": line 1: ")[0])
    assert refused == {f"experiments/runs/{run.id}/{name}"}


def _damaged_journal(id: str) -> Path:
    path = Path(f"experiments/runs/{id}/episodes.jsonl")
    path.write_bytes(b"[]\n" + path.read_bytes())
    return path


def _number_that_is_none(id: str) -> Path:
    """Of another program, with the right checksum."""
    path = Path(f"experiments/runs/{id}/episodes.jsonl")
    first, *rest = path.read_bytes().splitlines(keepends=True)
    body = re.sub(rb'"steps":[0-9]+', b'"steps":[1]', first[:-19])
    path.write_bytes(b"".join([body, b',"crc":"%08x"}\n' % crc32(body), *rest]))
    return path


def _link_for_a_folder(id: str) -> Path:
    path = Path(f"experiments/runs/{id}")
    path.rename("before")
    path.symlink_to(Path("before").absolute())
    return path


def _label_that_is_none(id: str) -> Path:
    path = Path(f"experiments/labels/{id}/0123456789abcdef.json")
    path.parent.mkdir(parents=True)
    path.write_text("[{}]\n")
    return path


def _series_that_is_none(id: str) -> Path:
    path = Path(f"experiments/runs/{id}/series.jsonl")
    os.mkfifo(path)
    doc = json.loads(Path(f"experiments/{id}.json").read_text())
    doc["series"] = {"loss": {"n": 1, "first": 0, "last": 0, "mean": 1.0}}
    Path(f"experiments/{id}.json").write_text(json.dumps(doc))
    return path


@pytest.mark.parametrize(
    "damage",
    [
        _damaged_journal,
        _number_that_is_none,
        _link_for_a_folder,
        _label_that_is_none,
        _series_that_is_none,
    ],
)
def test_a_run_that_is_damaged_takes_no_command_down_for_the_others(
    ids: list[str], qn_exp: Program, damage: Any
) -> None:
    hurt, good, _ = ids
    path = damage(hurt)
    for line in (
        "plot --status completed --metric steps",
        "plot --status completed --x step -o p.json",
        "report --tag a -o r.md",
        "compare --by seed",
        "compare --status completed",
        "export --format jsonl --rows episodes --status completed",
        "export --format bundle -o out.zip",
        "gather --status completed --name all",
    ):
        done = qn_exp(*line.split())
        assert done.returncode == 0, done
        named = [text for text in done.stderr.splitlines() if str(path) in text]
        assert len(named) == len(set(named)), named  # each fault is said once
        if line.startswith("export"):
            assert good in done.stdout or Path("out.zip").exists()


def test_what_is_no_study_takes_no_study_down(
    ids: list[str], qn_exp: Program, qn_run: Program
) -> None:
    assert qn_run("c.yml", "--n-seeds", "1", "--episodes", "1", "--name", "one").returncode == 0
    Path("experiments/studies/notes").write_text("of mine")
    Path("experiments/studies/away").symlink_to("/nonexistent")
    for line in ("show one", "recover --all", "gather --tag a=1 --name two", "tag one a=b"):
        done = qn_exp(*line.split())
        assert (done.returncode, "studies" in done.stderr) == (0, False), done
    assert qn_run("--resume", "one", "--dry-run", process=False).returncode == 0
    listed = qn_exp("list", "--studies")
    assert (listed.returncode, listed.stderr.count("left out: experiments/studies/")) == (0, 2)
    checked = qn_exp("fsck")
    assert checked.returncode == 1
    assert "studies/notes: is a file, not a folder" in checked.stdout + checked.stderr


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


# ------------------------------------------------- what stands where a file of ours is expected


def _link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _link_to_nothing(path: Path, victim: Path) -> None:
    path.symlink_to(victim.parent / "new")


def _fifo(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, victim: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))  # a name of at most 107 bytes


def _other(path: Path, victim: Path) -> None:
    """A folder for a file, a file for a folder."""
    path.mkdir() if victim.is_file() else path.write_text("mine")


INSTEAD = (_link, _link_to_nothing, _fifo, _socket, _other)
FILES = (
    *(".index.sqlite", ".index.sqlite-journal", ".index.lock", "ID.json", "studies/S/study.json"),
    *("runs/ID/labels.json", "runs/ID/episodes.jsonl", "runs/ID/config.yml", "runs/DEAD/run.json"),
    *("runs/DEAD/episodes.jsonl", "runs/DEAD/config.yml"),
)
FOLDERS = ("runs", "runs/ID", "runs/DEAD", "runs/DEAD/.capture", ".trash", ".trash/ID", "studies")
USES = (
    *("list", "show ID", "show ID --config", "fsck", "stats", "tail ID --no-follow", "tag ID a=b"),
    *("export --format bundle -o out.zip ID", "rerun ID", "recover DEAD", "note DEAD n", "rm DEAD"),
    *("rm ID", "restore ID", "import experiments --experiments-dir there", "import in.zip"),
)


def _behind(folder: Path) -> dict[str, object]:
    """Every file below, its bytes and its times."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize(
    ("place", "instead"),
    [
        pytest.param(place, kind, marks=[] if kind is _link else pytest.mark.slow)
        for place in (*FILES, *FOLDERS)
        for kind in INSTEAD
    ],
)
def test_nothing_but_a_file_of_ours_is_used_where_one_is_expected(
    ids: list[str], qn_exp: Program, qn_run: Program, place: str, instead: Any
) -> None:
    """A repository that was cloned may hold anything in its place."""
    assert qn_exp("export", "--format", "bundle", "-o", "in.zip", ids[0]).returncode == 0
    victim = Path("elsewhere").absolute() / "victim"
    path = Path("experiments", place.replace("ID", ids[0]).replace("DEAD", ids[2]))
    if place in FILES:
        victim.parent.mkdir()
        victim.write_bytes(path.read_bytes() if path.is_file() else b"")
    else:
        victim.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, victim, dirs_exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    instead(path, victim)
    before, kind = _behind(victim.parent), path.lstat().st_mode
    for use in USES:
        done = qn_exp(*use.replace("ID", ids[0]).replace("DEAD", ids[2]).split())
        assert "Traceback" not in done.stderr + done.stdout, use
        assert "internal" not in done.stderr, use
        assert done.returncode in (0, 1, 2, 3, 4), use
        assert _behind(victim.parent) == before, use
    done = qn_run("c.yml", "--episodes", "1", "--track-experiment")
    assert "Traceback" not in done.stderr
    assert _behind(victim.parent) == before
    if os.path.lexists(path):
        assert path.lstat().st_mode == kind


@pytest.mark.parametrize("wal", [False, True], ids=["journal", "wal"])
def test_a_database_of_another_program_is_left_alone(
    ids: list[str], qn_exp: Program, wal: bool
) -> None:
    index = Path("experiments/.index.sqlite")
    index.unlink(missing_ok=True)
    with closing(sqlite3.connect(index)) as db:
        if wal:
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE entry (mine)")
        db.commit()
        before = _behind(index.parent)
        done = qn_exp("list")
        assert (done.returncode, ids[0] in done.stdout) == (0, True)
        assert done.stderr == (
            "warning: experiments/.index.sqlite: is a database of another program; move it away;"
            " indexing in memory, for this once\n"
        )
        assert _behind(index.parent) == before


def test_pages_and_benchmarks_are_no_links(
    ids: list[str], qn_bench: Program, tmp_path: Path
) -> None:
    """Neither a page nor a folder of benchmarks leads anywhere."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("# mine\n")
    for name in ("verifications", "signatures", ".verify", "protocol.yml", ".cache.json"):
        folder = tmp_path / "project" / name / "benchmarks"
        folder.mkdir(parents=True)
        (folder / name).symlink_to(mine)
        (folder.parent / "README.md").symlink_to(mine / "README.md")
        before = _behind(mine)
        for args in ("validate", "leaderboard", "regenerate", "outdated", "verify x", "show x"):
            done = qn_bench(*args.split(), cwd=folder.parent)
            assert "Traceback" not in done.stderr
            assert _behind(mine) == before, args
        done = qn_bench("regenerate", cwd=folder.parent)
        assert "is a link" in done.stderr
        assert (done.returncode, done.stderr.count("\n")) == (3 - (name == "protocol.yml"), 1)


@pytest.mark.parametrize(
    ("place", "use"),
    [
        ("runs", "tag ID a=b"),
        ("runs/ID", "note ID n"),
        ("runs/ID/labels.json", "tag ID a=b"),
        ("runs/ID/episodes.jsonl", "tail ID --no-follow"),
        ("runs/DEAD/episodes.jsonl", "recover DEAD"),
        ("ID.json", "show ID"),
        (".trash", "rm ID"),
    ],
)
def test_a_link_is_refused_in_one_line(
    ids: list[str], qn_exp: Program, place: str, use: str
) -> None:
    name = place.replace("ID", ids[0]).replace("DEAD", ids[2])
    path = Path("experiments", name)
    if os.path.lexists(path):
        path.rename("before")
    path.symlink_to(Path("before").absolute())
    done = qn_exp(*use.replace("ID", ids[0]).replace("DEAD", ids[2]).split())
    what = "file" if name.endswith((".json", ".jsonl")) else "folder"
    assert done.stderr == f"error: experiments/{name}: is a link, not a {what}\n"
    assert done.returncode == 3


def test_a_folder_of_a_run_that_is_a_link_is_named_in_the_list_until_it_is_none(
    ids: list[str], qn_exp: Program
) -> None:
    folder = Path("experiments/runs", ids[2])
    folder.rename("before")
    folder.symlink_to(Path("before").absolute())
    for _ in range(2):
        done = qn_exp("list")
        warning = f"warning: experiments/runs/{ids[2]}: is a link, not a folder\n"
        assert (done.returncode, done.stderr) == (0, warning)
        assert ids[0] in done.stdout
    folder.unlink()
    Path("before").rename(folder)
    done = qn_exp("list")
    assert (done.stderr, ids[2] in done.stdout) == ("", True)
