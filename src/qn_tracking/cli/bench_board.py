"""`qn-bench leaderboard`, `list` and `contributor`: entries side by side."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from qn_tracking.api.leaderboard import Leaderboard
from qn_tracking.benchmark.entries import Entry, Listed, Row
from qn_tracking.benchmark.metrics import METRICS, PRIMARY, ranked
from qn_tracking.cli.options import leaderboard as of_folder
from qn_tracking.cli.output import print_json, print_rows, print_table, print_wrapped
from qn_tracking.cli.parser import flag, valued
from qn_tracking.errors import printable
from qn_tracking.render.board import circuits, cpu, estimate, limits, middle, number, ranks, working
from qn_tracking.render.table import Column, columns_of, table
from qn_tracking.render.text import counted, sparkline, wrapped

TOP = 10


EXAMPLES = {
    "leaderboard": """examples:
  qn-bench leaderboard
  qn-bench leaderboard dynamic_small/quantum --all
""",
    "list": """examples:
  qn-bench list --family quantum
""",
    "contributor": """examples:
  qn-bench contributor "Ada L"
""",
}


def arguments(parser: ArgumentParser, command: str) -> None:
    if command == "contributor":
        valued(parser, "name", "NAME", "the name of the contributor, or the GitHub account")
        return
    if command == "leaderboard":
        valued(
            parser,
            "category",
            "CATEGORY",
            "such as dynamic_small, or dynamic_small/quantum (default: every category)",
            nargs="?",
        )
        parser.add_argument(
            "--metric",
            choices=ranked(),
            default=PRIMARY,
            help=f"rank by this metric (default: {PRIMARY})",
        )
        flag(parser, "--all", f"show every entry, not only the first {TOP} of each category")
    valued(parser, "--env", "NAME", "only this environment, such as dynamic_small")
    valued(parser, "--family", "NAME", "only this family: quantum or classical")
    valued(parser, "--brain", "NAME", "only this brain")
    flag(parser, "--verified", "only submissions that someone else has verified")


def run(args: Namespace) -> int:
    return {"leaderboard": _leaderboard, "list": _list, "contributor": _contributor}[args.command](
        args, of_folder(args)
    )


def _filters(args: Namespace) -> dict[str, Any]:
    return {
        "environment": args.env,
        "family": args.family,
        "brain": args.brain,
        "verified": args.verified,
    }


def _leaderboard(args: Namespace, leaderboard: Leaderboard) -> int:
    boards = leaderboard.boards(args.category, metric=args.metric, **_filters(args))
    if args.json:
        print_json([board.plain() for board in boards.values()])
        return 0
    current = next((board.protocol for board in boards.values()), None)
    rules = "" if current is None else f", protocol version {current}"
    print_wrapped(f"by {METRICS[args.metric].title}{rules}")
    for board in boards.values():
        if board.rows or board.open or board.archive:
            print(f"\n{board.name}")
        _print_rows(board.rows, args)
        if board.open:
            print("  open division, not ranked")
            _print_rows(board.open, args)
        for version in dict.fromkeys(row.entry.protocol for row in board.archive):
            print_wrapped(f"  archive: protocol version {version}, ranked by its own rules")
            _print_rows([row for row in board.archive if row.entry.protocol == version], args)
    empty = [(board.name, board.command) for board in boards.values() if not board.rows]
    if empty:
        print("\nno entry yet:")
        print_rows(empty)
    return 0


def _print_rows(rows: Sequence[Row | Listed], args: Namespace) -> None:
    shown = rows if args.all else rows[:TOP]
    if shown:
        print(_table(shown, args.metric), end="")
    if len(shown) < len(rows):
        print(f"  and {len(rows) - len(shown)} more (--all)")


def _table(rows: Sequence[Row | Listed], metric: str) -> str:
    """Rows of one kind: ranked ones, or those of the open division with what differs."""
    listed = not isinstance(rows[0], Row)
    chosen = METRICS[metric]
    others = [m for m in METRICS.values() if m.column is not None and m.name != metric]
    shares = [row.entry.aggregates.get("threshold_share") for row in rows]
    guarded = next((share for share in shares if share), None)
    columns = [
        *(() if listed else (Column("rank"),)),
        Column("id"),
        Column("brain", least=6),
        Column("mean, 95%"),
        Column("IQM, 95%" if guarded else "IQM", drop=5),
        *([Column(f"runs ≥ {guarded['threshold']:.0%}", drop=5)] if guarded else []),
        *(Column(other.column or "", drop=4) for other in others),
        Column("to 80%", drop=6),
        Column("steps", drop=10),
        Column("cpu", drop=7),
        Column("params", drop=11),
        Column("circuits", drop=12),
        Column("runs", drop=3),
        Column("contributor", least=8, drop=1),
        Column("date", drop=8),
        Column("commit", drop=9),
        Column("status", drop=2),
        *((Column("differs", least=12),) if listed else ()),
    ]
    cells = []
    for row in rows:
        entry, figures = row.entry, row.entry.aggregates
        figure, time_to = figures.get(metric), figures["time_to_threshold"]
        beside = [figures[other.name] for other in others]
        cells.append(
            (
                *((ranks(row.rank_low, row.rank_high),) if isinstance(row, Row) else ()),
                entry.id,
                printable(entry.brain),
                estimate(figure, rate=chosen.format == "percent"),
                "" if figure is None else middle(figure, rate=chosen.format == "percent"),
                *([working(figures.get("threshold_share"))] if guarded else []),
                *("" if one is None else f"{one['mean']:.3f}" for one in beside),
                "" if time_to is None else f"{time_to:.1f} ({figures['reached_threshold']:.0%})",
                number(figures.get("environment_steps")),
                cpu(entry.plain()),
                number(figures.get("parameters")),
                circuits(figures),
                f"{figures['runs']} × {entry.episodes}",
                printable(entry.contributor),
                entry.created[:10],
                (entry.source["commit"] or "")[:8],
                ", ".join(row.status),
                *(() if isinstance(row, Row) else (printable("; ".join(row.differs)),)),
            )
        )
    space = max(columns_of() - 2, 0)
    text = table(columns, cells, space)
    if guarded:
        runs = min(share["runs"] for share in shares if share)
        text += "\n".join(wrapped(limits(runs), space, ""))
    return "".join(f"  {line}\n" for line in text.splitlines())


def _list(args: Namespace, leaderboard: Leaderboard) -> int:
    entries = leaderboard.submissions(**_filters(args))
    if args.json:
        print_json([entry.plain() for entry in entries])
        return 0
    _print_entries(entries)
    return 0


def _print_entries(entries: Sequence[Entry]) -> None:
    columns = [
        Column("id"),
        Column("category"),
        Column("brain", drop=2),
        Column("division", drop=5),
        Column("final success", drop=1),
        Column("runs", drop=4),
        Column("contributor", least=8, drop=3),
    ]
    cells = [
        (
            entry.id,
            entry.board,
            printable(entry.brain),
            entry.division or f"protocol {entry.protocol}",
            estimate(entry.aggregates[PRIMARY]),
            f"{entry.aggregates['runs']} × {entry.episodes}",
            printable(entry.contributor),
        )
        for entry in entries
    ]
    print_table(columns, cells)


def _contributor(args: Namespace, leaderboard: Leaderboard) -> int:
    found = leaderboard.contributor(args.name)
    if args.json:
        print_json(found.plain())
        return 0
    print(f"{printable(found.name)}: {counted(len(found.entries), 'submission')}")
    _print_entries(found.entries)
    print("\nbest, and the trend over time")
    for board, entry in found.best.items():
        line = sparkline(found.trend[board], 0, 1)
        print_wrapped(f"  {board}  {estimate(entry.aggregates[PRIMARY])}  {entry.id}  {line}")
    return 0
