"""`qn-exp postgres pull`, `push`, `flush` and `init`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from qn_tracking.plugin import QnError, UsageError, ids_or_all, named_or_all, print_plain, warn
from qn_tracking_postgres import place

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Sequence


def pull_arguments(parser: ArgumentParser) -> None:
    """The options of `pull`."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="an id, or the beginning of one")
    parser.add_argument("--all", action="store_true", help="every experiment that has a record")
    place.since_argument(parser)
    parser.add_argument(
        "--recover",
        action="store_true",
        help="make the record of a crashed run from the episodes on the server",
    )
    place.arguments(parser)


def run_pull(args: Namespace) -> int:
    """Download experiments."""
    from qn_tracking.plugin import arrival, check_id
    from qn_tracking_postgres import reading, schema

    since, many = place.since(args), args.all or args.since is not None
    if many == bool(args.ids):
        raise UsageError("expected ids, --all or --since", hint="qn-exp postgres pull --help")
    if many and args.recover:
        raise UsageError("--recover: expected ids", hint="a run that goes on looks like a crash")
    server, experiments = place.server_of(args), args.experiments_dir
    texts = [check_id(text) for text in args.ids]
    arrival.sweep(experiments)
    with schema.checked(server) as connection:

        def pulled(text: str) -> tuple[str, str]:
            with server.transaction(connection):
                id = reading.resolve(connection, text)
            one = reading.pull(server, connection, id, experiments, warn, crashed=args.recover)
            return one.id, one.outcome

        if many:
            with server.transaction(connection):
                rows, _ = reading.newest(connection, reading.Filters(since=since))
            texts = [row.id for row in reversed(rows) if row.status != reading.UNFINISHED]
        done, errors = _all(texts, pulled)
    return _report(args, done, errors)


def _all(
    texts: Sequence[str], do: Callable[[str], tuple[str, str]]
) -> tuple[list[tuple[str, str]], list[tuple[str, QnError]]]:
    """Do something with each; return the outcomes, and the errors of the others, by id."""
    from qn_tracking_postgres.server import UnreachableError

    done, errors = [], []
    for text in texts:
        try:
            done.append(do(text))
        except UnreachableError:
            raise
        except QnError as error:
            errors.append((text, error))
            print(f"error: {error}", file=sys.stderr)
    return done, errors


def _report(
    args: Namespace, done: list[tuple[str, str]], errors: list[tuple[str, QnError]], **more: Any
) -> int:
    """Print the outcomes; return the exit code."""
    if args.json:
        print_plain(
            {
                "experiments": [{"id": id, "outcome": outcome} for id, outcome in done],
                "errors": [{"id": id, "error": str(error)} for id, error in errors],
                **more,
            }
        )
    else:
        outcomes = [outcome for _, outcome in done]
        parts = [f"{outcomes.count(kind):,} {kind}" for kind in dict.fromkeys(outcomes)]
        parts += [f"{len(errors):,} refused"] if errors else []
        print(", ".join(parts) or "nothing to do")
    return max((error.exit_code for _, error in errors), default=0)


def push_arguments(parser: ArgumentParser) -> None:
    """The options of `push`."""
    ids_or_all(parser)
    place.arguments(parser)


def run_push(args: Namespace) -> int:
    """Send experiments."""
    from qn_tracking.plugin import paths
    from qn_tracking_postgres import schema
    from qn_tracking_postgres.sending import send_stored

    ids = named_or_all(args)
    server, experiments = place.server_of(args), args.experiments_dir
    with schema.prepared(server) as connection:

        def pushed(id: str) -> tuple[str, str]:
            if not os.path.lexists(paths.record(experiments, id)):
                hint = f"qn-exp recover {id}, if it has ended"
                raise UsageError(f"{id} has no record yet", hint=hint)
            with server.transaction(connection):
                sent = send_stored(connection, experiments, id)
            return id, "sent" if sent else "there already"

        done, errors = _all(ids, pushed)
    return _report(args, done, errors)


def run_flush(args: Namespace) -> int:
    """Send the runs that wait."""
    from qn_tracking.plugin import spool
    from qn_tracking_postgres.delivery import flush

    server, experiments = place.server_of(args), args.experiments_dir
    found = flush(server, experiments)
    for _, error in found.errors:
        print(f"error: {error}", file=sys.stderr)
    if found.busy:
        warn("another process is sending them")
    return _report(
        args,
        [(id, "sent") for id in found.sent],
        list(found.errors),
        waiting=spool.waiting(experiments, place.OURS),
    )


def run_init(args: Namespace) -> int:
    """Create or upgrade the tables."""
    from qn_tracking_postgres import schema

    server = place.server_of(args)
    with schema.prepared(server):
        pass
    if args.json:
        print_plain({"schema": server.schema, "version": schema.VERSION})
    else:
        print(f"tables of version {schema.VERSION} in schema {server.schema}")
    return 0
