"""Where the server is, who may come in, and that no password is left anywhere."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qn_tracking import track
from qn_tracking.errors import ConfigError
from qn_tracking.tracking.manager import make_manager

if TYPE_CHECKING:
    from conftest import Program, Query, Server

SECRET = "correct-horse-battery"


def _config(**options: str) -> Path:
    path = Path("small.yml")
    path.write_text(f"{path.read_text()}plugins:\n  postgres: {json.dumps(options)}\n")
    return path


def _refused(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that tells why a run did not start."""
    assert done.returncode == code, done.stderr
    (line,) = [text for text in done.stderr.splitlines() if not text.startswith("warning: ")]
    assert not Path("experiments").exists()
    return line


@pytest.fixture
def member(server: Server, prefix: str) -> str:
    """Somebody with a password, who may do everything in the database."""
    name = f"{prefix}_member"
    server.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'; GRANT owner TO {name}")
    return name


def test_a_wrong_password_stops_the_run(qn_run: Program, member: str) -> None:
    done = qn_run(
        *("small.yml", "--track-experiment", "--plugins", "postgres"),
        PGHOST="127.0.0.1",
        PGUSER=member,
        PGPASSWORD="wrong-" + SECRET,
    )
    line = _refused(done, 3)
    assert line.startswith("error: postgres: connection to server at")
    assert f'password authentication failed for user "{member}"' in line
    assert SECRET not in line


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PGDATABASE": "nowhere"}, 'database "nowhere" does not exist'),
        ({"PGUSER": "stranger"}, 'role "stranger" does not exist'),
        ({"PGSERVICE": "none"}, 'definition of service "none" not found'),
    ],
)
def test_what_the_server_refuses_stops_the_run(
    qn_run: Program, settings: dict[str, str], said: str
) -> None:
    done = qn_run("small.yml", "--track-experiment", "--plugins", "postgres", **settings)
    assert said in _refused(done, 3)


@pytest.mark.parametrize(
    "dsn", [f"user=me password={SECRET}", f"postgresql://me:{SECRET}@127.0.0.1/runs"]
)
def test_a_password_in_the_configuration_is_refused(qn_run: Program, dsn: str) -> None:
    line = _refused(qn_run(str(_config(dsn=dsn)), "--track-experiment"), 2)
    assert line.startswith("error: plugin postgres: dsn: contains a password")
    assert "PGPASSWORD" in line
    assert SECRET not in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dsn": f"postgresql://me:{SECRET}@[::1/x"}, "dsn: is not a connection string"),
        ({"dsn": f"postgresql://me:x@{SECRET}@db/x"}, "dsn: is not a connection string"),
        ({"dsn": SECRET}, "dsn: is not a connection string"),
        ({"dsn": "port=99999"}, "dsn: has an invalid port"),
        ({"dsn": ""}, "dsn: expected text"),
        ({"dsn": "[redacted]"}, "dsn: was removed when the configuration was stored"),
        ({"dsn_env": "NOT_SET"}, "dsn_env: there is no environment variable NOT_SET"),
        ({"dsn": "host=a", "dsn_env": "B"}, "dsn_env: cannot be combined with dsn"),
        ({"schema": "A-b"}, "schema: expected a name"),
        ({"wait": "long"}, "wait: expected seconds"),
        ({"unreachable": "panic"}, "unreachable: expected spool or stop"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make_manager({"postgres": options})
    assert str(refused.value).startswith(f"plugin postgres: {said}")
    assert SECRET not in str(refused.value)


def test_a_connection_string_in_the_environment_may_hold_a_password(
    qn_run: Program, server: Server, database: str, member: str, query: Query
) -> None:
    secret_dsn = f"{server.dsn(database, member, tcp=True)} password={SECRET}"
    done = qn_run(
        str(_config(dsn_env="TEAM")), "--track-experiment", "--episodes", "2", TEAM=secret_dsn
    )
    assert done.returncode == 0, done.stderr
    assert query("SELECT episodes, inserted_by FROM overview") == [(2, member)]
    # Neither here nor there.
    kept = b"".join(path.read_bytes() for path in Path("experiments").rglob("*") if path.is_file())
    assert SECRET.encode() not in kept
    assert b"TEAM" in kept
    assert query(f"SELECT count(*) FROM experiments WHERE record::text LIKE '%{SECRET}%'") == [(0,)]
    assert SECRET not in done.stdout + done.stderr


def test_what_is_broken_in_the_environment_is_not_quoted(qn_run: Program) -> None:
    done = qn_run(str(_config(dsn_env="TEAM")), "--track-experiment", TEAM=f"{SECRET} x")
    assert SECRET not in _refused(done, 2)


def test_the_project_says_where(
    project: Path, dsn: str, qn_exp: Program, monkeypatch: pytest.MonkeyPatch, query: Query
) -> None:
    for name in ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER"):
        monkeypatch.delenv(name)
    Path("pyproject.toml").write_text(f'[tool.qn-tracking.plugins.postgres]\ndsn = "{dsn}"\n')
    with track({"a": 1}, seed=1) as run:
        run.episode(success=True)
    assert query("SELECT id FROM experiments") == [(run.id,)]
    assert run.id in qn_exp("postgres", "list").stdout


def test_a_database_without_utf8_is_refused(qn_run: Program, server: Server) -> None:
    server.execute("CREATE DATABASE old ENCODING 'LATIN1' TEMPLATE template0")
    done = qn_run(*("small.yml", "--track-experiment", "--plugins", "postgres"), PGDATABASE="old")
    assert "is LATIN1, not UTF-8" in _refused(done, 3)


def test_whatever_the_terminal_speaks(
    project: Path, monkeypatch: pytest.MonkeyPatch, query: Query
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with track({"a": "🪱"}, seed=1, plugins=["postgres"]) as run:
        run.episode(termination="虫")
    assert query("SELECT termination FROM episodes") == [("虫",)]
    assert run.experiment is not None


def test_a_server_that_is_full_is_waited_for(
    qn_run: Program, server: Server, database: str, member: str, query: Query
) -> None:
    server.execute(f"ALTER ROLE {member} CONNECTION LIMIT 0")
    done = qn_run("small.yml", "--track-experiment", "--plugins", "postgres", PGUSER=member)
    assert done.returncode == 0
    assert f'too many connections for role "{member}": the run goes on' in done.stderr


def test_a_server_that_is_down_may_stop_the_run(qn_run: Program) -> None:
    config = str(_config(dsn="host=127.0.0.1 port=1", unreachable="stop"))
    line = _refused(qn_run(config, "--track-experiment"), 3)
    assert line.startswith("error: postgres: connection to server at")
