"""`qn-exp postgres list`, `show` and `status`: print what the server has."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from qn_tracking.plugin import StorageError, print_plain, printable, read, unicode_out
from qn_tracking_postgres import place

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from qn_tracking.plugin import Experiment
    from qn_tracking_postgres.reading import Row

LIMIT = 20


def list_arguments(parser: ArgumentParser) -> None:
    """The options of `list`."""
    for name in ("environment", "brain", "family"):
        parser.add_argument(
            f"--{name}", action="append", default=[], metavar="NAME", help=f"only this {name}"
        )
    parser.add_argument(
        "--status",
        action="append",
        default=[],
        metavar="STATUS",
        help=", ".join(read.RECORDED) + "; unfinished: no record yet",
    )
    place.since_argument(parser)
    parser.add_argument(
        "--limit", type=_limit, default=LIMIT, metavar="N", help=f"0 for all (default: {LIMIT})"
    )
    place.arguments(parser)


def _limit(text: str) -> int:
    from argparse import ArgumentTypeError

    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def run_list(args: Namespace) -> int:
    """Print the newest matching experiments."""
    from qn_tracking.plugin import statuses_of
    from qn_tracking_postgres import reading, schema

    filters = reading.Filters(
        environment=args.environment,
        brain=args.brain,
        family=args.family,
        status=statuses_of(args, (*read.RECORDED, reading.UNFINISHED)),
        since=place.since(args),
        limit=args.limit,
    )
    server = place.server_of(args)
    with schema.checked(server) as connection, server.transaction(connection):
        rows, total = reading.newest(connection, filters)
    if args.json:
        print_plain({"total": total, "experiments": [_plain(row) for row in rows]})
        return 0
    print(f"{len(rows):,} of {total:,} experiments on the server")
    if rows:
        from qn_tracking.plugin import columns_of, table

        sys.stdout.write(table(_columns(), [_cells(row) for row in rows], columns_of()))
    return 0


def _plain(row: Row) -> dict[str, Any]:
    from math import isfinite

    from attrs import asdict

    from qn_tracking.plugin import not_finite

    return {
        name: not_finite(value) if type(value) is float and not isfinite(value) else value
        for name, value in asdict(row).items()
    }


def _columns() -> tuple[Any, ...]:
    from qn_tracking.plugin import Column

    return (
        Column("ID"),
        Column("STARTED (UTC)", drop=3),
        Column("STATUS", drop=1, least=9),
        Column("ENVIRONMENT", drop=5, least=11),
        Column("BRAIN", drop=4, least=5),
        Column("SEED", drop=8, right=True, least=6),
        Column("EPISODES", drop=6, right=True),
        Column("SUCCESS", drop=2, right=True),
        Column("REWARD", drop=7, right=True),
        Column("HOST", drop=9, least=6),
        Column("BY", drop=10, least=4),
    )


def _cells(row: Row) -> list[str]:
    return [
        printable(row.id),
        (row.started or "")[:16].replace("T", " "),
        printable(row.status),
        printable(row.environment or ""),
        printable(row.brain or ""),
        "" if row.seed is None else str(row.seed),
        "" if row.episodes is None else str(row.episodes),
        "" if row.success_rate is None else f"{row.success_rate:.0%}",
        _number(row.avg_reward),
        printable(row.host or ""),
        printable(row.inserted_by or ""),
    ]


def _number(value: float | None) -> str:
    from math import isfinite

    from qn_tracking.plugin import not_finite

    if value is None:
        return ""
    return f"{value:.4g}" if isfinite(value) else not_finite(value)


def show_arguments(parser: ArgumentParser) -> None:
    """The options of `show`."""
    parser.add_argument("id", metavar="ID", help="an id, or the beginning of one")
    place.arguments(parser)


def run_show(args: Namespace) -> int:
    """Print one experiment."""
    from qn_tracking.plugin import check_id, plain
    from qn_tracking_postgres import reading, schema

    server = place.server_of(args)
    text = check_id(args.id)
    with schema.checked(server) as connection, server.transaction(connection):
        id = reading.resolve(connection, text)
        data = reading.document(connection, id)
        episodes = reading.stored_episodes(connection, id)
    experiment = None if data is None else reading.experiment(data, id)
    if args.json:
        known = {"id": id, "status": reading.UNFINISHED} if experiment is None else experiment
        print_plain({**plain(known), "stored_episodes": episodes})
    elif experiment is None:
        print(f"{id} has no record yet; {episodes:,} episodes are on the server")
    else:
        _print(experiment, episodes)
    return 0


def _print(experiment: Experiment, episodes: int) -> None:
    from qn_tracking.plugin import duration, plain, rows

    subject, results = experiment.subject, experiment.results
    head = [subject.environment, subject.brain, subject.family, experiment.status]
    mark = " · " if unicode_out() else "  "
    print(mark.join(printable(part) for part in [experiment.id, *head] if part))
    wall = experiment.wall_seconds
    known: list[tuple[str, object]] = [
        ("started", experiment.started),
        ("took", None if wall is None else duration(wall)),
        ("seed", experiment.seed),
        ("configuration", experiment.config.label),
        ("episodes", f"{results.episodes:,} ({episodes:,} on the server)"),
        ("success", None if results.success_rate is None else f"{results.success_rate:.1%}"),
        ("total steps", results.total_steps),
        ("notes", experiment.notes),
        *((f"tag {key}", value) for key, value in experiment.tags.items()),
        *((f"mean {key}", _number(spread.mean)) for key, spread in results.metrics.items()),
        ("exact digest", experiment.digests and experiment.digests.exact),
        ("error", experiment.error and f"{experiment.error.type}: {experiment.error.message}"),
    ]
    sys.stdout.write(rows(known))
    config = plain(experiment.config.data)
    sys.stdout.write(rows((f"config {key}", value) for key, value in config.items()))
    print(f"qn-exp postgres pull {experiment.id} downloads all of it")


def run_status(args: Namespace) -> int:
    """Print the state of the server; return 3 if it cannot be reached."""
    from qn_tracking.plugin import rows, spool
    from qn_tracking_postgres import reading, schema

    server, experiments = place.server_of(args), args.experiments_dir
    waiting = spool.waiting(experiments, place.OURS)
    about: dict[str, Any] = {}
    failed: StorageError | None = None
    try:
        with schema.checked(server) as connection:
            info = connection.info
            major, minor = divmod(info.server_version, 10_000)
            about["server"] = f"PostgreSQL {major}.{minor}"
            about["database"], about["user"] = info.dbname, info.user
            about["schema"], about["version"] = server.schema, schema.VERSION
            with server.transaction(connection):
                about.update(reading.counts(connection))
    except StorageError as error:
        failed = error
    if args.json:
        text = None if failed is None else str(failed)
        print_plain({**about, "waiting": waiting, "error": text})
    else:
        shown = {**about, "waiting": f"{len(waiting):,} in {spool.folder(experiments, place.OURS)}"}
        sys.stdout.write(rows(shown.items(), ""))
    if failed is None:
        return 0
    print(f"error: {failed}", file=sys.stderr)
    return failed.exit_code
