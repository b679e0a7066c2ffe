"""A real PostgreSQL server for the tests, started by them and gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psycopg
import pytest

BIN = Path(sys.executable).parent
SMALL = """\
max_steps: 30
brain:
  name: mlp
  config: {hidden_dim: 8, num_hidden_layers: 1}
environment:
  type: static
  static: {grid_size: 6}
"""

# Whoever starts the tests in the background has them ignored, and so would every program that the
# tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

Program = Callable[..., "subprocess.CompletedProcess[str]"]
Query = Callable[[str], list[tuple[Any, ...]]]


def _programs() -> Path | None:
    """Where `initdb` and `pg_ctl` are; distributions keep them off the PATH."""
    found = shutil.which("pg_ctl")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


class Server:
    """A server of our own, on a port of the loopback and a socket in its folder.

    Local users are trusted on the socket; over TCP a password is asked for. PostgreSQL refuses to
    run as root: then it is run as the user that its package has made.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self.folder = Path(tempfile.mkdtemp(prefix="qnpg-"))
        if os.getuid() == 0:
            shutil.chown(self.folder, self._user)
        self.data = self.folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        options = ["--username=owner", "--encoding=UTF8", "--locale=C", "--auth=trust", "-N"]
        self._call("initdb", "-D", self.data, *options)
        (self.data / "pg_hba.conf").write_text(
            "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        with open(self.data / "postgresql.conf", "a") as settings:
            settings.write(
                f"port = {self.port}\nunix_socket_directories = '{self.folder}'\n"
                "listen_addresses = '127.0.0.1'\nfsync = off\nmax_connections = 40\n"
            )
        self.start()

    def _call(self, program: str, *arguments: object) -> None:
        as_user = {"user": self._user, "group": self._user, "extra_groups": []}
        subprocess.run(
            [str(self._programs / program), *map(str, arguments)],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            timeout=60,
            **(as_user if os.getuid() == 0 else {}),  # type: ignore[call-overload]
        )

    def start(self) -> None:
        """Starts it, and returns when it takes connections."""
        self._call("pg_ctl", "-D", self.data, "-l", self.folder / "log", "-w", "start")

    def stop(self) -> None:
        """Ends it as a crash would: no connection is told."""
        self._call("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")

    @property
    def running(self) -> bool:
        return (self.data / "postmaster.pid").exists()

    def remove(self) -> None:
        if self.running:
            self.stop()
        shutil.rmtree(self.folder)

    def execute(self, statements: str, database: str = "postgres") -> None:
        """Statements of the owner of everything."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            connection.execute(statements.encode())

    def query(self, question: str, database: str) -> list[tuple[Any, ...]]:
        """What the owner reads in our schema."""
        with psycopg.connect(
            self.dsn(database), options="-c search_path=qn_tracking", client_encoding="UTF8"
        ) as connection:
            return connection.execute(question.encode()).fetchall()

    def dsn(self, database: str, user: str = "owner", *, tcp: bool = False) -> str:
        host = "127.0.0.1" if tcp else str(self.folder)
        return f"host={host} port={self.port} dbname={database} user={user}"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    programs = _programs()
    if programs is None:
        reason = "no PostgreSQL server here: initdb and pg_ctl were not found"
        if os.environ.get("QN_REQUIRE_POSTGRES"):
            pytest.fail(reason)
        pytest.skip(reason)
    made = Server(programs)
    try:
        yield made
    finally:
        made.remove()


DATABASE = "team"


@pytest.fixture
def database(server: Server) -> str:
    """The name of a database of a server that is up; nothing of ours is in it."""
    if not server.running:
        server.start()
    if not server.query(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'", "postgres"):
        server.execute(f"CREATE DATABASE {DATABASE}")
    server.execute(
        "SET lock_timeout = '10s'; SET client_min_messages = error;"
        " DROP SCHEMA IF EXISTS qn_tracking, ours CASCADE",
        DATABASE,
    )
    return DATABASE


_numbers = count()


@pytest.fixture
def prefix() -> str:
    """The beginning of names of roles: those are the server's, not the database's."""
    return f"t{next(_numbers)}"


@pytest.fixture
def dsn(server: Server, database: str) -> str:
    """How to reach the empty database as its owner."""
    return server.dsn(database)


@pytest.fixture
def query(server: Server, database: str) -> Query:
    """Asks the database something as its owner."""
    return lambda question: server.query(question, database)


@pytest.fixture
def project(tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, whose programs find the database by the environment alone."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("GIT_", "PG"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for part in dsn.split():
        key, _, value = part.partition("=")
        monkeypatch.setenv({"dbname": "PGDATABASE"}.get(key, f"PG{key.upper()}"), value)
    (tmp_path / "small.yml").write_text(SMALL)
    return tmp_path


def _program(name: str) -> Program:
    def call(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / name), *args],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            env={**os.environ, **env},
        )

    return call


@pytest.fixture
def qn_run(project: Path) -> Program:
    """Runs the installed `qn-run` in the project folder."""
    return _program("qn-run")


@pytest.fixture
def qn_exp(project: Path) -> Program:
    """Runs the installed `qn-exp` in the project folder."""
    return _program("qn-exp")


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Waits until something is so; fails after a while."""

    def wait(so: Callable[[], object]) -> None:
        end = monotonic() + 120
        while not so():
            assert monotonic() < end, "it did not come"
            sleep(0.02)

    return wait


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts an installed program; what is still running at the end is killed."""
    with ExitStack() as stack:

        def start(name: str, *args: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [str(BIN / name), *args],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    """The files of a folder of experiments, but for the index and what waits."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            name: path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
            and not (name := str(path.relative_to(folder))).startswith((".index", ".spool"))
        }

    return read
