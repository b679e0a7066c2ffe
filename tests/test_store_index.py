"""The list and its index: what it finds, what it notices, and what it makes of bad files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from qn_tracking import Subject, track
from qn_tracking.cli import exp
from qn_tracking.errors import QnError
from qn_tracking.ids import microseconds
from qn_tracking.records.model import Experiment
from qn_tracking.store import fields
from qn_tracking.store.filters import moment
from qn_tracking.store.index import consult

Call = Callable[..., "tuple[int, str, str]"]


def make(
    folder: Path, seed: int = 1, episodes: int = 6, gamma: float = 0.9, **options: Any
) -> Experiment:
    """A real run, without metadata."""
    config = {
        "environment": {"type": "static"},
        "brain": {"name": "mlp", "config": {"gamma": gamma}},
    }
    options.setdefault("subject", Subject(environment="static", brain="mlp", family="classical"))
    run = track(config, seed=seed, blocked=("metadata",), experiments_dir=folder, **options)
    with run:
        for i in range(episodes):
            run.episode(success=i % 2 == 0, steps=i, reward=0.5 * seed * i, loss=0.1 * i)
    assert run.experiment is not None
    return run.experiment


@pytest.fixture
def store(project: Path) -> Path:
    return project / "experiments"


@pytest.fixture
def qn_exp(capfd: pytest.CaptureFixture[str]) -> Call:
    """`qn-exp` in this process: exit code, output, errors."""

    def call(*args: str) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            code = exp.main(args)
        except QnError as error:
            print(f"error: {error}", file=sys.stderr)
            code = error.exit_code
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def ids(qn_exp: Call) -> Callable[..., list[str]]:
    def call(*args: str) -> list[str]:
        code, out, err = qn_exp("list", "--json", *args)
        assert code == 0, err
        return [doc["id"] for doc in json.loads(out)["experiments"]]

    return call


Ids = Callable[..., "list[str]"]


def settle(store: Path) -> None:
    """Makes every stamp old enough to be trusted, as it is two seconds later."""
    time.sleep(2.05)


# ----------------------------------------------------------------------------------- what is there


def test_newest_first_with_filters(store: Path, ids: Ids, qn_exp: Call) -> None:
    first = make(store, seed=1, tags={"sweep": "a"})
    second = make(
        store,
        seed=2,
        gamma=0.99,
        subject=Subject(environment="dynamic", brain="modular", family="quantum"),
        notes="two",
    )
    third = make(store, seed=3, episodes=0)
    assert ids() == [third.id, second.id, first.id]
    for options, expected in (
        (["--env-type", "dynamic"], [second]),
        (["--brain-type", "mlp"], [third, first]),
        (["--family", "quantum"], [second]),
        (["--family", "quantum", "--family", "classical", "--limit", "1"], [third]),
        (["--status", "completed,failed"], [third, second, first]),
        (["--status", "failed"], []),
        (["--min-success-rate", "0.5"], [second, first]),
        (["--min-success-rate", "0.51"], []),
        (["--since", "1h"], [third, second, first]),
        (["--until", "2020-01-01"], []),
        (["--since", first.started], [third, second, first]),
        (["--tag", "sweep"], [first]),
        (["--tag", "sweep=b"], []),
        (["--config", "config"], [third, second, first]),
        (["--config", second.config.digest[:9]], [second]),  # type: ignore[index]
        (["--seed", "1", "--seed", "3"], [third, first]),
        (["--where", "brain.config.gamma > 0.95"], [second]),
        (["--where", "results.avg_reward >= 1.25 and not seed = 2"], [first]),
        (["--where", "notes ~ TWO"], [second]),
        (["--where", "tags.sweep = a"], [first]),
        (["--sort", "seed:asc"], [first, second, third]),
        (["--sort", "results.metrics.reward.max"], [second, first, third]),
        (["--dirty"], []),
        (["--clean"], []),
        (["--commit", "abcdef"], []),
    ):
        assert ids(*options) == [e.id for e in expected], options
    code, out, _ = qn_exp("list", "--family", "quantum", "--where", "seed > 1")
    assert code == 0
    assert out.splitlines()[0].endswith("family quantum · where seed > 1")
    assert "50%" in out


def test_json_is_the_record_and_its_path(store: Path, qn_exp: Call) -> None:
    made = make(store, tags={"a": "b"})
    _, out, _ = qn_exp("list", "--json")
    listed = json.loads(out)
    assert {k: listed[k] for k in ("total", "more", "filters", "problems")} == {
        "total": 1,
        "more": False,
        "filters": {},
        "problems": [],
    }
    (doc,) = listed["experiments"]
    stored = json.loads((store / f"{made.id}.json").read_text())
    assert doc.pop("path") == f"experiments/{made.id}.json"
    assert doc.pop("labels") == {"tags": {}, "notes": []}
    assert doc == stored
    assert list(doc) == list(stored)


@pytest.mark.parametrize(
    "args",
    [
        ["--status", "complete"],
        ["--min-success-rate", "75"],
        ["--min-success-rate", "nan"],
        ["--since", "yesterday"],
        ["--limit", "-1"],
        ["--seed", "x"],
        ["--commit", "main"],
        ["--where", "gama = 1"],
        ["--where", "seed ="],
        ["--sort", "nonsense"],
        ["--tag", "=x"],
        ["--nope"],
        ["--dirty", "--clean"],
    ],
)
def test_a_wrong_filter_is_a_usage_error(store: Path, qn_exp: Call, args: list[str]) -> None:
    make(store)
    try:
        code, _, err = qn_exp("list", *args)
    except SystemExit as stop:
        code, err = int(str(stop.code)), ""
    assert code == 2
    assert err.count("\n") == 1


def test_a_wrong_field_names_the_near_ones(store: Path, qn_exp: Call) -> None:
    make(store)
    _, _, err = qn_exp("list", "--where", "gama = 1")
    assert err == "error: --where: no stored field gama (near: brain.config.gamma)\n"


def test_no_folder(project: Path, qn_exp: Call) -> None:
    code, out, _ = qn_exp("list")
    assert (code, out) == (0, "no experiments yet: there is no folder experiments\n")
    assert json.loads(qn_exp("list", "--json")[1])["experiments"] == []
    assert qn_exp("list", "--experiments-dir", "nowhere")[0] == 3
    assert not (project / "experiments").exists()


def test_the_folder_of_the_project_setting(project: Path, ids: Ids) -> None:
    made = make(project / "else" / "where")
    (project / "pyproject.toml").write_text('[tool.qn-tracking]\nexperiments_dir = "else/where"\n')
    assert ids() == [made.id]


# --------------------------------------------------------------------------------------- bad files


def _fifo(path: Path, good: bytes) -> None:
    os.mkfifo(path)


def _loop(path: Path, good: bytes) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path, good: bytes) -> None:
    path.symlink_to("nowhere")


def _folder(path: Path, good: bytes) -> None:
    path.mkdir()


def _large(path: Path, good: bytes) -> None:
    with path.open("wb") as stream:
        stream.truncate((64 << 20) + 1)


def _written(change: Callable[[bytes], bytes]) -> Callable[[Path, bytes], None]:
    return lambda path, good: path.write_bytes(change(good)) and None  # type: ignore[func-returns-value]


BAD: dict[str, tuple[Callable[[Path, bytes], None], str]] = {
    "empty": (_written(lambda good: b"\n"), "empty"),
    "truncated": (_written(lambda good: good[: len(good) // 2]), "truncated"),
    "garbage": (_written(lambda good: b"\x7fELF" + good), "not valid JSON"),
    "bom": (_written(lambda good: b"\xef\xbb\xbf" + good), "UTF-8 with a byte order mark"),
    "utf16": (_written(lambda good: good.decode().encode("utf-16")), "UTF-16"),
    "utf16le": (_written(lambda good: good.decode().encode("utf-16-le")), "UTF-16"),
    "latin1": (_written(lambda good: good.replace(b'"static"', b'"\xe9"')), "not UTF-8"),
    "duplicate": (
        _written(lambda good: good.replace(b"{", b'{"seed": 2,', 1)),
        "duplicate key 'seed'",
    ),
    "newer": (
        _written(lambda good: good.replace(b'"schema": 2', b'"schema": 99')),
        "schema: schema 99 is newer",
    ),
    "no-schema": (_written(lambda good: good.replace(b'"schema"', b'"scheme"')), "schema number"),
    "lfs": (
        _written(lambda good: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "git-LFS pointer",
    ),
    "conflict": (_written(lambda good: b"<<<<<<< ours\n" + good), "merge conflict"),
    "nan": (_written(lambda good: good.replace(b'"seed": 1', b'"seed": NaN')), "NaN is not JSON"),
    "list": (_written(lambda good: b"[" + good + b"]"), "expected a JSON object"),
    "deep": (_written(lambda good: b'{"a":' * 90000 + b"1" + b"}" * 90000), "nested too deep"),
    "surrogate": (
        _written(lambda good: good.replace(b'"static"', b'"\\ud800"')),
        "not valid Unicode",
    ),
    "other-id": (_written(lambda good: good), "is not the name of the file"),
    "wrong-type": (
        _written(lambda good: good.replace(b'"static"', b"3")),
        "subject.environment: unexpected number",
    ),
    "large": (_large, "larger than 64 MiB"),
    "folder": (_folder, "is a directory"),
    "fifo": (_fifo, "is a FIFO"),
    "loop": (_loop, "is a link, not a file"),
    "dangling": (_dangling, "is a link, not a file"),
}


@pytest.mark.parametrize("many", [False, True], ids=["one by one", "in bulk"])
def test_bad_files_are_named_and_hide_nobody(
    store: Path, qn_exp: Call, ids: Ids, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:
        monkeypatch.setattr("qn_tracking.store.entry.MANY", 1)
    made = make(store)
    good = (store / f"{made.id}.json").read_bytes()
    for name, (write, _) in BAD.items():
        ours = good if name == "other-id" else good.replace(made.id.encode(), name.encode())
        write(store / f"{name}.json", ours)
    (store / "not an id.json").write_bytes(good)
    (store / os.fsdecode(b"\xff.json")).write_bytes(good)
    (store / ".hidden.json").write_bytes(b"")
    (store / "README").write_bytes(b"")
    (store / "studies").mkdir()
    (store / "studies" / "x.json").write_bytes(b"")
    for _ in range(2):  # read, and then from the index
        code, out, err = qn_exp("list")
        assert code == 0
        assert made.id in out
        warnings = err.splitlines()
        assert len(warnings) == len(BAD) + 2, err
        for name, (_, cause) in BAD.items():
            (line,) = [w for w in warnings if w.startswith(f"warning: experiments/{name}.json: ")]
            assert cause in line
        assert "warning: experiments/not an id.json: its name is not an id" in warnings
    assert ids() == [made.id]
    problems = json.loads(qn_exp("list", "--json")[1])["problems"]
    assert len(problems) == len(BAD) + 2
    for name in BAD:
        code, _, err = qn_exp("show", name)
        assert code == 3, (name, err)
        assert err.count("\n") == 1
    code, out, _ = qn_exp("fsck")
    assert code == 1
    for name in BAD:
        assert f"fault: experiments/{name}.json: " in out
    (store / "newer.json").write_bytes(good.replace(made.id.encode(), b"newer"))
    assert set(ids()) == {made.id, "newer"}


# ------------------------------------------------------------------------------------- what is new


def test_what_comes_goes_and_is_replaced_is_noticed_at_once(store: Path, ids: Ids) -> None:
    first, second = make(store, seed=1), make(store, seed=2)
    elsewhere = make(store.parent / "elsewhere", seed=3)
    settle(store)
    assert ids() == ids() == [second.id, first.id]
    # As git does it: written under another name, renamed, with an old modification time.
    arrived = store / f"{elsewhere.id}.json"
    shutil.copy(store.parent / "elsewhere" / arrived.name, store / ".tmp")
    os.utime(store / ".tmp", (1, 1))
    os.rename(store / ".tmp", arrived)
    assert ids() == [elsewhere.id, second.id, first.id]
    (store / f"{first.id}.json").unlink()
    shutil.rmtree(store / "runs" / first.id)
    assert ids() == [elsewhere.id, second.id]
    changed = arrived.read_bytes().replace(b'"seed": 3', b'"seed": 33')
    (store / ".tmp").write_bytes(changed)
    os.replace(store / ".tmp", arrived)
    assert ids("--seed", "33") == [elsewhere.id]


def test_an_edit_in_place_shows_in_its_row_at_once(store: Path, qn_exp: Call, ids: Ids) -> None:
    made = make(store, seed=1)
    path = store / f"{made.id}.json"
    settle(store)
    ids(), ids()
    text = path.read_bytes()
    with path.open("r+b") as stream:  # same size, same folder times
        stream.write(text.replace(b'"seed": 1', b'"seed": 8'))
    os.utime(path, (1, 1))
    doc = json.loads(qn_exp("list", "--json")[1])["experiments"][0]
    assert doc["seed"] == 8


def test_edits_in_place_are_all_seen_in_a_stated_number_of_calls(
    store: Path, ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qn_tracking.store.sync.ROLLING", 2)
    made = [make(store, seed=i, episodes=1) for i in range(1, 6)]
    settle(store)
    ids(), ids()
    path = store / f"{made[3].id}.json"
    path.write_bytes(path.read_bytes().replace(b'"seed": 4', b'"seed": 9'))
    found = [bool(ids("--seed", "9")) for _ in range(3)]
    assert found[-1]
    path.write_bytes(path.read_bytes().replace(b'"seed": 9', b'"seed": 7'))
    assert ids("--seed", "7", "--fresh") == [made[3].id]


def test_a_young_stamp_is_not_trusted(store: Path, ids: Ids) -> None:
    made = make(store)
    ids()
    path = store / f"{made.id}.json"
    before = path.stat()
    for seed in (b"2", b"3"):  # within one tick, times put back: only distrust can tell
        text = path.read_bytes()
        path.write_bytes(
            text[: text.index(b'"seed": ') + 8] + seed + text[text.index(b'"seed": ') + 9 :]
        )
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert ids("--seed", seed.decode()) == [made.id]


# ---------------------------------------------------------------------------------- a broken index


@pytest.mark.parametrize(
    "damage", ["gone", "empty", "garbage", "page", "version", "table", "journal"]
)
def test_a_broken_index_rebuilds_itself(store: Path, qn_exp: Call, damage: str) -> None:
    import sqlite3

    for seed in range(5):
        make(store, seed=seed, episodes=1)
    assert qn_exp("list")[2] == ""
    index = store / ".index.sqlite"
    if damage == "gone":
        index.unlink()
    elif damage == "empty":
        index.write_bytes(b"")
    elif damage == "garbage":
        index.write_bytes(b"not a database" * 999)
    elif damage == "page":
        with index.open("r+b") as stream:
            stream.seek(4096)
            stream.write(os.urandom(40000))
    elif damage == "journal":
        (store / ".index.sqlite-journal").unlink()
    else:
        with sqlite3.connect(index) as db:
            db.execute("PRAGMA user_version = 7" if damage == "version" else "DROP TABLE run")
        db.close()
    code, out, err = qn_exp("list")
    assert (code, err) == (0, "")
    assert out.startswith("5 experiments")
    assert qn_exp("list")[2] == ""


def test_an_index_that_cannot_be_written_is_in_memory(store: Path, qn_exp: Call) -> None:
    made = make(store)
    (store / ".index.sqlite").mkdir()
    code, out, err = qn_exp("list")
    assert code == 0
    assert made.id in out
    assert err.startswith("warning: experiments/.index.sqlite: ")
    assert err.count("\n") == 1


def test_the_index_stays_out_of_git(store: Path, ids: Ids) -> None:
    made = make(store)
    (store / ".gitignore").unlink()
    ids()
    subprocess.run(["git", "init", "-q"], cwd=store, check=True)
    shown = subprocess.run(
        ["git", "status", "--porcelain", "-uall"],
        cwd=store,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == ["??", ".gitignore", "??", f"{made.id}.json"]


def test_many_readers_and_writers_at_once(store: Path) -> None:
    program = [sys.executable, "-m", "qn_tracking.cli.exp", "list", "--json"]
    made = [make(store, seed=seed, episodes=1) for seed in range(3)]
    listing = [
        subprocess.Popen(program, cwd=store.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(6)
    ]
    made += [make(store, seed=seed, episodes=1) for seed in range(3, 9)]
    for process in listing:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0
        # On a busy machine it is waited for, or done without, which is said.
        assert all(b"another process holds it; " in line for line in err.splitlines())
        assert len(json.loads(out)["experiments"]) >= 3
    done = subprocess.run(program, cwd=store.parent, capture_output=True, check=True)
    assert {doc["id"] for doc in json.loads(done.stdout)["experiments"]} == {e.id for e in made}


# ------------------------------------------------------------------------------------------- speed


CLASSES = {"attr", "cattrs", "qn_tracking.records.model", "qn_tracking.records.codec"}
HEAVY = {*CLASSES, "numpy", "scipy", "git", "pluggy", "yaml", "subprocess", "qn_tracking.config"}
LIST = {"orjson", "pathlib", "shutil", "dataclasses", "inspect", "tomllib", "json"}


@pytest.mark.parametrize(
    ("args", "heavy"),
    [
        (["list", "--where", "seed = 1"], HEAVY | LIST),
        (["show", "@1"], HEAVY),
        (["compare", "@1", "@2"], HEAVY),
        (["best", "--single", "--metric", "reward"], HEAVY),
    ],
)
def test_what_is_looked_at_often_imports_nothing_heavy(
    store: Path, args: list[str], heavy: set[str]
) -> None:
    make(store)
    make(store)
    code = (
        f"from qn_tracking.cli import exp; exp.main({args})\n"
        "import sys; print('\\n'.join(sys.modules))"
    )
    settle(store)
    for _ in range(2):  # the first makes the index
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=store.parent, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
    assert not set(done.stdout.split()) & heavy


# ---------------------------------------------------------------------------------------- printing


@pytest.fixture
def printed(store: Path) -> Callable[..., str]:
    def call(*args: str, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "qn_tracking.cli.exp", *args],
            cwd=store.parent,
            capture_output=True,
            env={**os.environ, **env},
            check=True,
        )
        assert done.stderr == b""
        return done.stdout.decode(env.get("PYTHONIOENCODING", "utf-8"))

    return call


def test_tables_fit_and_show_what_they_hold_as_text(
    store: Path, printed: Callable[..., str]
) -> None:
    from qn_tracking.render.text import width

    hostile = "\x1b[31mred\x1b]0;t\x07\u202egnp\n[/nope]"
    make(store, seed=1, subject=Subject(environment="日本語の環境", brain=hostile, family="x"))
    make(
        store,
        seed=2,
        subject=Subject(environment="plain", brain="🧠🧠", family="x"),
        tags={"k": "e\u0301"},
    )
    for columns in (20, 40, 79, 120, 200):
        out = printed("list", COLUMNS=str(columns))
        assert all(width(line) <= columns for line in out.splitlines()), out
    out = printed("list")
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\\x1b[31mred" in out
    assert "[/nope]" in out
    head, *rows = out.splitlines()[1:]
    at = head.index("STATUS")
    for row in rows:
        before = row[: row.index("completed")]
        assert width(before) == at
        after = row[: row.rindex("%") + 1]
        assert width(after) == head.index("SUCCESS") + len("SUCCESS")
    ascii_only = printed("list", PYTHONIOENCODING="ascii", LANG="C")
    assert ascii_only.isascii()
    assert "▁" not in ascii_only


def test_a_closed_pipe_is_a_quiet_end(store: Path) -> None:
    for seed in range(3):
        make(store, seed=seed)
    command = f"{sys.executable} -m qn_tracking.cli.exp list --json --limit 0 | head -c 5"
    done = subprocess.run(
        ["sh", "-c", command], cwd=store.parent, capture_output=True, text=True, check=True
    )
    assert (done.stdout[:1], done.stderr) == ("{", "")


# ------------------------------------------------------------------------------------------- times


FUTURE = ("2300-01-01", "9999-12-31T23:59")


@pytest.mark.parametrize("far", [*FUTURE, "0001-01-01", "99999w"])
def test_a_time_may_be_as_far_away_as_a_date_can_be(store: Path, qn_exp: Call, far: str) -> None:
    id = make(store).id
    for option in ("--since", "--until"):
        code, out, err = qn_exp("list", option, far)
        assert (code, err) == (0, "")
        assert (id in out) == ((far in FUTURE) == (option == "--until"))


@pytest.mark.parametrize(
    ("end", "included"),
    [
        ("2026-11-25", "2026-11-25T23:59:59.9"),
        ("2026-W48", "2026-11-29T23:59:59.9"),
        ("2026W48", "2026-11-29T23:59:59.9"),
        ("2026-W48-3", "2026-11-25T23:59:59.9"),
        ("2026-11-25T22", "2026-11-25T22:59:59.9"),
        ("2026-11-25T22Z", "2026-11-25T22:59:59.9"),
        ("2026-11-25T23+01:00", "2026-11-25T22:59:59.9"),
        ("20261125T22", "2026-11-25T22:59:59.9"),
        ("2026-11-25T22:15", "2026-11-25T22:15:59.9"),
        ("2026-11-25 22:15", "2026-11-25T22:15:59.9"),
        ("2026-11-25T22:15:30", "2026-11-25T22:15:30.9"),
        ("2026-11-25T22:15:30.5", "2026-11-25T22:15:30.500000"),
    ],
)
def test_an_end_is_the_whole_day_hour_or_minute_that_is_given(end: str, included: str) -> None:
    last = microseconds(included)
    assert last < moment(end, end=True) <= last + 100_000
    assert moment(end) <= last


# ----------------------------------------------------------------------------------------- columns


def test_columns_are_chosen_by_name(store: Path, qn_exp: Call) -> None:
    made = make(store, seed=3)
    code, out, _ = qn_exp("list", "--columns", "seed,loss,brain.config.gamma,final,id")
    assert code == 0
    head, row = (line.split() for line in out.splitlines()[1:])
    assert head == ["SEED", "LOSS", "BRAIN.CONFIG.GAMMA", "FINAL", "ID"]
    assert (row[0], row[2:]) == ("3", ["0.9", "50%", made.id])
    (listed,) = json.loads(qn_exp("list", "--json", "--columns", "id,config.brain.*")[1])[
        "experiments"
    ]
    assert listed == {"id": made.id, "brain.config.gamma": 0.9, "brain.name": "mlp"}
    for wrong, hint in (("sed", "did you mean seed?"), ("gama", "brain.config.gamma")):
        code, _, err = qn_exp("list", "--columns", wrong)
        assert (code, err.count("\n")) == (2, 1)
        assert hint in err


HOLD = """
import fcntl, os, sqlite3, sys
if sys.argv[1] == "making":
    os.unlink("experiments/.index.sqlite")
    lock = os.open("experiments/.index.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
else:
    db = sqlite3.connect("experiments/.index.sqlite", isolation_level=None)
    db.execute(f"BEGIN {sys.argv[1]}")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exclusive", "immediate", "making"])
def test_an_index_that_another_process_holds_is_not_waited_for_long(
    store: Path, qn_exp: Call, ids: Ids, how: str
) -> None:
    first = make(store, seed=1)
    assert ids() == [first.id]
    second = make(store, seed=2)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        code, out, err = qn_exp("list", "--json")
        assert holder.poll() is None
        assert (code, [row["id"] for row in json.loads(out)["experiments"]]) == (
            0,
            [second.id, first.id],
        )
        waiting, answer = err.splitlines()
        assert "another process holds it; waiting" in waiting
        assert "another process holds it; indexing in memory, for this once" in answer
    finally:
        holder.communicate()
    # And when it is gone, the index is as good as ever.
    code, _, err = qn_exp("list")
    assert (code, err) == (0, "")


def test_every_field_of_the_index_can_be_a_column_and_sorted_by(store: Path, qn_exp: Call) -> None:
    make(store)
    for field in fields.FIELDS:
        code, out, err = qn_exp("list", "--columns", field.name)
        assert (code, err) == (0, ""), field.name
        assert field.title in out
        assert (qn_exp("list", "--sort", field.name)[0] == 0) or not field.sortable


def test_the_fields_of_a_record_are_learned_from_the_records(store: Path, qn_exp: Call) -> None:
    """No list of the fields of a record has to be kept beside the record itself."""
    made = make(store)
    (doc,) = json.loads(qn_exp("list", "--json")[1])["experiments"]
    # `series` is there only if something was logged.
    names = [a.name for a in attrs.fields(Experiment) if a.metadata.get("stored", True) is True]
    assert [name for name in doc if name not in ("path", "labels")] == names
    found = consult(str(store), lambda index: index.record)
    assert found == set(names)
    assert consult(str(store), lambda index: index.resolve(("gamma",)))[:2] == ("config", "data")
    assert made.id


# ------------------------------------------------------------------------------------------- words


def test_text_that_is_not_unicode_is_one_line(store: Path, qn_exp: Call) -> None:
    make(store)
    for option in ("--tag", "--env-type", "--config", "--where", "--since", "--sort", "--columns"):
        code, _, err = qn_exp("list", option, "\udcff")
        assert (code, err.count("\n")) == (2, 1), option


def test_one_of_a_thing_is_no_plural(store: Path, qn_exp: Call) -> None:
    make(store, episodes=1)
    assert qn_exp("list")[1].startswith("1 experiment in experiments\n")
    assert qn_exp("list", "--seed", "9")[1].startswith("0 of 1 experiment in experiments")
    assert qn_exp("fsck")[1] == "no faults in 1 record, 1 journal, 1 episode\n"
    assert "there is 1 experiment" in qn_exp("show", "@2")[2]
