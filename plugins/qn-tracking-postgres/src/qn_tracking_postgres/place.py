"""The options that several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qn_tracking.plugin import UsageError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from datetime import datetime

    from qn_tracking_postgres.server import Server

OURS = "postgres"
"""The name of the plugin, and of the folder of the runs that wait in `.spool`."""
_AGES = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def arguments(parser: ArgumentParser) -> None:
    """Add the options for the connection."""
    group = parser.add_argument_group(
        "connection",
        "Default: the options of the plugin in the project's pyproject.toml, and PGHOST,"
        " PGDATABASE, PGSERVICE … of the environment.",
    )
    group.add_argument("--dsn", metavar="TEXT", help="connection string without a password")
    group.add_argument("--dsn-env", metavar="NAME", help="environment variable that holds one")
    group.add_argument("--schema", metavar="NAME", help="default: qn_tracking")


def since_argument(parser: ArgumentParser) -> None:
    """Add the option `--since`."""
    parser.add_argument(
        "--since",
        metavar="WHEN",
        help="started at this time or later: 2026-01-31T12:00 (UTC), or 7d",
    )


def since(args: Namespace) -> datetime | None:
    """Return the time of `--since`, or None. Raises UsageError."""
    text = args.since
    if text is None:
        return None
    from datetime import UTC, datetime, timedelta

    from qn_tracking.plugin import microseconds

    number, unit = text[:-1], text[-1:]
    if unit in _AGES and number.isascii() and number.isdigit() and len(number) < 6:
        return datetime.now(UTC) - timedelta(seconds=int(number) * _AGES[unit])
    try:
        return datetime.fromtimestamp(microseconds(text) / 1_000_000, UTC)
    except (ValueError, OverflowError):
        hint = "2026-01-31, 2026-01-31T12:00 or an age such as 7d"
        raise UsageError(f"--since {text[:40]!r} is not a time", hint=hint) from None


def server_of(args: Namespace) -> Server:
    """Return the server of the options, the project or the environment. Raises ConfigError."""
    from qn_tracking.plugin import project
    from qn_tracking_postgres.server import SCHEMA, Server

    known = project().plugins.get(OURS, {})
    given = {"dsn": args.dsn, "dsn_env": args.dsn_env}
    if args.dsn is None and args.dsn_env is None:
        given = {name: known.get(name) for name in given}
    server = Server(**given, schema=args.schema or known.get("schema", SCHEMA))
    server.check(OURS)
    return server
