"""Creates the tables and upgrades them step by step; newer tables are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from qn_tracking.plugin import StorageError
from qn_tracking_postgres.server import GRANT

if TYPE_CHECKING:
    from psycopg import Connection

    from qn_tracking_postgres.server import Server

VERSION = 2
"""The number of files in `steps/`; each upgrades to the version in its name."""


def prepare(server: Server, connection: Connection[Any]) -> None:
    """Create or upgrade the tables; one query if they are up to date.

    Several clients may do this at the same time. Raises StorageError if the tables are newer, or if
    the user lacks a right.
    """
    with server.transaction(connection):
        if _version(server, connection) == VERSION:
            return
    with server.transaction(connection):
        # Held until this transaction ends; other clients then find the tables.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key(server.schema),))
        version = _version(server, connection)
        if version is None:
            _create(server, connection)
        for step in range(version or 0, VERSION):
            connection.execute((files(__package__) / "steps" / f"{step + 1}.sql").read_bytes())
            connection.execute("INSERT INTO version (version) VALUES (%s)", (step + 1,))


@contextmanager
def prepared(server: Server) -> Iterator[Connection[Any]]:
    """Yield a connection for writing; creates the tables if needed. Raises StorageError."""
    with server.connected() as connection:
        prepare(server, connection)
        yield connection


@contextmanager
def checked(server: Server) -> Iterator[Connection[Any]]:
    """Yield a connection for reading. Raises StorageError without current tables."""
    with server.connected() as connection:
        with server.transaction(connection):
            version = _version(server, connection)
        if version != VERSION:
            cause = f"no tables of version {VERSION} in schema {server.schema}"
            raise StorageError(cause, file="postgres", hint="qn-exp postgres init")
        yield connection


def _version(server: Server, connection: Connection[Any]) -> int | None:
    """Return the version of the tables; 0 without tables, None without the schema."""
    found = connection.execute(
        "SELECT has_schema_privilege(n.oid, 'USAGE'), c.oid FROM pg_namespace n"
        " LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'version'"
        " WHERE n.nspname = %s",
        (server.schema,),
    ).fetchone()
    if found is None:
        return None
    usable, table = found
    if not usable:  # otherwise PostgreSQL reports that the table does not exist
        cause = f"permission denied for schema {server.schema}"
        raise StorageError(cause, file="postgres", hint=GRANT)
    if table is None:
        return 0
    row = connection.execute("SELECT max(version) FROM version").fetchone()
    version = 0 if row is None or row[0] is None else row[0]
    if type(version) is not int or version > VERSION:
        raise StorageError(
            f"tables of version {version} in schema {server.schema}, newer than this program's"
            f" {VERSION}",
            file="postgres",
            hint="upgrade qn-tracking-postgres",
        )
    return version


def _create(server: Server, connection: Connection[Any]) -> None:
    from psycopg.sql import SQL, Identifier

    connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(server.schema)))


def lock_key(schema: str) -> int:
    """Return the key of the advisory lock for creating the tables of a schema."""
    digest = sha256(f"qn-tracking-postgres {schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
