"""`qn-bench leaderboard`, `list` and `contributor`: entries side by side."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from qn_tracking.benchmark import ranking
from qn_tracking.benchmark.ranking import METRICS, PRIMARY, Row, Summary
from qn_tracking.cli.bench import survey
from qn_tracking.cli.command import print_json
from qn_tracking.config import shipped
from qn_tracking.errors import UsageError, did_you_mean, printable
from qn_tracking.records.codec import plain
from qn_tracking.records.submission import Category
from qn_tracking.render.board import command, estimate, percent, ranks
from qn_tracking.render.table import Column, columns_of, table
from qn_tracking.render.text import duration, rows as rows_of, sparkline

TOP = 10


def arguments(parser: ArgumentParser, command: str) -> None:
    """The options of each of the three."""
    if command == "contributor":
        parser.add_argument("name", metavar="NAME", help="as they call themselves, or on GitHub")
        return
    if command == "leaderboard":
        parser.add_argument(
            "category",
            nargs="?",
            metavar="CATEGORY",
            help="dynamic_small, or dynamic_small/quantum",
        )
        parser.add_argument(
            "--metric", choices=METRICS, default=PRIMARY, help=f"rank by (default: {PRIMARY})"
        )
        parser.add_argument(
            "--all", action="store_true", help=f"every entry, not only the first {TOP} of each"
        )
    parser.add_argument("--env", metavar="NAME", help="the environment of the category")
    parser.add_argument("--family", metavar="NAME", help="quantum or classical")
    parser.add_argument("--brain", metavar="NAME", help="the brain")
    parser.add_argument(
        "--verified", action="store_true", help="only those that somebody else has verified"
    )


def run(args: Namespace) -> int:
    """Prints what the command asks for."""
    entries, book, cache = survey(args)
    if args.command == "contributor":
        code = _contributor(args, entries)
    elif args.command == "list":
        code = _list(args, _chosen(args, entries))
    else:
        code = _leaderboard(args, entries, book.now, cache)
    cache.save()
    return code


def _chosen(args: Namespace, entries: Sequence[Summary]) -> list[Summary]:
    return [
        entry
        for entry in entries
        if args.env in (None, entry.category.environment)
        and args.family in (None, entry.category.family)
        and args.brain in (None, entry.brain)
        and not (args.verified and (entry.standing is None or entry.standing.mark != "verified"))
    ]


# ------------------------------------------------------------------------------------- leaderboard


def boards(
    entries: Sequence[Summary], protocol: Any, cache: ranking.Cache, metric: str = PRIMARY
) -> list[tuple[Category, tuple[Row, ...]]]:
    """The rows of every category: those that have entries, and those of shipped configurations."""
    found: dict[str, tuple[Category, tuple[Row, ...]]] = {
        str(category): (category, ()) for category in expected()
    }
    for category in ranking.categories(entries):
        mine = [entry for entry in entries if entry.category == category]
        rows = ranking.rank(mine, protocol=protocol, cache=cache, metric=metric)
        found[str(category)] = (category, rows)
    return [found[name] for name in sorted(found)]


# Where the shipped configurations compete; a test asks the hook whether that is so.
_EXPECTED = {
    ("static_maze", "classical"): "mlp_simple_medium",
    ("static_maze", "quantum"): "modular_simple_medium",
    ("dynamic_small", "classical"): "mlp_dynamic_small",
    ("dynamic_small", "quantum"): "modular_dynamic_small",
    ("dynamic_medium", "classical"): "mlp_dynamic_medium",
    ("dynamic_medium", "quantum"): "modular_dynamic_medium",
    ("dynamic_large", "classical"): "mlp_dynamic_large",
    ("dynamic_large", "quantum"): "modular_dynamic_large",
}


def expected() -> list[Category]:
    """The categories of the shipped configurations."""
    return [Category(environment=e, family=f) for e, f in _EXPECTED]


def filling(category: Category) -> str:
    """The command that would fill an empty category."""
    name = _EXPECTED.get((category.environment, category.family), "CONFIG.yml")
    assert name == "CONFIG.yml" or name in shipped()
    return f"qn-run {name} --save-benchmark --contributor NAME --benchmark-notes TEXT"


def _leaderboard(args: Namespace, entries: list[Summary], protocol: Any, cache: Any) -> int:
    every = boards(_chosen(args, entries), protocol, cache, args.metric)
    if args.category is not None:
        known = [str(category) for category, _ in every]
        every = [
            (category, rows)
            for category, rows in every
            if args.category in (str(category), category.environment)
        ]
        if not every:
            hint = did_you_mean(args.category, known) or f"known: {', '.join(known)}"
            raise UsageError(f"no category {args.category}", hint=hint)
    every = [
        (category, rows)
        for category, rows in every
        if args.env in (None, category.environment) and args.family in (None, category.family)
    ]
    if args.json:
        print_json([board(category, rows) for category, rows in every])
        return 0
    print(f"by {METRICS[args.metric]}, protocol version {protocol.version}")
    empty = [category for category, rows in every if not rows]
    for category, rows in every:
        if not rows:
            continue
        print(f"\n{category}")
        shown = rows if args.all else rows[:TOP]
        print(_table(shown, args.metric), end="")
        if len(shown) < len(rows):
            print(f"  and {len(rows) - len(shown)} more (--all)")
    if empty:
        print("\nno entry yet:")
        print(rows_of([(str(category), filling(category)) for category in empty]), end="")
    return 0


def board(category: Category, rows: Sequence[Row]) -> dict[str, Any]:
    """A category as plain data."""
    out: dict[str, Any] = {"category": plain(category), "rows": [plain(row) for row in rows]}
    for row in out["rows"]:
        row["entry"]["command"] = command(row["entry"])
    if not rows:
        out["command"] = filling(category)
    return out


def _table(rows: Sequence[Row], metric: str) -> str:
    columns = [
        Column("rank"),
        Column("id", least=10),
        Column("brain", least=6),
        Column("mean, 95%"),
        Column("IQM", drop=5),
        Column("path eff.", drop=4),
        Column("to 80%", drop=6),
        Column("cpu", drop=7),
        Column("runs", drop=3),
        Column("contributor", least=8, drop=1),
        Column("date", drop=8),
        Column("commit", drop=9),
        Column("marks", drop=2),
    ]
    cells = []
    for row in rows:
        entry, found = row.entry, row.entry.aggregates
        figure = getattr(found, metric)
        path = found.path_efficiency
        time_to, cpu = found.time_to_threshold, found.cpu_seconds
        is_rate = metric in ("success_rate", "sample_efficiency")
        cells.append(
            (
                ranks(row.rank_low, row.rank_high),
                entry.id,
                printable(entry.brain),
                estimate(plain(figure), rate=is_rate),
                percent(figure.iqm) if is_rate else f"{figure.iqm:.3g}",
                "" if path is None else f"{path.mean:.3f}",
                "" if time_to is None else f"{time_to:.1f} ({found.reached_threshold:.0%})",
                "" if cpu is None else duration(cpu),
                f"{found.runs} × {entry.episodes}",
                printable(entry.contribution.contributor),
                entry.created[:10],
                (entry.source.commit or "")[:8],
                ", ".join(row.marks),
            )
        )
    text = table(columns, cells, max(columns_of() - 2, 0))
    return "".join(f"  {line}\n" for line in text.splitlines())


# -------------------------------------------------------------------------------- list, contributor


def _list(args: Namespace, entries: list[Summary]) -> int:
    newest = sorted(entries, key=lambda entry: (entry.created, entry.id), reverse=True)
    if args.json:
        print_json([plain(entry) for entry in newest])
        return 0
    print(_entries(newest), end="")
    return 0


def _entries(entries: Sequence[Summary]) -> str:
    columns = [
        Column("id", least=10),
        Column("category"),
        Column("brain", drop=2),
        Column("final success", drop=1),
        Column("runs", drop=4),
        Column("contributor", least=8, drop=3),
    ]
    cells = [
        (
            entry.id,
            str(entry.category),
            printable(entry.brain),
            estimate(plain(entry.aggregates.success_rate)),
            f"{entry.aggregates.runs} × {entry.episodes}",
            printable(entry.contribution.contributor),
        )
        for entry in entries
    ]
    return table(columns, cells, columns_of())


def _contributor(args: Namespace, entries: list[Summary]) -> int:
    wanted = args.name.casefold()
    mine = [
        entry
        for entry in entries
        if wanted
        in (entry.contribution.contributor.casefold(), (entry.contribution.github or "").casefold())
    ]
    if not mine:
        names = sorted({entry.contribution.contributor for entry in entries})
        hint = did_you_mean(args.name, names) or f"known: {', '.join(names) or 'nobody'}"
        raise UsageError(f"nothing by {args.name}", hint=hint)
    mine.sort(key=lambda entry: (entry.created, entry.id))
    best: dict[str, Summary] = {}
    trend: dict[str, list[float]] = {}
    for entry in mine:
        name, mean = str(entry.category), entry.aggregates.success_rate.mean
        trend.setdefault(name, []).append(mean)
        if name not in best or mean > best[name].aggregates.success_rate.mean:
            best[name] = entry
    if args.json:
        print_json(
            {
                "contributor": mine[-1].contribution.contributor,
                "submissions": [plain(entry) for entry in mine],
                "best": {name: entry.id for name, entry in sorted(best.items())},
                "trend": trend,
            }
        )
        return 0
    n = len(mine)
    print(f"{printable(mine[-1].contribution.contributor)}: {n} submission{'s' * (n > 1)}")
    print(_entries(mine), end="")
    print("\nbest, and the trend over time")
    for name, entry in sorted(best.items()):
        line = sparkline(trend[name], 0, 1)
        print(f"  {name}  {estimate(plain(entry.aggregates.success_rate))}  {entry.id}  {line}")
    return 0
