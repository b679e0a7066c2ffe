"""The options of every command for the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from qn_tracking_postgres.server import Server

OURS = "postgres"


def arguments(parser: ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "connection",
        "Default: the options of the plugin in the project's pyproject.toml, and PGHOST,"
        " PGDATABASE, PGSERVICE … of the environment.",
    )
    group.add_argument("--dsn", metavar="TEXT", help="connection string without a password")
    group.add_argument("--dsn-env", metavar="NAME", help="environment variable that holds one")
    group.add_argument("--schema", metavar="NAME", help="default: qn_tracking")


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
