"""The address of the server, and connections to it.

libpq reads other settings from the environment: PGHOST, PGDATABASE, PGSERVICE, PGPASSFILE …
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking.plugin import MARK, ConfigError, StorageError, redact_text

if TYPE_CHECKING:
    from psycopg import Connection, Error

SCHEMA = "qn_tracking"
OLDEST = 12
"""The first release of PostgreSQL with generated columns."""
GRANT = "the README of qn-tracking-postgres lists the rights to grant"
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 120
SECRETS = frozenset(
    ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
)
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# Detect a lost connection in half a minute, not in hours.
_PATIENCE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
# A full server is not a wrong configuration. libpq does not pass on the code of the error.
_TIME_OUT = re.compile(r"time-?out|timed out", re.IGNORECASE)
_FULL = re.compile(r"too many (?:clients|connections)|remaining connection slots")

# Makes an error from a field, a cause and a hint.
_Wrong = Callable[..., ConfigError]


class UnreachableError(StorageError):
    """The server does not answer, or has no free connection; it may work later."""


@frozen(kw_only=True)
class Server:
    """A database on a server, and our schema in it.

    `dsn` is a connection string of libpq without a password; `dsn_env` names an environment
    variable that holds one, which may contain a password.
    """

    dsn: str | None = None
    dsn_env: str | None = None
    schema: str = SCHEMA

    def check(self, file: str) -> None:
        """Raises ConfigError with `file` for invalid options."""

        def wrong(field: str, cause: str, hint: str | None = None) -> ConfigError:
            return ConfigError(cause, file=file, field=field, hint=hint)

        for field in ("dsn", "dsn_env", "schema"):
            value = getattr(self, field)
            if value is not None and (type(value) is not str or not value or "\0" in value):
                raise wrong(field, "expected text")
        if self.dsn is not None and self.dsn_env is not None:
            raise wrong("dsn_env", "cannot be combined with dsn")
        if not _NAME.fullmatch(self.schema):
            raise wrong("schema", "expected a name of a-z, 0-9 and _", "the default is qn_tracking")
        if self.dsn is not None:
            if MARK in self.dsn:
                hint = "use dsn_env or PGSERVICE, which are stored"
                raise wrong("dsn", "was removed when the configuration was stored", hint)
            if SECRETS & _parsed(self.dsn, wrong, "dsn").keys():
                hint = "use ~/.pgpass, PGPASSWORD, or a variable named by dsn_env"
                raise wrong(
                    "dsn", "contains a password, which must not be in a configuration", hint
                )
        if self.dsn_env is not None:
            _parsed(self._text(wrong), wrong, "dsn_env")

    def _text(self, wrong: _Wrong) -> str:
        if self.dsn_env is None:
            return self.dsn or ""
        try:
            return os.environ[self.dsn_env]
        except KeyError:
            raise wrong("dsn_env", f"there is no environment variable {self.dsn_env}") from None

    @property
    def name(self) -> str:
        """Where the server is, as libpq finds it: `host:port/database`, without user or secrets."""
        from psycopg.pq import Conninfo

        parts = {
            option.keyword.decode(): option.val.decode(errors="replace")
            for option in Conninfo.get_defaults()  # also of the environment
            if option.val is not None
        }
        parts.update(_parsed(self._text(_unnamed), _unnamed, None))
        host = parts.get("host") or parts.get("hostaddr") or parts.get("service") or "localhost"
        database = parts.get("dbname") or parts.get("user") or ""
        return redact_text(f"{host}:{parts.get('port', 5432)}/{database}")

    def connect(self) -> Connection[Any]:
        """Open a connection in autocommit mode.

        Raises UnreachableError if the server does not answer, StorageError if it refuses.
        """
        import psycopg
        from psycopg.conninfo import make_conninfo

        given = _parsed(self._text(_unnamed), _unnamed, None)
        settings: dict[str, Any] = {"fallback_application_name": "qn-tracking", **_PATIENCE}
        if "PGCONNECT_TIMEOUT" not in os.environ:
            settings["connect_timeout"] = CONNECT_SECONDS
        # Always send UTF-8, whatever the encoding of the terminal.
        info = make_conninfo(**{**settings, **given, "client_encoding": "UTF8"})
        try:
            # Prepared statements do not survive a pooler between us and the server.
            connection = psycopg.connect(info, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise _refused(error, info, self.name) from None
        # After waiting for a lock, a statement must see the committed changes.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        try:
            _check_server(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def connected(self) -> Iterator[Connection[Any]]:
        """Yield a connection for a block. Raises as `connect` does."""
        connection = self.connect()
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def transaction(self, connection: Connection[Any]) -> Iterator[None]:
        """Run a block in a transaction with our schema; converts the errors of psycopg."""
        import psycopg

        try:
            with connection.transaction():
                # For this transaction only, because a pooler may share the connection.
                connection.execute(
                    "SELECT set_config('search_path', quote_ident(%s), true),"
                    " set_config('statement_timeout', %s, true)",
                    (self.schema, f"{STATEMENT_SECONDS}s"),
                )
                yield
        except psycopg.Error as error:
            raise storage_error(error, self.name) from None


def storage_error(error: Error, server: str) -> StorageError:
    """Convert an error of psycopg, to one line without secrets; a time-out names its server."""
    import psycopg

    lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) and (
        error.sqlstate is None or error.sqlstate[:2] in ("08", "57")
    )
    hint = None
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        hint = GRANT
    return (UnreachableError if lost else StorageError)(
        _line(error, server), file="postgres", hint=hint
    )


def _line(error: Error, server: str) -> str:
    # Further lines give advice, or repeat the first for every address of the host.
    text = error.diag.message_primary or str(error).strip().partition("\n")[0]
    for prefix in ("connection failed: ", "connection is bad: "):
        text = text.removeprefix(prefix)
    text = redact_text(text.replace("FATAL:  ", "")) or type(error).__name__
    return f"{server}: {text}" if _TIME_OUT.search(text) and "server at" not in text else text


def _refused(error: Error, info: str, server: str) -> StorageError:
    """Return the error for a failed connection; a ping says whether the server is there."""
    import psycopg
    from psycopg.pq import PGconn, Ping

    text = _line(error, server)
    if isinstance(error, psycopg.errors.ConnectionTimeout) or _FULL.search(text):
        return UnreachableError(text, file="postgres")
    there = PGconn.ping(info.encode())
    if there in (Ping.NO_RESPONSE, Ping.REJECT):
        return UnreachableError(text, file="postgres")
    return StorageError(text, file="postgres")


def _check_server(connection: Connection[Any]) -> None:
    version = connection.info.server_version
    if version < OLDEST * 10_000:
        cause = f"PostgreSQL {version // 10_000} is older than {OLDEST}"
        raise StorageError(cause, file="postgres")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StorageError(
            f"the encoding of the database {connection.info.dbname} is {encoding}, not UTF-8",
            file="postgres",
            hint="createdb -E UTF8 -T template0 NAME",
        )


def _unnamed(field: str | None, cause: str, hint: str | None = None) -> ConfigError:
    return ConfigError(cause, file="postgres", field=field, hint=hint)


def _parsed(text: str, wrong: _Wrong, field: str | None) -> dict[str, Any]:
    """Return the parts of a connection string. Errors do not quote it: it may be a secret."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    hint = "host=db.example dbname=runs user=me, or postgresql://me@db.example/runs"
    try:
        parts = conninfo_to_dict(text)
    except psycopg.Error:
        raise wrong(field, "is not a connection string of libpq", hint) from None
    # With an @ in a password that is not encoded, libpq takes the rest for the host.
    if any("@" in host[1:] for host in str(parts.get("host") or "").split(",")):
        raise wrong(
            field, "is not a connection string of libpq", "in a URI, @ of a password is %40"
        )
    for port in str(parts.get("port") or "").split(","):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port[:9]) < 65536):
            raise wrong(field, "has an invalid port", hint)
    return parts
