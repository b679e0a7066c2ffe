"""`qn-exp export` and `import`: nothing lost, nothing invented, nothing hostile let in."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from conftest import Program
from qn_tracking import track
from qn_tracking.store import export

DATA = os.environ.get("QN_REAL_DATA")
THEIRS = Path(DATA or ".").resolve() / "quantum-nematode"
RECORDS = THEIRS / "records"


def _run(config: dict[str, Any], seed: int = 1, **options: Any) -> str:
    with track(config, seed=seed, warn=lambda text: None, **options) as run:
        for i in range(3):
            run.episode(
                success=i > 0, steps=i + 1, reward=i / 3, counts={"eaten": i}, loss=1 / (i + 1)
            )
        return run.id


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with two runs, and their ids."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("GIT_CEILING_DIRECTORIES", str(place.parent))
        first = _run({"a": 1}, 1, tags={"k": "v"})
        return place, [first, _run({"a": 2, "b": {"c": "=SUM(A1)"}}, 2)]


@pytest.fixture
def store(project: Path, made: tuple[Path, list[str]]) -> list[str]:
    """Ids of two runs in `experiments`."""
    shutil.copytree(made[0], project, dirs_exist_ok=True)
    return made[1]


def _tree(folder: Path) -> dict[str, bytes]:
    """Every file of ours, by its name; without what other commands keep there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".index")
    }


# ------------------------------------------------------------------------------------------- tables


def test_runs_as_csv(store: list[str], qn_exp: Program) -> None:
    done = qn_exp("export", "--format", "csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    assert [row["id"] for row in rows] == store
    assert rows[0]["results.success_rate"] == repr(2 / 3)
    assert rows[0]["tags.k"] == "v"
    assert rows[1]["tags.k"] == ""
    assert rows[1]["config.data.b.c"] == "'=SUM(A1)"
    assert json.loads(rows[0]["results.curve"]) == [0.0, 1.0, 1.0]


def test_names_with_dots_have_columns_of_their_own(project: Path, qn_exp: Program) -> None:
    _run({"a.b": 1, "a": {"b": 2, "": 3}, 'q"': 4})
    (row,) = csv.DictReader(io.StringIO(qn_exp("export", "--format", "csv").stdout, newline=""))
    data = {name: value for name, value in row.items() if name.startswith("config.data.")}
    assert data == {
        'config.data."a.b"': "1",
        "config.data.a.b": "2",
        'config.data.a.""': "3",
        'config.data."q"""': "4",
    }


def test_episodes_as_csv_and_json_lines(store: list[str], qn_exp: Program) -> None:
    done = qn_exp("export", "--format", "csv", "--rows", "episodes", store[1])
    rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    assert [row["index"] for row in rows] == ["0", "1", "2"]
    assert [row["success"] for row in rows] == ["false", "true", "true"]
    assert float(rows[2]["metrics.loss"]) == 1 / 3
    assert {row["run_seed"] for row in rows} == {"2"}
    done = qn_exp("export", "--format", "jsonl", "--rows", "episodes", "--where", "a = 1")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["counts"] for line in lines] == [{"eaten": 0}, {"eaten": 1}, {"eaten": 2}]
    assert {line["id"] for line in lines} == {store[0]}


def test_the_ending_of_a_file_names_its_format(store: list[str], qn_exp: Program) -> None:
    for name in ("a.csv", "b.JSONL", "c.zip"):
        assert qn_exp("export", "-o", name).returncode == 0
    assert qn_exp("export", "--format", "jsonl", "-o", "d.csv").returncode == 0
    assert Path("a.csv").read_text().startswith("schema,id,")
    assert json.loads(Path("b.JSONL").read_text().splitlines()[0])["id"] == store[0]
    assert zipfile.is_zipfile("c.zip")
    assert Path("d.csv").read_text() == Path("b.JSONL").read_text()
    for output, said in (("e.txt", "e.txt: the ending names no format"), ("-", "no format given")):
        done = qn_exp("export", "-o", output)
        assert (done.returncode, done.stderr.startswith(f"error: {said} (--format csv")) == (
            2,
            True,
        )


def test_runs_as_json_lines_are_whole(store: list[str], qn_exp: Program) -> None:
    done = qn_exp("export", "--format", "jsonl")
    for id, line in zip(store, done.stdout.splitlines(), strict=True):
        assert json.loads(line) == json.loads(Path(f"experiments/{id}.json").read_text())


def test_parquet_has_types(store: list[str], qn_exp: Program) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for what, count in (("runs", 2), ("episodes", 6)):
        table = ("--format", "parquet", "-o", "t.parquet", "--force")
        assert qn_exp("export", *table, "--rows", what).returncode == 0
        found = parquet.read_table("t.parquet")
        assert found.num_rows == count
    assert str(found.schema.field("success").type) == "bool"
    assert str(found.schema.field("steps").type) == "int64"
    assert found.column("metrics.loss").to_pylist()[:3] == [1.0, 1 / 2, 1 / 3]


def test_parquet_without_its_library_is_unsupported(store: list[str], qn_exp: Program) -> None:
    Path("without/pyarrow").mkdir(parents=True)
    Path("without/pyarrow/__init__.py").write_text("raise ImportError")
    there = {**os.environ, "PYTHONPATH": "without"}
    done = qn_exp("export", "--format", "parquet", "-o", "t.parquet", env=there)
    assert done.returncode == 4
    assert "qn-tracking[parquet]" in done.stderr
    assert not Path("t.parquet").exists()


def test_a_file_is_never_torn_nor_replaced_unasked(store: list[str], qn_exp: Program) -> None:
    Path("runs.csv").write_text("mine")
    done = qn_exp("export", "--format", "csv", "-o", "runs.csv")
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert Path("runs.csv").read_text() == "mine"
    journal = Path("experiments/runs") / store[1] / "episodes.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + lines[1].replace(b"1", b"2", 1) + lines[2])
    rows = ("export", "--format", "csv", "--rows", "episodes", "-o", "runs.csv", "--force")
    done = qn_exp(*rows, *store)
    assert done.returncode == 3
    assert "line 2" in done.stderr
    assert Path("runs.csv").read_text() == "mine"
    # What was not named is left out, and said to be.
    done = qn_exp(*rows)
    assert (done.returncode, "line 2" in done.stderr) == (0, True)
    rows_of = csv.DictReader(Path("runs.csv").read_text().splitlines())
    assert {row["id"] for row in rows_of} == {store[0]}
    assert qn_exp("export", "--format", "csv", "-o", "runs.csv", "--force").returncode == 0
    assert Path("runs.csv").read_text().startswith("schema,id,")
    assert [p.name for p in Path().iterdir() if p.name.endswith(".tmp")] == []


def test_a_bad_record_hides_none_of_the_good(store: list[str], qn_exp: Program) -> None:
    path = Path(f"experiments/{store[0]}.json")
    path.write_text(path.read_text()[:500])
    done = qn_exp("export", "--format", "jsonl")
    assert done.returncode == 0
    assert store[0] in done.stderr
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [store[1]]
    assert qn_exp("export", "--format", "jsonl", store[0]).returncode == 3


CELL = (
    st.text(alphabet="=+-@\t\r\n'\" ,;a1＝", max_size=6)
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none()
)


@given(st.lists(st.dictionaries(st.text("=ab,\n", min_size=1, max_size=3), CELL), max_size=5))
@settings(deadline=None)
def test_csv_neutralises_formulas_and_keeps_numbers(rows: list[dict[str, Any]]) -> None:
    stream = io.BytesIO()
    assert export.write_csv(stream, lambda: rows) == len(rows)
    head, *found = csv.reader(io.StringIO(stream.getvalue().decode(), newline=""))
    names = list(export.columns(rows))
    if not names:
        return
    for cells, row in zip(found, rows, strict=True):
        for name, cell in zip(names, cells, strict=True):
            value = row.get(name)
            if isinstance(value, str):
                assert cell.removeprefix("'") == value.removeprefix("'")
                assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))
            elif type(value) in (int, float):
                assert float(cell) == value
            else:
                assert cell == {None: "", True: "true", False: "false"}[value]
    assert not any(name.startswith("=") for name in head)


# ------------------------------------------------------------------------------------------ bundles


def test_a_bundle_is_the_same_there(store: list[str], qn_exp: Program) -> None:
    qn_exp("tag", store[0], "late=1")
    assert qn_exp("export", "--format", "bundle", "-o", "b.zip").returncode == 0
    done = qn_exp("import", "b.zip", "--experiments-dir", "there", "--json")
    assert json.loads(done.stdout)["imported"] == 2
    here, there = _tree(Path("experiments")), _tree(Path("there"))
    assert there == here
    assert qn_exp("fsck", "--experiments-dir", "there").returncode == 0
    again = qn_exp("import", "b.zip", "--experiments-dir", "there")
    assert again.stdout == "0 imported, 2 already here\n"
    assert _tree(Path("there")) == here
    # The same experiments make the same bytes.
    qn_exp("export", "--format", "bundle", "-o", "c.zip", "--experiments-dir", "there")
    assert Path("c.zip").read_bytes() == Path("b.zip").read_bytes()


def test_records_that_came_by_git_are_completed(store: list[str], qn_exp: Program) -> None:
    qn_exp("export", "--format", "bundle", "-o", "b.zip")
    Path("there").mkdir()
    for id in store:
        shutil.copy(f"experiments/{id}.json", "there")
    qn_exp("note", store[0], "seen", "--experiments-dir", "there")
    done = qn_exp("import", "b.zip", "--experiments-dir", "there")
    assert done.stdout == "0 imported, 2 completed\n"
    assert "seen" in qn_exp("show", store[0], "--experiments-dir", "there").stdout
    assert (Path("there/runs") / store[0] / "episodes.jsonl").exists()


def test_a_folder_and_a_loose_record(store: list[str], qn_exp: Program) -> None:
    assert qn_exp("import", "experiments", "--experiments-dir", "there").stdout == "2 imported\n"
    assert _tree(Path("there")) == _tree(Path("experiments"))
    shutil.copy(f"experiments/{store[0]}.json", "renamed.json")
    assert qn_exp("import", "renamed.json", "--experiments-dir", "x").stdout == "1 imported\n"
    assert Path(f"x/{store[0]}.json").read_bytes() == Path("renamed.json").read_bytes()
    assert qn_exp("import", "experiments").stdout == "0 imported, 2 already here\n"


def test_another_record_of_an_id_is_never_replaced(store: list[str], qn_exp: Program) -> None:
    path = Path(f"experiments/{store[0]}.json")
    before = path.read_bytes()
    Path("other.json").write_bytes(before.replace(b'"k": "v"', b'"k": "w"'))
    done = qn_exp("import", "other.json")
    assert done.returncode == 3
    assert "another record of this id is here" in done.stderr
    assert path.read_bytes() == before


def test_a_run_that_is_here_without_its_record_is_left_alone(
    store: list[str], qn_exp: Program
) -> None:
    qn_exp("export", "--format", "bundle", "-o", "b.zip", store[0], store[1])
    Path(f"experiments/{store[0]}.json").unlink()
    journal = Path("experiments/runs") / store[0] / "episodes.jsonl"
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    done = qn_exp("import", "b.zip")
    assert done.returncode == 3
    assert f"qn-exp recover {store[0]}" in done.stderr
    assert done.stdout == "0 imported, 1 already here, 1 refused\n"


def _zip(members: dict[str, bytes], **modes: int) -> str:
    with zipfile.ZipFile("evil.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = modes.get("mode", stat.S_IFREG | 0o644) << 16
            out.writestr(info, data)
    return "evil.zip"


ID = "20260101T000000Z-00000000"


@pytest.mark.parametrize(
    ("member", "cause"),
    [
        ("../out.json", "leads out of the folder"),
        (f"runs/{ID}/../../../out", "leads out of the folder"),
        ("/tmp/out.json", "leads out of the folder"),
        (f"runs/{ID}/a\\..\\b", "not portable"),
        (f"runs/{ID}/a\nb", "not portable"),
        (f"runs/{ID}//b", "not portable"),
        (f"runs/{ID}/{'x' * 300}", "not portable"),
        (f"runs/{'y' * 200}/a", "runs: no records in this bundle"),
        (".index.sqlite", ".index.sqlite: no records in this bundle"),
        ("stray.txt", "stray.txt: no records in this bundle"),
    ],
)
def test_a_hostile_name_is_refused_by_name(
    project: Path, qn_exp: Program, member: str, cause: str
) -> None:
    done = qn_exp("import", _zip({member: b"x"}), "--experiments-dir", "there/deep")
    assert done.returncode == 3
    assert cause in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("there").exists()
    assert sorted(path.name for path in project.iterdir()) == ["evil.zip", "gitconfig", "small.yml"]


@pytest.mark.parametrize(
    ("mode", "cause"),
    [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "a device"), (stat.S_IFIFO, "FIFO")],
)
def test_what_is_no_file_is_refused(project: Path, qn_exp: Program, mode: int, cause: str) -> None:
    done = qn_exp("import", _zip({f"runs/{ID}/a": b"/etc/passwd"}, mode=mode | 0o777))
    assert done.returncode == 3
    assert cause in done.stderr
    assert not Path("experiments").exists()


def test_bombs_lies_and_damage_are_refused(store: list[str], qn_exp: Program) -> None:
    before = _tree(Path("experiments"))
    qn_exp("export", "--format", "bundle", "-o", "good.zip", store[0])
    good = Path("good.zip").read_bytes()
    faults: dict[str, tuple[bytes, str]] = {
        "bomb": (Path(_zip({f"runs/{ID}/a": bytes(90 << 20)})).read_bytes(), "bomb"),
        "twice": (_twice(), "comes twice"),
        "below": (
            Path(_zip({f"runs/{ID}/a": b"", f"runs/{ID}/a/b": b""})).read_bytes(),
            "below a file",
        ),
        "truncated": (good[: len(good) // 2], "not a whole zip file"),
        "future": (good[:-1] + b"2", "newer than this program"),
        "no record": (Path(_zip({f"runs/{ID}/a": b"x"})).read_bytes(), "without its record"),
    }
    broken = bytearray(good)
    with zipfile.ZipFile("good.zip") as bundle:
        most = max(bundle.infolist(), key=lambda one: one.compress_size)
    # In its data: not every bit of a header is looked at.
    broken[most.header_offset + 30 + len(most.filename) + most.compress_size // 2] ^= 1
    faults["flipped"] = (bytes(broken), "")
    for name, (data, cause) in faults.items():
        path = Path(f"{name}.zip")
        path.write_bytes(data)
        done = qn_exp("import", str(path), "--experiments-dir", "there")
        assert done.returncode == 3, name
        assert cause in done.stderr, name
        assert "Traceback" not in done.stderr, name
        assert not any(".json" in found for found in _tree(Path("there"))), name
    assert _tree(Path("experiments")) == before


def _twice() -> bytes:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile("twice", "w") as out:
            out.writestr(f"runs/{ID}/a", b"1")
            out.writestr(f"runs/{ID}/a", b"2")
    return Path("twice").read_bytes()


def test_what_is_not_of_a_run_is_left_out_and_named(store: list[str], qn_exp: Program) -> None:
    """Git, Python and this program would read it as their own."""
    before, run = _tree(Path("experiments")), f"runs/{store[0]}"
    path = Path(f"experiments/{store[0]}.json")
    digest = sha256(b"x").hexdigest()
    doc = json.loads(path.read_text())
    doc["attachments"].append({"name": "pyproject.toml", "size": 1, "sha256": digest})
    path.write_text(json.dumps(doc))
    before[path.name] = path.read_bytes()
    qn_exp("export", "--format", "bundle", "-o", "evil.zip")
    with zipfile.ZipFile("evil.zip", "a") as evil:
        for name in (".git/config", ".index.sqlite", "pyproject.toml", "a.py", "deep/a"):
            evil.writestr(name, "x")
            evil.writestr(f"{run}/{name}", "x")
            (Path("experiments") / run / name).parent.mkdir(exist_ok=True)
            (Path("experiments") / run / name).write_text("x")
    left = (".git", ".index.sqlite", "a.py", "deep", "pyproject.toml")
    places = {
        "evil.zip": [f"evil.zip: {place}{name}" for place in ("", f"{run}/") for name in left],
        "experiments": [f"experiments/{run}/{name}" for name in left],
    }
    for source, names in places.items():
        done = qn_exp("import", source, "--experiments-dir", f"there/{source}")
        assert (done.returncode, done.stdout) == (0, "2 imported\n")
        said = [f"warning: {name}: left out: not a file of a run" for name in names]
        assert sorted(done.stderr.splitlines()) == sorted(said)
        there = _tree(Path("there") / source)
        assert {name: there[name] for name in there if name != ".gitignore"} == {
            name: before[name] for name in before if name != ".gitignore"
        }
    # What a run that is not over has besides is nobody's.
    (Path("experiments") / run / ".capture").mkdir()
    done = qn_exp("export", "--format", "bundle", "-o", "out.zip")
    assert done.stderr.count("left out: not a file of a run") == len(left)
    with zipfile.ZipFile("out.zip") as out:
        assert sorted(out.namelist()) == sorted(name for name in before if name != ".gitignore")


@pytest.mark.parametrize("name", ["episodes.jsonl", "config.yml"])
def test_files_that_the_record_does_not_name_are_refused(
    store: list[str], qn_exp: Program, name: str
) -> None:
    qn_exp("export", "--format", "bundle", "-o", "b.zip")
    with zipfile.ZipFile("b.zip") as good, zipfile.ZipFile("evil.zip", "w") as evil:
        for info in good.infolist():
            data = good.read(info)
            if info.filename == f"runs/{store[0]}/{name}":
                data = data.replace(b"1", b"3")
            evil.writestr(info, data)
    done = qn_exp("import", "evil.zip", "--experiments-dir", "there")
    assert done.returncode == 3
    assert name in done.stderr
    # The other one is imported.
    assert done.stdout == "1 imported, 1 refused\n"
    assert sorted(path.name for path in Path("there").glob("*.json")) == [f"{store[1]}.json"]
    assert [path.name for path in Path("there/runs").iterdir()] == [store[1]]


def test_bad_files_are_named_and_the_others_imported(store: list[str], qn_exp: Program) -> None:
    Path("in").mkdir()
    shutil.copy(f"experiments/{store[0]}.json", "in/good.json")
    os.mkfifo("in/fifo.json")
    Path("in/text.json").write_text("no JSON")
    Path("in/lfs.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    Path("in/other.json").write_text("{}")
    Path("in/future.json").write_bytes(
        Path("in/good.json").read_bytes().replace(b'"schema": 2', b'"schema": 99')
    )
    Path("in/dots.json").write_bytes(
        Path("in/good.json").read_bytes().replace(store[0].encode(), b"../../x")
    )
    done = qn_exp("import", "in", "nowhere.json", "--experiments-dir", "there")
    assert done.returncode == 3
    assert done.stdout == "1 imported, 7 refused\n"
    for cause in ("FIFO", "not valid JSON", "git-LFS", "neither", "newer", "not an id", "no such"):
        assert cause in done.stderr
    assert [path.name for path in Path("there").glob("*.json")] == [f"{store[0]}.json"]


@pytest.mark.parametrize(
    ("field", "text", "cause"),
    [
        ("facts", '{"a":' * 80 + "1" + "}" * 80, "facts: nested deeper than 64"),
        ("facts", '{"a":' * 65 + "1" + "}" * 65, "facts: nested deeper than 64"),
        ("facts", '{"a":' * 900 + "1" + "}" * 900, "facts: nested deeper than 64"),
        ("tags", '{"a":' * 90_000 + "1" + "}" * 90_000, "nested too deep"),
        ("started", '"yesterday"', "started: expected a time, got 'yesterday'"),
        ("ended", '""', "ended: expected a time, got ''"),
        ("status", '"weird"', "status: expected one of completed, failed, "),
    ],
)
def test_what_no_listing_could_hold_is_refused_and_faulted(
    store: list[str], qn_exp: Program, field: str, text: str, cause: str
) -> None:
    path = Path(f"experiments/{store[0]}.json")
    doc = json.loads(path.read_text())
    path.write_text(json.dumps({**doc, field: "@"}).replace('"@"', text))
    shutil.copy(path, "in.json")
    with zipfile.ZipFile("in.zip", "w") as out:
        out.write(path, path.name)
    for source in ("in.json", "in.zip"):
        done = qn_exp("import", source, "--experiments-dir", "there")
        assert done.returncode == 3
        assert done.stdout == "0 imported, 1 refused\n"
        assert done.stderr.startswith(f"error: {source}")
        assert cause in done.stderr
        assert done.stderr.count("\n") == 1
    assert not any(Path("there").glob("*.json"))
    done = qn_exp("fsck")
    assert done.returncode == 1
    assert cause in done.stdout
    for command in (["show"], ["show", "--json"]):
        done = qn_exp(*command, store[0])
        assert (done.returncode, done.stderr.count("\n")) in ((0, 0), (3, 1))
        assert (done.returncode == 3) == ("nested" in cause)
        assert done.stderr == "" or str(path) in done.stderr


def test_a_record_may_be_nested_as_deep_as_one_is_written(qn_exp: Program, project: Path) -> None:
    data: dict[str, Any] = {}
    for _ in range(62):
        data = {"a": data}
    id = _run(data)
    assert qn_exp("import", "experiments", "--experiments-dir", "there").stdout == "1 imported\n"
    assert qn_exp("show", id, "--experiments-dir", "there").returncode == 0
    assert qn_exp("fsck", "--experiments-dir", "there").returncode == 0


def test_what_a_killed_import_left_behind_is_swept(store: list[str], qn_exp: Program) -> None:
    left = Path("experiments/runs/.import-00000000")
    left.mkdir()
    (left / "episodes.jsonl").write_text("")
    os.utime(left, (0, 0))
    assert len(json.loads(qn_exp("list", "--json").stdout)["experiments"]) == 2
    qn_exp("import", "experiments")
    assert not left.exists()


# -------------------------------------------------------------------------------- another program


def _first_generation() -> dict[str, Any]:
    return {
        "experiment_id": "20251109_010203",
        "timestamp": "2025-11-09T01:02:03.500000+00:00",
        "config_file": "configs/examples/one.yml",
        "config_hash": "ab" * 32,
        "git_commit": "cd" * 20,
        "git_branch": "b",
        "git_dirty": True,
        "environment": {"type": "static", "grid_size": 10, "num_foods": None},
        "brain": {"type": "modular", "shots": 10, "learning_rate": 1e-3},
        "results": {
            "total_runs": 20,
            "success_rate": 0.65,
            "avg_steps": 10.5,
            "avg_reward": 85.27,
            "avg_foods_collected": None,
            "avg_distance_efficiency": None,
            "completed_all_food": 0,
            "starved": 0,
            "max_steps_reached": 7,
            "goal_reached": 13,
        },
        "system": {"python_version": "3.12.10", "device_type": "cpu", "qpu_backend": None},
        "exports_path": "exports/x",
        "benchmark": {"category": "static_maze_quantum", "notes": "a note", "verified": False},
    }


def _fifth_generation() -> dict[str, Any]:
    spread = {"mean": 0.75, "std": 0.1, "min": 0.5, "max": 0.9}
    return {
        "submission_id": "20251228_151306",
        "timestamp": "2025-12-28T15:13:06+00:00",
        "brain_type": "ppo",
        "brain_config": {"type": "ppo"},
        "environment": {"type": "dynamic", "grid_size": 20},
        "category": "foraging_small/classical",
        "sessions": [{"experiment_id": "a", "session_seed": 7, "num_runs": 200}] * 2,
        "total_sessions": 2,
        "total_runs": 400,
        "metrics": {
            "success_rate": spread,
            "composite_score": spread,
            "distance_efficiency": spread,
        },
        "contributor": "C",
        "notes": None,
    }


def _import_one(qn_exp: Program, doc: dict[str, Any]) -> dict[str, Any]:
    Path("theirs.json").write_text(json.dumps(doc, indent=2))
    done = qn_exp("import", "theirs.json", "--json")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)["experiments"]
    record: dict[str, Any] = json.loads(Path(f"experiments/{one['id']}.json").read_text())
    return record


def test_the_first_generation_has_no_rewards(project: Path, qn_exp: Program) -> None:
    doc = _first_generation()
    record = _import_one(qn_exp, doc)
    digest = sha256(Path("theirs.json").read_bytes()).hexdigest()
    assert record["id"] == f"20251109T010203Z-{digest[:8]}"
    assert record["status"] == "imported"
    assert record["origin"]["original"] == doc
    assert record["origin"]["id"] == "20251109_010203"
    assert record["origin"]["format"] == "quantum-nematode/1"
    assert record["origin"]["sha256"] == digest
    assert any("gradient strengths" in note for note in record["origin"]["notes"])
    results = record["results"]
    assert results["avg_reward"] is None
    assert results["success_rate"] == 0.65
    assert results["terminations"] == {"goal_reached": 13, "max_steps": 7}
    # What they do not say is not invented.
    for field in ("seed", "digests", "wall_seconds", "steps_per_second", "episodes"):
        assert record[field] is None
    assert results["final_success_rate"] is results["total_steps"] is None
    assert record["config"]["digest"] is None
    assert record["subject"]["family"] == "quantum"
    assert record["facts"]["metadata"]["git"]["commit"] == "cd" * 20
    assert record["notes"] == "a note"
    listed = json.loads(qn_exp("list", "--commit", "cdcd", "--json").stdout)["experiments"]
    assert [one["id"] for one in listed] == [record["id"]]
    assert qn_exp("fsck").returncode == 0


def test_a_later_generation_has_rewards(project: Path, qn_exp: Program) -> None:
    doc = _first_generation()
    doc["results"]["converged"] = True
    assert _import_one(qn_exp, doc)["origin"]["format"] == "quantum-nematode/2"
    doc["timestamp"] = "2025-11-09T02:00:00+00:00"
    record = _import_one(qn_exp, doc)
    assert record["origin"]["format"] == "quantum-nematode/3"
    assert record["started"] == "2025-11-09T01:02:03.000000Z"
    assert record["ended"] == "2025-11-09T02:00:00.000000Z"
    assert record["results"]["avg_reward"] == 85.27


def test_a_submission_of_several_sessions_is_kept_as_it_is(project: Path, qn_exp: Program) -> None:
    doc = _fifth_generation()
    record = _import_one(qn_exp, doc)
    assert record["origin"]["original"] == doc
    assert record["origin"]["format"] == "quantum-nematode/5"
    assert record["seed"] is None
    assert record["subject"]["device"] == ""
    results = record["results"]
    assert results["episodes"] == 400
    assert results["success_rate"] == 0.75
    assert set(results["metrics"]) == {"distance_efficiency"}
    assert "composite" not in json.dumps({**record, "origin": None})
    # It is no session: no interval is made of its pooled episodes, and it joins no group.
    other = _run({"a": 1})
    found = json.loads(qn_exp("compare", record["id"], other, "--json").stdout)
    rate = next(m for m in found["metrics"] if m["metric"] == "success_rate")
    assert rate["values"][0]["low"] is None
    assert rate["values"][1]["low"] is not None


CONFIG = b"brain:\n  name: ppo\n  config: {clip_epsilon: 0.2}\nmax_steps: 100\n"


def _sixth_generation(brain: str = "ppo", id: str = "20260122_105256") -> dict[str, Any]:
    """A session of four episodes with all of them, and no sections of its configuration."""
    rewards = (-1.5, 2.25, 3.0, 4.75)
    return {
        "experiment_id": id,
        "timestamp": "2026-01-22T11:23:16.667090+00:00",
        "config_file": "configs/examples/ppo_small.yml",
        "config_hash": sha256(CONFIG).hexdigest(),
        "git_commit": "ef" * 20,
        "system": {"python_version": "3.12.10", "device_type": "cpu", "qpu_backend": None},
        "benchmark": None,
        "config_summary": {"brain_type": brain, "environment_type": "dynamic", "grid_size": 20},
        "results": {
            "total_runs": 4,
            "success_rate": 0.75,
            "avg_steps": 25.0,
            "avg_reward": 2.125,
            "avg_foods_collected": 2.0,
            "avg_predator_encounters": 6.5,
            "completed_all_food": 3,
            "health_depleted": 1,
            "per_run_results": [
                {
                    "run": i + 1,
                    "seed": 1709991606 + i,
                    "success": i > 0,
                    "steps": 10 * (i + 1),
                    "total_reward": reward,
                    "termination_reason": "completed_all_food" if i else "health_depleted",
                    "foods_collected": i + 1 if i < 3 else 2,
                    "distance_efficiency": 0.25 * i if i else None,
                }
                for i, reward in enumerate(rewards)
            ],
        },
    }


def _episodes(qn_exp: Program, id: str) -> list[dict[str, Any]]:
    done = qn_exp("export", "--format", "jsonl", "--rows", "episodes", id)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_sixth_generation_has_every_episode(project: Path, qn_exp: Program) -> None:
    doc = _sixth_generation()
    record = _import_one(qn_exp, doc)
    assert record["origin"]["format"] == "quantum-nematode/6"
    assert record["origin"]["original"] == doc
    assert record["subject"] == {
        "environment": "dynamic",
        "brain": "ppo",
        "family": "classical",
        "device": "cpu",
        "backend": None,
        "packages": [],
    }
    first, *_, last = _episodes(qn_exp, record["id"])
    assert (first["seed"], last["seed"]) == (1709991606, 1709991609)
    assert (first["success"], last["success"]) == (False, True)
    assert (first["reward"], last["reward"]) == (-1.5, 4.75)
    assert (first["termination"], last["steps"]) == ("health_depleted", 40)
    assert first["counts"] == {"foods_collected": 1}
    # A value that does not apply is absent.
    assert (first["metrics"], last["metrics"]) == ({}, {"distance_efficiency": 0.75})
    results = record["results"]
    assert results["curve"] == [0.0, 1.0, 1.0, 1.0]
    assert (results["success_rate"], results["final_success_rate"]) == (0.75, 0.75)
    assert (results["avg_steps"], results["total_steps"], results["avg_reward"]) == (25, 100, 2.125)
    assert results["metrics"]["distance_efficiency"]["n"] == 3
    # Of what their episodes do not hold, their mean is all there is.
    assert results["metrics"]["predator_encounters"]["mean"] == 6.5
    assert results["metrics"]["predator_encounters"]["n"] is None
    assert record["seed"] is record["config"]["digest"] is record["wall_seconds"] is None
    assert qn_exp("import", "theirs.json").stdout == "0 imported, 1 already here\n"
    shutil.rmtree(f"experiments/runs/{record['id']}")
    assert qn_exp("import", "theirs.json").stdout == "0 imported, 1 completed\n"
    assert qn_exp("fsck").returncode == 0
    for command in ("tail @1", "stats", "best --metric reward", "export --format csv @1"):
        assert qn_exp(*command.split()).returncode == 0, command


@pytest.mark.parametrize(
    ("brain", "family"),
    [("qef", "quantum"), ("qmlp", "classical"), ("spikingppo", "classical"), ("newbrain", "")],
)
def test_a_family_is_what_their_program_registers(
    project: Path, qn_exp: Program, brain: str, family: str
) -> None:
    assert _import_one(qn_exp, _sixth_generation(brain))["subject"]["family"] == family
    doc = {**_first_generation(), "brain": {"type": brain}}
    assert _import_one(qn_exp, doc)["subject"]["family"] == family
    doc = {**_fifth_generation(), "brain_type": brain}
    assert _import_one(qn_exp, doc)["subject"]["family"] == family


@pytest.mark.parametrize("id", ["20260122_105256_02120d4e", "20260122_105256-2", "20260122_105256"])
def test_an_id_may_have_a_suffix(project: Path, qn_exp: Program, id: str) -> None:
    record = _import_one(qn_exp, _sixth_generation(id=id))
    assert record["origin"]["id"] == id
    assert record["id"].startswith("20260122T105256Z-")
    assert record["started"] == "2026-01-22T10:52:56.000000Z"


def test_a_run_does_not_start_after_its_end(project: Path, qn_exp: Program) -> None:
    record = _import_one(qn_exp, _sixth_generation(id="20270122_105256"))
    assert record["started"] == record["ended"] == "2026-01-22T11:23:16.667090Z"


def test_a_folder_of_theirs_with_the_configuration_beside(project: Path, qn_exp: Program) -> None:
    theirs = project / "theirs"
    for id in ("20260122_105256", "20260122_105258"):
        folder = theirs / "deep" / id
        folder.mkdir(parents=True)
        (folder / f"{id}.json").write_text(json.dumps(_sixth_generation(id=id)))
        (folder / "ppo_small.yml").write_bytes(CONFIG)
    (theirs / "deep" / id / "ppo_small.yml").write_bytes(CONFIG + b"# edited since\n")
    assert qn_exp("import", "theirs").stdout == "2 imported\n"
    first, edited = map(json.loads, _records())
    assert first["config"]["data"]["brain"]["config"] == {"clip_epsilon": 0.2}
    assert first["config"]["label"] == "configs/examples/ppo_small.yml"
    assert qn_exp("show", "--config", first["id"]).stdout.encode() == CONFIG
    # What is not the file that ran is not said to be.
    assert edited["attachments"] == []
    assert edited["config"]["data"] == {"config_summary": _sixth_generation()["config_summary"]}
    assert any("ppo_small.yml" in note for note in edited["origin"]["notes"])
    found = json.loads(
        qn_exp("list", "--where", "brain.config.clip_epsilon = 0.2", "--json").stdout
    )
    assert [one["id"] for one in found["experiments"]] == [first["id"]]
    assert qn_exp("fsck").returncode == 0


def test_secrets_of_their_configuration_are_redacted(project: Path, qn_exp: Program) -> None:
    text = CONFIG + b"api_key: hunter2hunter2\n"
    Path("beside.yaml").write_bytes(text)
    doc = {**_sixth_generation(), "config_hash": sha256(text).hexdigest()}
    record = _import_one(qn_exp, doc)
    assert record["config"]["data"]["api_key"] == "[redacted]"
    assert not [name for name, data in _tree(Path("experiments")).items() if b"hunter2" in data]
    assert qn_exp("fsck").returncode == 0


def test_fewer_episodes_than_counted_are_not_summed_up(project: Path, qn_exp: Program) -> None:
    doc = _sixth_generation()
    doc["results"] |= {"total_runs": 200, "success_rate": 0.975}
    doc["results"]["per_run_results"][2]["seed"] = -3  # what they write for none
    record = _import_one(qn_exp, doc)
    assert record["results"]["episodes"] == 200
    assert record["results"]["success_rate"] == 0.975
    assert record["results"]["final_success_rate"] is record["digests"] is None
    assert any("4 of 200" in note for note in record["origin"]["notes"])
    assert [one["seed"] is None for one in _episodes(qn_exp, record["id"])] == [0, 0, 1, 0]
    assert qn_exp("fsck").returncode == 0
    shown = qn_exp("show", record["id"]).stdout
    for line in ("steps                25", "reward               2.125"):
        assert line in shown


def test_what_their_summary_and_episodes_disagree_on_is_noted(
    project: Path, qn_exp: Program
) -> None:
    doc = _sixth_generation()
    doc["results"]["success_rate"] = 0.5
    doc["results"]["per_run_results"][0]["run"] = 9
    record = _import_one(qn_exp, doc)
    assert record["results"]["success_rate"] == 0.75
    notes = " ".join(record["origin"]["notes"])
    assert "their success_rate is 0.5, but their episodes give 0.75" in notes
    assert "count from 1" in notes


@pytest.mark.parametrize(
    ("field", "value", "cause"),
    [
        ("success", "yes", "expected true or false"),
        ("steps", -1, "whole number"),
        ("steps", 2**60, "whole number"),
        ("seed", "7", "whole number"),
        ("total_reward", [], "expected a number"),
        ("total_reward", 10**400, "2**53"),
        ("termination_reason", 3, "expected text"),
        ("foods_collected", 2**60, "2**53"),
    ],
)
def test_an_episode_that_makes_no_sense_is_named(
    project: Path, qn_exp: Program, field: str, value: Any, cause: str
) -> None:
    doc = _sixth_generation()
    doc["results"]["per_run_results"][1][field] = value
    Path("theirs.json").write_text(json.dumps(doc))
    done = qn_exp("import", "theirs.json")
    assert done.returncode == 3
    assert f"results.per_run_results[1].{field}: " in done.stderr
    assert cause in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(Path().glob("experiments/*.json"))


def test_the_folders_of_our_own_runs_hold_no_records(store: list[str], qn_exp: Program) -> None:
    """What has the name of a study's file is read as a study, and refused as one."""
    Path("experiments/studies/s").mkdir(parents=True)
    Path("experiments/studies/s/study.json").write_text("{}")
    Path("experiments/campaigns").mkdir()
    Path("experiments/campaigns/s.json").write_text("{}")
    assert Path(f"experiments/runs/{store[0]}/run.json").exists()
    done = qn_exp("import", ".", "--experiments-dir", "there")
    assert (done.returncode, done.stdout) == (3, "2 imported, 1 refused\n")
    assert done.stderr.startswith("error: ./experiments/studies/s/study.json: schema: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "value", "cause"),
    [
        ("results.success_rate", 7.5, "expected a rate from 0 to 1"),
        ("results.success_rate", "0.5", "expected a number"),
        ("results.total_runs", -1, "whole number"),
        ("results.total_runs", None, "missing"),
        ("results", [], "expected a mapping"),
        ("timestamp", "yesterday", "expected a time"),
        ("timestamp", "0001-01-01T00:00:00+14:00", "expected a time"),
        ("experiment_id", "../../x", "expected a time"),
        ("brain.type", 3, "expected text"),
        ("extra", 2**60, "2**53"),
    ],
)
def test_a_field_that_makes_no_sense_is_named(
    project: Path, qn_exp: Program, path: str, value: Any, cause: str
) -> None:
    doc = _first_generation()
    *above, last = path.split(".")
    at = doc
    for name in above:
        at = at[name]
    at[last] = value
    Path("theirs.json").write_text(json.dumps(doc))
    done = qn_exp("import", "theirs.json")
    assert done.returncode == 3
    assert cause in done.stderr
    assert path in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(Path().glob("experiments/*.json"))


def _published() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(RECORDS.glob("*.json")):
        yield path, json.loads(path.read_text())


@pytest.mark.real_data
@pytest.mark.skipif(not DATA, reason="QN_REAL_DATA is not set")
def test_all_published_records_are_imported_and_found(project: Path, qn_exp: Program) -> None:
    paths = [str(path) for path, _ in _published()]
    assert qn_exp("import", *paths).stdout == "31 imported\n"
    before = _tree(Path("experiments"))
    assert qn_exp("import", *paths).stdout == "0 imported, 31 already here\n"
    assert _tree(Path("experiments")) == before
    assert qn_exp("fsck").returncode == 0
    for path, doc in _published():
        (found,) = (
            record
            for record in map(json.loads, _records())
            if record["origin"]["sha256"] == sha256(path.read_bytes()).hexdigest()
        )
        # The very same numbers, in the very same order.
        assert json.dumps(found["origin"]["original"]) == json.dumps(doc)
        theirs = doc.get("results", {})
        rate = theirs.get(
            "success_rate", doc.get("metrics", {}).get("success_rate", {}).get("mean")
        )
        assert found["results"]["success_rate"] == rate
        first = found["origin"]["format"] == "quantum-nematode/1"
        assert first == path.name.endswith("-d6e4af9.json")
        assert found["results"]["avg_reward"] == (None if first else theirs.get("avg_reward"))
        family = (doc.get("category") or doc["benchmark"]["category"]).replace("/", "_")
        assert family.endswith(found["subject"]["family"])
    formats = [json.loads(one)["origin"]["format"] for one in _records()]
    assert {name: formats.count(name) for name in formats} == {
        "quantum-nematode/1": 6,
        "quantum-nematode/2": 4,
        "quantum-nematode/3": 5,
        "quantum-nematode/4": 9,
        "quantum-nematode/5": 7,
    }
    listed = json.loads(qn_exp("list", "--family", "quantum", "--limit", "0", "--json").stdout)
    wanted = {
        doc.get("experiment_id") or doc["submission_id"]: doc
        for path, doc in _published()
        if "quantum" in path.name
    }
    assert {one["origin"]["id"] for one in listed["experiments"]} == wanted.keys()
    for one in listed["experiments"]:
        assert one["origin"]["original"] == wanted[one["origin"]["id"]]


@pytest.mark.real_data
@pytest.mark.skipif(not DATA, reason="QN_REAL_DATA is not set")
def test_all_sessions_are_imported_and_average_as_published(project: Path, qn_exp: Program) -> None:
    sessions = THEIRS / "sessions"
    assert qn_exp("import", str(sessions)).stdout == "36 imported\n"
    assert qn_exp("import", str(sessions)).stdout == "0 imported, 36 already here\n"
    assert qn_exp("fsck").stdout == "no faults in 36 records, 36 journals, 18,800 episodes\n"
    rows = json.loads(qn_exp("list", "--limit", "0", "--json").stdout)["experiments"]
    found = {one["origin"]["id"]: one for one in rows}
    published = json.loads((THEIRS / "logbooks.json").read_text())["007"]
    for group, figures in published.items():
        docs = [json.loads(path.read_text()) for path in (sessions / group).glob("*.json")]
        mine = [found[doc["experiment_id"]] for doc in docs]
        assert len(mine) == figures["runs"]
        for one, doc in zip(mine, docs, strict=True):
            # The very same numbers, in the very same order.
            assert json.dumps(one["origin"]["original"]) == json.dumps(doc)
            assert one["subject"]["family"] == "classical"
            for name in ("success_rate", "avg_steps", "avg_reward"):
                assert one["results"][name] == pytest.approx(doc["results"][name])
            for episode, theirs in zip(
                _episodes(qn_exp, one["id"]), doc["results"]["per_run_results"], strict=True
            ):
                assert episode["index"] + 1 == theirs["run"]
                numbers = {**episode["counts"], **episode["metrics"]}
                assert {
                    "run": theirs["run"],
                    "seed": episode["seed"],
                    "success": episode["success"],
                    "steps": episode["steps"],
                    "total_reward": episode["reward"],
                    "termination_reason": episode["termination"],
                    **numbers,
                } == theirs
        mean = sum(one["results"]["success_rate"] for one in mine) / len(mine)
        assert 100 * mean == pytest.approx(figures["average_success_percent"], abs=0.0501)
    compared = json.loads(
        qn_exp("compare", "--by", "config", "--brain-type", "ppo", "--json").stdout
    )
    (rates,) = (one for one in compared["metrics"] if one["metric"] == "success_rate")
    means = sorted(100 * one["mean"] for one in rates["groups"])
    wanted = sorted(one["average_success_percent"] for one in published.values())
    assert means == pytest.approx(wanted, abs=0.0501)


def _records() -> list[str]:
    return [path.read_text() for path in sorted(Path("experiments").glob("*.json"))]
