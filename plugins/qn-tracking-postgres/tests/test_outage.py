"""The server goes away, comes back, hangs; the run is killed. Nothing is lost."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from qn_tracking import track
from qn_tracking.errors import StorageError
from qn_tracking.plugin import spool
from qn_tracking.testing import EPISODE
from qn_tracking.tracking.manager import make_manager
from qn_tracking.tracking.recorder import Recorder
from qn_tracking_postgres import delivery

if TYPE_CHECKING:
    from conftest import Program, Query, Server

    Tree = Callable[[Path], dict[str, bytes]]
    Until = Callable[[Callable[[], object]], None]
    Spawn = Callable[..., subprocess.Popen[str]]

SPOOL = Path("experiments/.spool/postgres")


def _start(**options: Any) -> Recorder:
    settings = {"wait": 20, **options}
    return track(
        {"a": 1, "plugins": {"metadata": None, "json_storage": None, "postgres": settings}}, seed=1
    ).start()


def _play(run: Recorder, episodes: int = 50) -> None:
    for _ in range(episodes):
        run.episode(**EPISODE)


def _arrived(query: Query, id: str) -> tuple[int, bytes]:
    """How many episodes of a run are there, and its record."""
    ((count, document),) = query(
        "SELECT (SELECT count(*) FROM episodes e WHERE e.id = x.id), document FROM experiments x"
        f" WHERE id = '{id}'"
    )
    return count, document


def _record(id: str) -> bytes:
    return Path(f"experiments/{id}.json").read_bytes()


@pytest.fixture
def half(project: Path, query: Query, until: Until) -> Callable[..., Recorder]:
    """A run whose first fifty episodes have arrived."""

    def play(**options: Any) -> Recorder:
        run = _start(**options)
        _play(run)
        until(lambda: query("SELECT episodes FROM unfinished") == [(50,)])
        return run

    return play


# ------------------------------------------------------------------------------------ it comes back


def test_a_server_that_is_started_again_in_mid_run(
    half: Callable[..., Recorder],
    server: Server,
    query: Query,
    capfd: pytest.CaptureFixture[str],
    until: Until,
) -> None:
    run = half()
    server.stop()
    _play(run)
    server.start()
    _play(run)
    run.end()
    assert _arrived(query, run.id) == (150, _record(run.id))
    assert not SPOOL.exists()
    assert "warning: postgres" not in capfd.readouterr().err


def test_a_server_that_was_down_at_the_start(
    project: Path, server: Server, query: Query, capfd: pytest.CaptureFixture[str], until: Until
) -> None:
    server.stop()
    run = _start()
    _play(run)
    said = capfd.readouterr().err
    assert said.startswith("warning: postgres: connection to server on socket")
    assert "the run goes on" in said
    server.start()
    until(lambda: query("SELECT to_regclass('unfinished') IS NOT NULL") == [(True,)])
    until(lambda: query("SELECT episodes FROM unfinished") == [(50,)])
    run.end()
    assert _arrived(query, run.id) == (50, _record(run.id))
    assert not SPOOL.exists()


def test_one_that_was_away_for_long_gets_the_episodes_from_their_journal(
    project: Path, server: Server, query: Query, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(delivery, "BACKLOG", 100)
    manager = make_manager({"json_storage": {}, "postgres": {"wait": 20}})
    run = Recorder({"a": 1}, manager=manager, experiments_dir="experiments").start()
    _play(run)
    until(lambda: query("SELECT episodes FROM unfinished") == [(50,)])
    server.stop()
    _play(run, 2000)
    # They are not kept in memory.
    sink = manager.get_plugin("postgres")
    until(lambda: sink.waiting == 0)
    server.start()
    run.end()
    assert _arrived(query, run.id) == (2050, _record(run.id))


# --------------------------------------------------------------------------------- it stays away


@pytest.mark.parametrize("storage", [True, False], ids=["beside json_storage", "alone"])
def test_what_could_not_be_delivered_waits_and_is_sent_later(
    half: Callable[..., Recorder],
    server: Server,
    query: Query,
    qn_exp: Program,
    capfd: pytest.CaptureFixture[str],
    storage: bool,
    until: Until,
) -> None:
    if storage:
        run = half(wait=0.5)
    else:
        manager = make_manager({"postgres": {"wait": 0.5}})
        run = Recorder({"a": 1}, manager=manager, experiments_dir="experiments").start()
        _play(run)
        until(lambda: query("SELECT episodes FROM unfinished") == [(50,)])
    capfd.readouterr()
    server.stop()
    _play(run)
    experiment = run.end()
    assert experiment is not None
    (said,) = [line for line in capfd.readouterr().err.splitlines() if "kept in" in line]
    path = SPOOL / f"{run.id}.zip"
    assert said.startswith("warning: postgres: ")
    assert f"the run is kept in {path.absolute()}" in said
    status = qn_exp("postgres", "status", "--json")
    assert status.returncode == 3
    assert json.loads(status.stdout)["waiting"] == [run.id]
    assert qn_exp("postgres", "flush").returncode == 3
    assert path.exists()
    server.start()
    done = qn_exp("postgres", "flush", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "experiments": [{"id": run.id, "outcome": "sent"}],
        "errors": [],
        "waiting": [],
    }
    count, document = _arrived(query, run.id)
    assert count == 100
    assert json.loads(document)["digests"]["exact"] == experiment.digests.exact
    assert [name for name in os.listdir(SPOOL) if name != ".gitignore"] == []
    # Once more does nothing; and it comes back as it was.
    assert qn_exp("postgres", "flush").stdout == "nothing to do\n"
    assert qn_exp("postgres", "pull", run.id, "--experiments-dir", "there").returncode == 0
    fsck = qn_exp("fsck", "--experiments-dir", "there")
    assert fsck.stdout == "no faults in 1 record, 1 journal, 100 episodes\n"


def test_a_run_that_waits_is_no_failure(qn_run: Program, server: Server) -> None:
    server.stop()
    done = qn_run("small.yml", "--episodes", "5", "--track-experiment", "--plugins", "postgres")
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if line.startswith("warning: postgres: ")]
    assert len(said) == 2
    assert "the run goes on" in said[0]
    assert "is kept in" in said[1]


def test_a_bundle_that_waits_can_be_imported_anywhere(
    project: Path, server: Server, qn_exp: Program, tree: Tree
) -> None:
    server.stop()
    run = _start(wait=0)
    _play(run)
    run.end()
    (bundle,) = SPOOL.glob("*.zip")
    assert qn_exp("import", str(bundle), "--experiments-dir", "there").returncode == 0
    assert tree(Path("there")) == tree(Path("experiments"))


def test_what_waits_disturbs_nobody(project: Path, server: Server, qn_exp: Program) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    server.stop()
    run = _start(wait=0)
    _play(run)
    run.end()
    assert list(SPOOL.glob("*.zip"))
    assert qn_exp("fsck").stdout == "no faults in 1 record, 1 journal, 50 episodes\n"
    assert [e["id"] for e in json.loads(qn_exp("list", "--json").stdout)["experiments"]] == [run.id]
    for folder in (".", "experiments"):
        status = ["git", "-C", folder, "status", "--porcelain", "--untracked-files=all"]
        shown = subprocess.run(status, capture_output=True, text=True, check=True).stdout
        assert ".spool" not in shown


def test_the_next_run_sends_what_waits(project: Path, server: Server, query: Query) -> None:
    server.stop()
    runs = []
    for _ in range(3):
        run = _start(wait=0)
        _play(run)
        run.end()
        runs.append(run.id)
    assert spool.waiting("experiments", "postgres") == sorted(runs)
    server.start()
    run = _start()
    _play(run)
    run.end()
    assert spool.waiting("experiments", "postgres") == []
    for id in (*runs, run.id):
        assert _arrived(query, id) == (50, _record(id))


def test_two_do_not_send_the_same(
    project: Path,
    server: Server,
    dsn: str,
    query: Query,
    qn_exp: Program,
    until: Until,
    spawn: Spawn,
) -> None:
    assert qn_exp("postgres", "init").returncode == 0
    server.stop()
    run = _start(wait=0)
    _play(run)
    run.end()
    server.start()
    with psycopg.connect(dsn) as holder:
        # The first stands before a locked table with its bundle in hand.
        holder.execute("LOCK TABLE qn_tracking.experiments IN ACCESS EXCLUSIVE MODE")
        first = spawn("qn-exp", "postgres", "flush")
        until(lambda: query("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)])
        second = qn_exp("postgres", "flush")
        assert second.returncode == 0
        assert second.stderr == "warning: another process is sending them\n"
        holder.rollback()
    assert first.communicate(timeout=60)[0] == "1 sent\n"
    assert _arrived(query, run.id) == (50, _record(run.id))


def test_a_bundle_that_is_damaged_stays_and_is_named(
    project: Path, server: Server, query: Query, qn_exp: Program, capfd: pytest.CaptureFixture[str]
) -> None:
    server.stop()
    for _ in range(2):
        run = _start(wait=0)
        _play(run)
        run.end()
    server.start()
    bad, good = spool.waiting("experiments", "postgres")
    path = SPOOL / f"{bad}.zip"
    path.write_bytes(path.read_bytes()[:-40])
    done = qn_exp("postgres", "flush")
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: {path}: not a whole zip file")
    assert done.stdout == "1 sent, 1 refused\n"
    assert spool.waiting("experiments", "postgres") == [bad]
    assert _arrived(query, good) == (50, _record(good))
    capfd.readouterr()
    run = _start()
    run.end()
    assert f"{bad}.zip: not a whole zip file" in capfd.readouterr().err


def test_without_a_folder_what_is_not_delivered_is_an_error(project: Path, server: Server) -> None:
    run = Recorder({"a": 1}, manager=make_manager({"postgres": {"wait": 0.5}})).start()
    server.stop()
    _play(run)
    with pytest.raises(StorageError, match="not delivered"):
        run.end()


def test_a_server_that_hangs_holds_nobody_up_for_longer_than_it_may(
    half: Callable[..., Recorder],
    server: Server,
    query: Query,
    capfd: pytest.CaptureFixture[str],
    qn_exp: Program,
    until: Until,
) -> None:
    run = half(wait=0.5)
    ((pid,),) = query("SELECT pid FROM pg_stat_activity WHERE application_name = 'qn-tracking'")
    os.kill(pid, signal.SIGSTOP)
    try:
        _play(run)
        run.end()
        assert spool.waiting("experiments", "postgres") == [run.id]
        said = capfd.readouterr().err
        assert f"warning: postgres: {server.folder}:{server.port}/" in said
        assert ": timed out: the run is kept in" in said
        # The others go on meanwhile.
        assert qn_exp("postgres", "flush").stdout == "1 sent\n"
        assert _arrived(query, run.id) == (100, _record(run.id))
    finally:
        os.kill(pid, signal.SIGCONT)
    # When it comes to itself again, nothing is left there.
    until(lambda: query(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") == [(0,)])
    assert _arrived(query, run.id) == (100, _record(run.id))


# -------------------------------------------------------------------------------- the run is ended


def _saved(folder: str) -> bool:
    """Whether the one run of a folder has its record, and json_storage has done with it."""
    (journal,) = Path(folder).glob("runs/*/episodes.jsonl")
    with open(journal) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return bool(list(Path(folder).glob("*.json")))


def test_ctrl_c_while_the_end_waits_for_the_server(
    project: Path, server: Server, query: Query, qn_exp: Program, until: Until, spawn: Spawn
) -> None:
    (project / "small.yml").write_text(
        f"{(project / 'small.yml').read_text()}plugins:\n  postgres: {{wait: 60}}\n"
    )
    run = spawn("qn-run", "small.yml", "--episodes", "1000000", "--track-experiment", "--quiet")
    until(lambda: query("SELECT to_regclass('episodes') IS NOT NULL") == [(True,)])
    until(lambda: query("SELECT coalesce(sum(episodes), 0) > 0 FROM unfinished") == [(True,)])
    server.stop()
    run.send_signal(signal.SIGINT)
    until(lambda: _saved("experiments"))  # now it waits
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=30)
    assert run.returncode == 130
    (path,) = Path("experiments").glob("*.json")
    assert spool.waiting("experiments", "postgres") == [path.stem]
    server.start()
    assert qn_exp("postgres", "flush").stdout == "1 sent\n"
    episodes = json.loads(path.read_bytes())["results"]["episodes"]
    assert _arrived(query, path.stem) == (episodes, path.read_bytes())


def test_a_run_that_is_killed(
    project: Path, query: Query, qn_exp: Program, tree: Tree, until: Until, spawn: Spawn
) -> None:
    command = ("small.yml", "--episodes", "1000000", "--seed", "1", "--track-experiment", "--quiet")
    run = spawn("qn-run", *command, "--plugins", "postgres")
    until(lambda: query("SELECT to_regclass('episodes') IS NOT NULL") == [(True,)])
    until(lambda: query("SELECT coalesce(sum(episodes), 0) > 100 FROM unfinished") == [(True,)])
    run.kill()
    run.wait()
    ((id, episodes),) = query("SELECT id, episodes FROM unfinished")
    listed = json.loads(qn_exp("postgres", "list", "--json", "--status", "unfinished").stdout)
    assert [(e["id"], e["episodes"]) for e in listed["experiments"]] == [(id, episodes)]
    refused = qn_exp("postgres", "push", id)
    assert refused.returncode == 2
    assert f"qn-exp recover {id}" in refused.stderr

    # On another machine, what arrived is all there is.
    there = ("--experiments-dir", "there")
    refused = qn_exp("postgres", "pull", id, *there)
    assert refused.returncode == 3
    assert "--recover" in refused.stderr
    assert not Path("there").exists()
    assert qn_exp("postgres", "pull", id, "--recover", *there).returncode == 0
    pulled = json.loads(Path(f"there/{id}.json").read_bytes())
    assert (pulled["status"], pulled["results"]["episodes"]) == ("crashed", episodes)
    assert qn_exp("fsck", *there).returncode == 0

    # On this one, the journal has every one of them.
    assert qn_exp("recover", id).returncode == 0
    done = qn_exp("postgres", "push", id)
    assert (done.returncode, done.stdout) == (0, "1 sent\n"), done.stderr
    here = json.loads(_record(id))
    assert here["results"]["episodes"] >= episodes
    assert _arrived(query, id) == (here["results"]["episodes"], _record(id))
    assert qn_exp("postgres", "pull", id, "--experiments-dir", "third").returncode == 0
    assert tree(Path("third")) == tree(Path("experiments"))
