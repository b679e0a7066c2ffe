"""`qn-exp postgres`: what it shows, what it brings here, and what it does not let in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qn_tracking import track
from qn_tracking.cli import exp
from qn_tracking.errors import StorageError, UsageError
from qn_tracking.records.model import Subject
from qn_tracking_postgres import reading
from qn_tracking_postgres.server import Server as Address

if TYPE_CHECKING:
    from conftest import Program, Query, Server

    Tree = Callable[[Path], dict[str, bytes]]
    Ask = Callable[..., Any]

THERE = ("--experiments-dir", "there")
IDS = ("20260101T000000Z-0a", "20260102T000000Z-0b", "20260103T000000Z-0c")


def _run(id: str, brain: str = "mlp", *, success: bool = True, **options: Any) -> None:
    with track(
        {"a": 1},
        seed=1,
        plugins=["postgres"],
        id=id,
        subject=Subject(environment="maze", brain=brain, family="classical"),
        **options,
    ) as run:
        for i in range(3):
            run.episode(success=success, steps=i, reward=i / 3, loss=0.5)


@pytest.fixture
def three(project: Path) -> None:
    """Three runs, here and on the server."""
    for id, brain, success in zip(IDS, ("mlp", "lstm", "mlp"), (True, True, False), strict=True):
        _run(id, brain, success=success)


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """What `qn-exp postgres … --json` says; what it raises is raised."""

    def call(*arguments: str) -> Any:
        capsys.readouterr()
        exp.main(["postgres", *arguments, "--json"])
        return json.loads(capsys.readouterr().out)

    return call


# ------------------------------------------------------------------------------------------- asking


def test_list_has_filters(three: None, ask: Ask) -> None:
    def found(*filters: str) -> list[int]:
        said = ask("list", *filters)
        assert said["total"] == 3
        return [IDS.index(one["id"]) for one in said["experiments"]]

    assert found() == [2, 1, 0]
    assert found("--limit", "1") == [2]
    assert found("--limit", "0") == [2, 1, 0]
    assert found("--brain", "mlp") == [2, 0]
    assert found("--brain", "mlp", "--brain", "lstm", "--environment", "maze") == [2, 1, 0]
    assert found("--brain", "mlp' OR 1=1 --") == []
    assert found("--family", "quantum") == []
    assert found("--status", "completed") == [2, 1, 0]
    assert found("--status", "unfinished") == []
    assert found("--status", "failed,completed") == [2, 1, 0]
    with pytest.raises(UsageError, match="no status .complete. .did you mean completed"):
        found("--status", "complete")
    assert found("--since", "1h") == [2, 1, 0]
    assert found("--since", "2099-01-01") == []
    with pytest.raises(UsageError, match="'yesterday' is not a time"):
        found("--since", "yesterday")


def test_list_says_what_the_records_say(three: None, ask: Ask) -> None:
    first = ask("list")["experiments"][0]
    kept = json.loads(Path(f"experiments/{IDS[2]}.json").read_bytes())
    assert first == {
        "id": IDS[2],
        "started": kept["started"][:19] + "Z",
        "status": "completed",
        "environment": "maze",
        "brain": "mlp",
        "family": "classical",
        "seed": 1,
        "episodes": 3,
        "success_rate": 0.0,
        "avg_reward": kept["results"]["avg_reward"],
        "host": os.uname().nodename,
        "inserted_by": "owner",
    }


def test_show_is_the_record(three: None, ask: Ask, qn_exp: Program) -> None:
    kept = json.loads(Path(f"experiments/{IDS[1]}.json").read_bytes())
    assert ask("show", IDS[1]) == {**kept, "stored_episodes": 3}
    shown = qn_exp("postgres", "show", IDS[1][:8], PYTHONIOENCODING="utf-8").stdout
    assert shown.startswith(f"{IDS[1]} · maze · lstm · classical · completed\n")
    assert kept["digests"]["exact"] in shown


def test_which_experiment_is_meant(three: None, ask: Ask) -> None:
    with pytest.raises(UsageError, match=r"2026 is ambiguous \(20260101.*, 20260102.*, 20260103"):
        ask("show", "2026")
    with pytest.raises(StorageError, match="19990101: no experiment with this id is on the server"):
        ask("show", "19990101")
    with pytest.raises(UsageError, match="is not an id"):
        ask("show", "../x")
    _run(f"{IDS[0]}b")
    assert ask("show", IDS[0])["id"] == IDS[0]


def test_status(three: None, ask: Ask, database: str) -> None:
    said = ask("status")
    assert said.pop("server").startswith("PostgreSQL ")
    assert said.pop("bytes") > 0
    assert said == {
        "database": database,
        "user": "owner",
        "schema": "qn_tracking",
        "version": 2,
        "runs": 3,
        "records": 3,
        "episodes": 9,
        "waiting": [],
        "error": None,
    }


def test_a_server_that_is_down(project: Path, qn_exp: Program) -> None:
    Path("experiments").mkdir()
    for command in (["list"], ["show", "x"], ["pull", "x"], ["push", "--all"], ["init"]):
        done = qn_exp("postgres", *command, "--dsn", "host=127.0.0.1 port=1")
        assert done.returncode == 3
        (line,) = done.stderr.splitlines()
        assert line.startswith(
            'error: postgres: connection to server at "127.0.0.1", port 1 failed'
        )


# --------------------------------------------------------------------------------- there and back


def test_pull_brings_back_every_byte(three: None, qn_exp: Program, ask: Ask, tree: Tree) -> None:
    assert ask("pull", *IDS[:2], *THERE) == {
        "experiments": [{"id": id, "outcome": "imported"} for id in IDS[:2]],
        "errors": [],
    }
    assert ask("pull", *IDS, *THERE)["experiments"] == [
        {"id": IDS[0], "outcome": "here"},
        {"id": IDS[1], "outcome": "here"},
        {"id": IDS[2], "outcome": "imported"},
    ]
    assert tree(Path("there")) == tree(Path("experiments"))
    fsck = qn_exp("fsck", *THERE)
    assert fsck.stdout == "no faults in 3 records, 3 journals, 9 episodes\n"
    assert qn_exp("show", IDS[0], *THERE).returncode == 0
    assert qn_exp("compare", IDS[0], IDS[1], *THERE).returncode == 0


def test_pull_of_all_or_since(three: None, project: Path, ask: Ask, query: Query) -> None:
    query(f"UPDATE experiments SET started = '2020-01-01Z' WHERE id = '{IDS[0]}' RETURNING id")
    run = track({"a": 1, "plugins": {"postgres": {}}}, seed=1).start()
    assert query("SELECT count(*) FROM runs") == [(4,)]  # one goes on, and is left out
    since = ask("pull", "--since", "7d", *THERE)["experiments"]
    assert tuple(one["id"] for one in since) == IDS[1:]
    every = ask("pull", "--all", *THERE)["experiments"]
    assert sorted(every, key=lambda one: one["id"]) == [
        {"id": IDS[0], "outcome": "imported"},
        {"id": IDS[1], "outcome": "here"},
        {"id": IDS[2], "outcome": "here"},
    ]
    run.end()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "expected ids, --all or --since"),
        (("--all", "a"), "expected ids, --all or --since"),
        (("--all", "--recover"), "--recover: expected ids"),
        (("--since", "soon"), "--since 'soon' is not a time"),
    ],
)
def test_pull_of_something_else(
    project: Path, qn_exp: Program, arguments: tuple[str, ...], said: str
) -> None:
    done = qn_exp("postgres", "pull", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {said}")


def test_push_sends_what_a_run_without_the_sink_has_left(
    project: Path, ask: Ask, query: Query, tree: Tree
) -> None:
    with track({"a": 1}, seed=1) as run:
        for i in range(1200):
            run.episode(steps=i)
    assert ask("push", "--all")["experiments"] == [{"id": run.id, "outcome": "sent"}]
    assert query("SELECT count(*), sum(steps) FROM episodes") == [(1200, sum(range(1200)))]
    assert ask("pull", run.id, *THERE)["errors"] == []
    assert tree(Path("there")) == tree(Path("experiments"))


def test_a_record_without_its_run_goes_there_and_back(
    three: None, ask: Ask, server: Server, database: str, qn_exp: Program, tree: Tree
) -> None:
    server.execute("DROP SCHEMA qn_tracking CASCADE", database)
    clone = Path("clone")
    clone.mkdir()
    (clone / f"{IDS[0]}.json").write_bytes(Path(f"experiments/{IDS[0]}.json").read_bytes())
    assert ask("push", "--all", "--experiments-dir", "clone")["errors"] == []
    assert ask("pull", IDS[0], *THERE)["errors"] == []
    assert [name for name in tree(Path("there")) if name != ".gitignore"] == [f"{IDS[0]}.json"]
    # Whoever has the episodes may add them later.
    assert ask("push", IDS[0])["experiments"] == [{"id": IDS[0], "outcome": "there already"}]
    assert ask("pull", IDS[0], *THERE)["experiments"] == [{"id": IDS[0], "outcome": "completed"}]
    assert qn_exp("fsck", *THERE).stdout == "no faults in 1 record, 1 journal, 3 episodes\n"


def test_files_that_contradict_their_record_are_not_sent(three: None, query: Query) -> None:
    journal = Path(f"experiments/runs/{IDS[0]}/episodes.jsonl")
    config = Path(f"experiments/runs/{IDS[1]}/config.yml")
    journal.write_bytes(Path(f"experiments/runs/{IDS[2]}/episodes.jsonl").read_bytes())
    config.write_text("a: 2\n")
    with Address().connected() as connection:
        connection.execute("DROP SCHEMA qn_tracking CASCADE")
    assert exp.main(["postgres", "push", "--all"]) == 3
    assert query("SELECT id FROM runs") == [(IDS[2],)]
    assert query("SELECT DISTINCT id FROM episodes") == [(IDS[2],)]


def test_push_wants_to_know_what(three: None, ask: Ask) -> None:
    for arguments in ([], ["--all", IDS[0]]):
        with pytest.raises(UsageError, match="expected ids, or --all"):
            ask("push", *arguments)


# ------------------------------------------------------------------------------ what others wrote


TAMPERED = {
    "another record": (
        "UPDATE experiments SET document = (SELECT document FROM experiments WHERE id = '{1}')"
        " WHERE id = '{0}'",
        "is not the name of the file",
    ),
    "no JSON": ("UPDATE experiments SET document = '{{' WHERE id = '{0}'", "truncated"),
    "no text": ("UPDATE experiments SET document = '\\xff' WHERE id = '{0}'", "not UTF-8"),
    "a field that is none": (
        "UPDATE experiments SET document = convert_to('{{\"evil\": 1, ' || substr("
        "convert_from(document, 'UTF8'), 2), 'UTF8') WHERE id = '{0}'",
        "unknown key 'evil'",
    ),
    "another episode": (
        "UPDATE episodes SET exact = (SELECT exact FROM episodes WHERE id = '{0}' AND index = 2)"
        " WHERE id = '{0}' AND index = 1",
        "does not hold the episodes of the record",
    ),
    "an episode less": (
        "DELETE FROM episodes WHERE id = '{0}' AND index = 2",
        "does not hold the episodes of the record",
    ),
    "two lines in one": (
        "UPDATE episodes SET exact = exact || '\\x0a' || exact WHERE id = '{0}' AND index = 1",
        "does not hold the episodes of the record",
    ),
    "another configuration": (
        "UPDATE files SET data = 'a: 2' WHERE id = '{0}' AND name = 'config.yml'",
        "is not the file that the record names",
    ),
    "a file elsewhere": (
        "UPDATE files SET name = '../../../evil' WHERE id = '{0}' AND name = 'run.json'",
        "is not a valid file name",
    ),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_what_was_tampered_with_does_not_come_in(
    three: None,
    kind: str,
    server: Server,
    database: str,
    capsys: pytest.CaptureFixture[str],
    tree: Tree,
) -> None:
    statement, said = TAMPERED[kind]
    server.execute(f"SET search_path = qn_tracking; {statement.format(*IDS)}", database)
    before = tree(Path())
    assert exp.main(["postgres", "pull", IDS[0], "--experiments-dir", "new/there"]) == 3
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("error: postgres")
    assert IDS[0] in line
    assert said in line
    new = {name for name in tree(Path()) if name not in before}
    assert {name for name in new if not name.endswith(".gitignore")} == set()


def test_one_that_is_refused_keeps_nobody_else_out(
    three: None, server: Server, database: str, ask: Ask
) -> None:
    statement, _ = TAMPERED["another episode"]
    server.execute(f"SET search_path = qn_tracking; {statement.format(*IDS)}", database)
    said = ask("pull", *IDS, *THERE)
    assert [one["id"] for one in said["experiments"]] == list(IDS[1:])
    assert [one["id"] for one in said["errors"]] == [IDS[0]]


def test_a_record_that_is_too_large_is_not_fetched(
    three: None, server: Server, database: str, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    monkeypatch.setattr(reading.read, "MAX_BYTES", 500)
    (error,) = ask("pull", IDS[0], *THERE)["errors"]
    assert f"{IDS[0]}: missing, or larger than" in error["error"]


def test_text_of_others_is_shown_escaped(
    three: None, server: Server, database: str, qn_exp: Program
) -> None:
    server.execute(
        "INSERT INTO qn_tracking.runs (id, host, brain, seed)"
        r" VALUES ('x', E'\x1b]0;owned\x07', E'\u202e' || repeat('b', 5000), 9223372036854775807)",
        database,
    )
    for arguments in ((), ("--json",)):
        done = qn_exp("postgres", "list", "--status", "unfinished", *arguments)
        assert done.returncode == 0, done.stderr
        assert not {"\x1b", "\x07"} & set(done.stdout)
        assert len(done.stdout) < 2000
    # Nobody said what it was: there is nothing to make a record of.
    done = qn_exp("postgres", "pull", "x", "--recover", *THERE)
    assert done.returncode == 3
    assert done.stderr.startswith("error: postgres: x: run.json: missing")
