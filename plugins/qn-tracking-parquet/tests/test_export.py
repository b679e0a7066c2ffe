"""`qn-exp parquet export`: the same from the record as from the run."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

LIVE = {"json_storage": {}, "parquet": {}}
STORED = {"json_storage": {}}


def rows(folder: Path, table: str):
    return {
        path.name: (str(path.relative_to(folder)), pyarrow.parquet.ParquetFile(path).read())
        for path in folder.glob(f"{table}/**/*.parquet")
    }


def test_a_run_and_its_export_are_the_same(record, program, folder, files):
    record([{"steps": n, "reward": n / 3, "loss": float("nan")} for n in range(2500)], plugins=LIVE)
    record([], environment="", plugins=LIVE)
    live = rows(folder, "runs"), rows(folder, "episodes")
    names = files()
    done = program("exp", "parquet", "export", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "exported 2 experiments, 2,500 episodes, to exports/parquet\n"
    assert files() == names
    for before, after in zip(live, (rows(folder, "runs"), rows(folder, "episodes")), strict=True):
        assert before.keys() == after.keys()
        for name, (path, table) in before.items():
            assert after[name][0] == path
            # As text, in which NaN is NaN.
            assert str(after[name][1].to_pylist()) == str(table.to_pylist())


def test_only_what_is_named(record, program, query):
    first, second = (record([{"steps": n}], plugins=STORED) for n in (1, 2))
    assert program("exp", "parquet", "export", first.id).returncode == 0
    assert query("select id from runs") == [(first.id,)]
    assert program("exp", "parquet", "export", first.id, second.id).returncode == 0
    assert query("select count(*) from runs") == [(2,)]


def test_tags_that_were_added_later(record, program, query):
    made = record([{}], tags={"sweep": "a"}, plugins=LIVE)
    assert program("exp", "tag", made.id, "sweep=b", "kept=yes").returncode == 0
    assert query("select tags['sweep'] from runs") == [("a",)]
    assert program("exp", "parquet", "export", made.id).returncode == 0
    assert query("select tags from runs") == [({"sweep": "b", "kept": "yes"},)]


def test_what_came_by_git_has_no_episodes_here(record, program, experiments, files):
    made = record([{"steps": 1}], plugins=STORED)
    (experiments / "runs" / made.id / "episodes.jsonl").unlink()
    done = program("exp", "parquet", "export", "--all")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: 1 of 1 without episodes: the journal is not available")
    assert [path.parts[0] for path in map(Path, files())] == ["runs"]


def test_one_that_is_broken_does_not_keep_the_others(record, program, experiments, query):
    good, bad, short = (record([{"steps": 1}], plugins=STORED) for _ in range(3))
    path = experiments / f"{bad.id}.json"
    path.write_bytes(path.read_bytes()[:200])
    (experiments / "runs" / short.id / "episodes.jsonl").write_bytes(b"")
    done = program("exp", "parquet", "export", "--all")
    assert done.returncode == 3
    assert done.stdout.startswith("exported 1 experiment, 1 episodes")
    lines = sorted(done.stderr.splitlines())
    assert len(lines) == 2
    assert any(f"{bad.id}.json: truncated: " in line for line in lines)
    hint = f"its record has 1 episodes, its journal 0 (qn-exp fsck {short.id})"
    assert f"error: {short.id}: {hint}" in lines
    assert query("select id from runs") == [(good.id,)]


def test_as_json_and_into_another_folder(record, program, tmp_path):
    made = record([{"steps": 1}] * 3, plugins=STORED)
    done = program("exp", "parquet", "export", made.id, "--json", "--folder", "out/x")
    assert json.loads(done.stdout) == {
        "folder": "out/x",
        "experiments": 1,
        "episodes": 3,
        "without_episodes": [],
        "errors": [],
    }
    assert len(list((tmp_path / "out" / "x").rglob(f"{made.id}.parquet"))) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "cause"),
    [
        ((), 2, "error: expected ids, or --all (qn-exp parquet export --help)"),
        (("--all", "@1"), 2, "error: expected ids, or --all"),
        (("nobody",), 2, "error: "),
        (("../x",), 2, "error: '../x' is not an id"),
        (("--all", "--compression", "zip"), 2, "error: plugin parquet: compression: expected one"),
        (("--all", "--folder", ""), 2, "error: plugin parquet: folder: expected a folder"),
        (("--all", "--folder", "file"), 3, "error: file: not a directory"),
    ],
)
def test_what_is_refused(record, program, tmp_path, arguments, code, cause):
    record([{}], plugins=STORED)
    (tmp_path / "file").write_text("")
    done = program("exp", "parquet", "export", *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith(cause)
    assert done.stderr.count("\n") == 1


def test_the_same_one_at_once_is_one_file(record, program, tmp_path, files, query):
    made = record([{"steps": n} for n in range(3000)], plugins=STORED)
    script = Path(sys.executable).with_name("qn-exp")
    processes = [
        subprocess.Popen([script, "parquet", "export", made.id], cwd=tmp_path, text=True,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(4)
    ]  # fmt: skip
    assert [process.communicate()[1] for process in processes] == [""] * 4
    assert len(files()) == 2
    assert query("select count(*), sum(steps)::int from episodes") == [(3000, 1500 * 2999)]
