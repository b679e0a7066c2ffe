"""The tables: made once by whoever comes first, and used with no more rights than it takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from qn_tracking import track
from qn_tracking_postgres import schema
from qn_tracking_postgres.server import SCHEMA

if TYPE_CHECKING:
    from conftest import Program, Query, Server

README = Path(__file__).parents[1] / "README.md"
PREPARE = """
from qn_tracking_postgres import schema
from qn_tracking_postgres.server import Server
with schema.prepared(Server()):
    pass
"""


def test_ten_programs_may_create_the_tables_at_once(
    project: Path, dsn: str, query: Query, until: Callable[..., None]
) -> None:
    key = schema.lock_key(SCHEMA)
    with psycopg.connect(dsn, autocommit=True) as holder:
        # Until all ten stand before the door at which they take turns.
        holder.execute("SELECT pg_advisory_lock(%s)", (key,))
        programs = [
            subprocess.Popen([sys.executable, "-c", PREPARE], stderr=subprocess.PIPE, text=True)
            for _ in range(10)
        ]
        until(
            lambda: (
                query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                == [(10,)]
            )
        )
        holder.execute("SELECT pg_advisory_unlock(%s)", (key,))
    errors = [program.communicate(timeout=60)[1] for program in programs]
    assert errors == [""] * 10
    assert [program.returncode for program in programs] == [0] * 10
    assert query("SELECT max(version), count(*) FROM version") == [(schema.VERSION, schema.VERSION)]


def test_a_step_leads_to_every_version() -> None:
    steps = Path(schema.__file__).parent / "steps"
    names = {f"{number}.sql" for number in range(1, schema.VERSION + 1)}
    assert {path.name for path in steps.iterdir()} == names


def test_tables_and_records_of_version_1_are_upgraded(
    project: Path, qn_exp: Program, server: Server, database: str, dsn: str, query: Query
) -> None:
    """A record that was sent before keeps its bytes, and is read as one of today."""
    with track({"a": 1}, seed=1) as run:
        run.episode(success=True)
    doc = json.loads(Path(f"experiments/{run.id}.json").read_bytes())
    study = {"id": "20260101T000000Z-00000000", "index": 0, "attempt": 0}
    del doc["study"]
    doc = {"runs": doc.pop("episodes"), **doc, "schema": 1, "campaign": study}
    old = json.dumps(doc, indent=2).encode()
    step = (Path(schema.__file__).parent / "steps" / "1.sql").read_bytes()
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE SCHEMA qn_tracking")
        connection.execute("SET search_path TO qn_tracking")
        connection.execute(step)
        connection.execute("INSERT INTO version (version) VALUES (1)")
        connection.execute("INSERT INTO runs (id) VALUES (%s)", (run.id,))
        connection.execute(
            "INSERT INTO experiments (id, document, record) VALUES (%s, %b, %s::jsonb)",
            (run.id, old, old.decode()),
        )
    assert qn_exp("postgres", "list").returncode == 3
    assert qn_exp("postgres", "init").stdout == "tables of version 2 in schema qn_tracking\n"
    assert query("SELECT study, seed, document FROM experiments") == [(study["id"], 1, old)]
    assert qn_exp("postgres", "pull", run.id, "--experiments-dir", "there").returncode == 0
    assert Path(f"there/{run.id}.json").read_bytes() == old
    shown = json.loads(qn_exp("postgres", "show", run.id, "--json").stdout)
    assert (shown["schema"], shown["study"]) == (2, study)


def test_tables_of_a_newer_plugin_are_left_alone(
    qn_run: Program, qn_exp: Program, server: Server, database: str, query: Query
) -> None:
    assert qn_exp("postgres", "init").returncode == 0
    server.execute("INSERT INTO qn_tracking.version (version) VALUES (99)", database)
    for done in (
        qn_run("small.yml", "--track-experiment", "--plugins", "postgres"),
        qn_exp("postgres", "list"),
    ):
        assert done.returncode == 3
        assert "error: postgres: tables of version 99 in schema qn_tracking" in done.stderr
        assert "upgrade qn-tracking-postgres" in done.stderr
    assert query("SELECT count(*) FROM runs") == [(0,)]
    assert not Path("experiments").exists()


def test_those_who_only_read_make_nothing(qn_exp: Program, query: Query) -> None:
    done = qn_exp("postgres", "list")
    assert done.returncode == 3
    assert "qn-exp postgres init" in done.stderr
    assert query("SELECT count(*) FROM pg_namespace WHERE nspname = 'qn_tracking'") == [(0,)]


# ------------------------------------------------------------------------------------------ rights


@pytest.fixture
def role(
    qn_exp: Program, server: Server, database: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Becomes `writer` or `reader`, with the rights that the README grants, or nobody."""
    (grants,) = re.findall(r"<!-- grants -->\n```sql\n(.*?)```", README.read_text(), re.DOTALL)
    assert qn_exp("postgres", "init").returncode == 0
    server.execute(grants.replace("runs_", f"{prefix}_"), database)
    server.execute(f"CREATE ROLE {prefix}_nobody")

    def become(name: str) -> None:
        server.execute(f"ALTER ROLE {prefix}_{name} LOGIN")
        monkeypatch.setenv("PGUSER", f"{prefix}_{name}")

    return become


def test_a_writer_adds_and_takes_nothing_away(
    role: Callable[[str], None],
    qn_exp: Program,
    server: Server,
    database: str,
    prefix: str,
    query: Query,
) -> None:
    role("writer")
    with track({"a": 1}, seed=1, plugins=["postgres"]) as run:
        run.episode(success=True)
    assert query("SELECT id, episodes, inserted_by FROM overview") == [
        (run.id, 1, f"{prefix}_writer")
    ]
    again = qn_exp("postgres", "push", "--all")
    assert (again.returncode, again.stdout) == (0, "1 there already\n")
    with psycopg.connect(server.dsn(database, f"{prefix}_writer"), autocommit=True) as mine:
        for statement in (
            "DELETE FROM qn_tracking.episodes",
            "UPDATE qn_tracking.experiments SET record = '{}'",
            "TRUNCATE qn_tracking.files",
            "INSERT INTO qn_tracking.runs (id, inserted_by) VALUES ('x', 'somebody')",
            "DROP TABLE qn_tracking.runs",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                mine.execute(statement.encode())


def test_a_run_that_a_writer_resumes_is_refused_by_the_right_that_is_missing(
    role: Callable[[str], None], qn_exp: Program, query: Query
) -> None:
    role("writer")
    with track({"a": 1}, seed=1, plugins=["postgres"]) as run:
        run.episode(reward=1.0)
        run.end("interrupted")
    with track({"a": 1}, resume=run.id, seed=1) as again:
        again.episode(reward=2.0)
    there = query("SELECT document FROM experiments")
    done = qn_exp("postgres", "push", run.id)
    assert (done.returncode, done.stdout) == (3, "1 refused\n")
    assert "permission denied for table experiments" in done.stderr
    assert query("SELECT document FROM experiments") == there


def test_a_reader_reads_and_adds_nothing(
    role: Callable[[str], None], qn_exp: Program, qn_run: Program, query: Query
) -> None:
    role("writer")
    with track({"a": 1}, seed=1, plugins=["postgres"]) as run:
        run.episode(success=True)
    role("reader")
    assert run.id in qn_exp("postgres", "list").stdout
    assert qn_exp("postgres", "pull", run.id, "--experiments-dir", "there").returncode == 0
    done = qn_run(
        "small.yml", "--track-experiment", "--plugins", "postgres", "--experiments-dir", "new"
    )
    assert done.returncode == 3
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: postgres: permission denied for table runs")
    assert query("SELECT count(*) FROM runs") == [(1,)]
    assert not Path("new").exists()


def test_somebody_without_rights_is_told_so_before_the_run(
    role: Callable[[str], None], qn_run: Program
) -> None:
    role("nobody")
    done = qn_run("small.yml", "--track-experiment", "--plugins", "postgres")
    assert done.returncode == 3
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: postgres: permission denied for schema qn_tracking")
    assert not Path("experiments").exists()


def test_a_schema_of_another_name(
    project: Path, server: Server, database: str, qn_exp: Program
) -> None:
    (project / "pyproject.toml").write_text(
        '[tool.qn-tracking.plugins.postgres]\nschema = "ours"\n'
    )
    with track({"a": 1}, seed=1, plugins=["postgres"]) as run:
        run.episode(success=True)
    assert server.query("SELECT id FROM ours.experiments", database) == [(run.id,)]
    assert run.id in qn_exp("postgres", "list").stdout
    done = qn_exp("postgres", "list", "--schema", 'x"; DROP SCHEMA ours; --')
    assert done.returncode == 2
    assert done.stderr.startswith("error: postgres: schema: expected a name")
