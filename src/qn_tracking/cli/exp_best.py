"""`qn-exp best`: of each group of experiments the one with the best value of a metric."""

from __future__ import annotations

import sys

from qn_tracking.cli.exp import folder, print_plain, warn
from qn_tracking.cli.exp_compare import (
    COUNTED,
    GROUPS,
    about,
    figure,
    group_fields,
    group_key,
    group_name,
)
from qn_tracking.cli.exp_list import add_filters, conditions_of, filters
from qn_tracking.errors import UsageError, printable
from qn_tracking.store import query
from qn_tracking.store.entry import label_key
from qn_tracking.store.index import consult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from typing import Any

    from qn_tracking.cli.command import Parser
    from qn_tracking.store.index import Index


USUAL = {path for name in GROUPS for paths in group_fields(name) for path in paths}


def arguments(parser: Parser, command: str) -> None:
    """The options of `best`."""
    parser.add_argument(
        "--metric", required=True, metavar="NAME", help="success_rate, a metric, or any field"
    )
    parser.add_argument(
        "--by", default="category", metavar="FIELD", help="best of each (default: category)"
    )
    parser.add_argument("--lowest", action="store_true", help="the least is the best")
    parser.add_argument(
        "--min-episodes", type=_count, default=1, metavar="N", help="look at no shorter runs"
    )
    add_filters(parser.add_argument_group("filters, as of list (--status: whole runs)"))


def _count(text: str) -> int:
    from argparse import ArgumentTypeError

    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def run(args: Namespace) -> int:
    """Prints the best of each group."""
    experiments = folder(args)
    given = filters(args)
    by = group_fields(args.by)
    if "status" not in given:
        args.status = [",".join(COUNTED)]

    def ask(index: Index) -> tuple[Any, ...]:
        rows, _ = query.select(index, conditions_of(index, args))
        path = _metric_path(index, args.metric)
        values = _column(index, path, "--metric")
        fields = {path: _column(index, path, "--by") for paths in by for path in paths}
        winners, lacking = _winners(
            args, rows, values, lambda n: group_key(by, lambda path: fields[path].get(n))
        )
        found = index.documents([row.n for row, _, _ in winners.values()])
        return path, winners, found, lacking, index.problems()

    path, winners, documents, lacking, problems = consult(experiments, ask, warn=warn)
    for _, problem in problems:
        warn(problem)
    found = []
    for key, (row, value, count) in sorted(winners.items(), key=lambda item: repr(item[0])):
        doc = documents.get(row.n)
        if doc is not None:
            found.append(
                {
                    "group": list(key),
                    "value": value,
                    "of": count,
                    **{k: v for k, v in about(doc).items() if k != "origin_notes"},
                }
            )
    from qn_tracking.store.where import shown

    if args.json:
        print_plain(
            {
                "metric": shown(path),
                "by": args.by,
                "lowest": args.lowest,
                "min_episodes": args.min_episodes,
                "filters": {**given, "status": args.status[0].split(",")},
                "without_metric": lacking,
                "best": found,
            }
        )
        return 0
    _print_best(args, by, shown(path), found, lacking)
    return 0


def _winners(
    args: Namespace,
    rows: Sequence[query.Row],
    values: dict[int, Any],
    key_of: Callable[[int], tuple[Any, ...]],
) -> tuple[dict[Any, tuple[Any, float, int]], int]:
    """The best of each group, and of how many; of equal ones the first that started."""
    from math import isfinite

    winners: dict[Any, tuple[Any, float, int]] = {}
    lacking = 0
    for row in sorted(rows, key=lambda row: (row["at"], row["id"])):
        if (row["episodes"] or 0) < args.min_episodes:
            continue
        value = values.get(row.n)
        if not isinstance(value, (int, float)) or not isfinite(value):
            lacking += 1
            continue
        key = key_of(row.n)
        chosen, least, count = winners.get(key, (row, value, 0))
        if value < least if args.lowest else value > least:
            chosen, least = row, value
        winners[key] = (chosen, least, count + 1)
    return winners, lacking


def _metric_path(index: Index, name: str) -> tuple[Any, ...]:
    """The stored field that a metric's name stands for. Raises UsageError."""
    from qn_tracking.store import where

    short = {"reward": ("results", "avg_reward"), "steps": ("results", "avg_steps")}
    paths: list[tuple[str, ...]] = [short[name]] if name in short else []
    paths += [("results", name), ("results", "metrics", name, "mean"), (name,)]
    stored = set(index.fields())
    for path in paths:
        if path in stored and (*path, "mean") not in stored:
            return path
    try:
        path = where.field(name)
        index.find(path)
    except UsageError as error:
        names = sorted({p[2] for p in stored if p[:2] == ("results", "metrics") and len(p) > 2})
        hint = f"metrics: {', '.join(('success_rate', 'final_success_rate', *names)[:12])}"
        raise UsageError(f"no stored metric {name!r}", file="--metric", hint=hint) from error
    return path


def _column(index: Index, path: tuple[Any, ...], option: str) -> dict[int, Any]:
    """A field of every experiment, by the number of its row. Raises UsageError for none such."""
    try:
        column = index.find(path)
    except UsageError as error:
        # Those that make the usual groups may well be lacking everywhere.
        if path in USUAL:
            return {}
        raise UsageError(error.cause, file=option, hint=error.hint) from None
    rows = index.db.execute(f"SELECT n, {column.expression} FROM {column.table}")  # noqa: S608
    return dict(rows)


def _print_best(
    args: Namespace, by: Any, metric: str, found: list[dict[str, Any]], lacking: int
) -> None:
    from qn_tracking.render.table import Column, columns_of, table
    from qn_tracking.studies.comparison import RATES

    way = "lowest" if args.lowest else "highest"
    less = f"; {lacking} without it" if lacking else ""
    print(f"{way} {printable(metric)} of each {printable(args.by)}{less}")
    if not found:
        print("none fits")
        return
    rate = metric.rpartition(".")[2] in RATES
    rows = [
        [
            printable(group_name(by, one["group"], one["config"])),
            figure(one["value"], rate),
            one["id"],
            str(one["episodes"]),
            str(one["of"]),
            printable(one["brain"] or ""),
            printable(label_key(one["config"] or "")),
            printable(f"imported, {one['origin']}" if one["origin"] else ""),
        ]
        for one in found
    ]
    columns = (
        Column(args.by.upper(), least=8),
        Column("VALUE", right=True),
        Column("ID"),
        Column("EPISODES", right=True, drop=2),
        Column("BEST OF", right=True, drop=3),
        Column("BRAIN", drop=4),
        Column("CONFIG", drop=6, least=6),
        Column("ORIGIN", drop=5),
    )
    sys.stdout.write(table(columns, rows, columns_of()))
    print("the best of many is in part the luckiest: qn-exp compare says what may be concluded")
