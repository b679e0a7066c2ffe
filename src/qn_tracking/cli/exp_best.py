"""`qn-exp best`: groups of runs ranked by their means, or the single best runs."""

from __future__ import annotations

from qn_tracking.cli.options import add_choice, conditions, experiments, names, up_to
from qn_tracking.cli.output import (
    cells_of,
    columns_for,
    print_plain,
    print_table,
    print_wrapped,
)
from qn_tracking.cli.parser import Parser, flag, valued
from qn_tracking.errors import UsageError, printable
from qn_tracking.studies.comparison import interval_text, metric_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping
    from typing import Any

    from qn_tracking.api.ranking import Part, Ranking
    from qn_tracking.api.reports import Best

EXAMPLES = """examples:
  qn-exp best                                      configurations, in each category
  qn-exp best --by brain --within environment --metric reward
  qn-exp best --within all --tag sweep=gamma       all configurations of a sweep together
  qn-exp best --single --metric success_rate       the luckiest run of each category

RANK is from the best to the worst rank that a group may have: a group is before another one if it
is better by the test of qn-exp compare, all pairs of a part being one family.
"""


def arguments(parser: Parser, command: str) -> None:
    add_choice(parser)
    valued(
        parser,
        "--metric",
        "NAME",
        "such as final_success_rate (default), reward, steps or a metric of your own",
        default="final_success_rate",
    )
    valued(parser, "--by", "FIELD", "what is ranked: runs that share FIELD (default: config)")
    valued(
        parser,
        "--within",
        "FIELD",
        "rank within each value of FIELD (default: category); all: everything together",
        default="category",
    )
    flag(parser, "--single", "the best single run within each, and no ranking")
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--lowest",
        action="store_const",
        const=True,
        help="the smallest value is the best (default for what is known to be so, such as a loss)",
    )
    way.add_argument(
        "--highest",
        dest="lowest",
        action="store_const",
        const=False,
        help="the largest value is the best",
    )
    valued(
        parser,
        "--min-episodes",
        "N",
        "ignore runs with fewer episodes",
        type=up_to(10**15),
        default=1,
    )
    valued(
        parser,
        "--columns",
        "NAME,…",
        "with --single: show these columns too, as in qn-exp list",
        type=names,
    )


def run(args: Namespace) -> int:
    if args.single:
        return _single(args)
    if args.columns:
        raise UsageError("--columns needs --single")
    found = experiments(args).rank(
        args.metric,
        args.ids,
        by=args.by or "config",
        within=args.within,
        lowest=args.lowest,
        min_episodes=args.min_episodes,
        **conditions(args),
    )
    if args.json:
        print_plain(_plain(found))
        return 0
    way = "lowest" if found.lower_is_better else "highest"
    less = f"; {found.without_metric} without it" if found.without_metric else ""
    again = f"; {len(found.repeats)} repeat another run" if found.repeats else ""
    print_wrapped(
        f"{printable(found.by)} by mean {printable(found.metric)}, {way} first,"
        f" within {printable(found.within)}{less}{again}"
    )
    _print_not_finite(found.not_finite)
    if not len(found):
        print("no matching experiments")
    for part in found:
        _print_part(found, part)
    return 0


def _print_part(found: Ranking, part: Part) -> None:
    from qn_tracking.render.table import Column

    metric = found.metric.rpartition(".")[2]
    print_wrapped(f"\n{printable(part.name)}")
    columns = [
        Column("RANK", right=True),
        Column(found.by.rpartition(".")[2].upper(), least=12),
        Column("RUNS", right=True),
        Column("MEAN", right=True),
        Column("IQM", right=True, drop=2),
        Column("BEST RUN", drop=3),
    ]
    rows = []
    for row in part.rows:
        if row.mean is None or row.iqm is None:
            continue
        low, high = part.ranks[row.name]
        pick = min if found.lower_is_better else max
        best = part.ids[row.name][(values := list(row.values.values())).index(pick(values))]
        mean = metric_text(row.mean.centre, metric)
        rows.append(
            [
                f"{low}" if low == high else f"{low}-{high}",
                printable(row.name),
                str(row.finished),
                mean + interval_text(row.mean.low, row.mean.high, metric),
                metric_text(row.iqm.centre, metric),
                f"{metric_text(pick(values), metric)} {best}",
            ]
        )
    print_table(columns, rows)
    for text in (*(f"note: {note}" for note in part.comparison.notes), part.verdict):
        print_wrapped(printable(text))


def _plain(found: Ranking) -> dict[str, Any]:
    from qn_tracking.records.codec import plain

    return {
        "metric": found.metric,
        "by": found.by,
        "within": found.within,
        "lower_is_better": found.lower_is_better,
        "without_metric": found.without_metric,
        "not_finite": dict(found.not_finite),
        "repeats": list(found.repeats),
        "parts": [
            {
                "name": part.name,
                "groups": [
                    {
                        "name": row.name,
                        "rank": list(part.ranks[row.name]),
                        "runs": list(part.ids[row.name]),
                        "values": list(row.values.values()),
                        "mean": plain(row.mean),
                        "iqm": plain(row.iqm),
                    }
                    for row in part.rows
                ],
                "notes": list(part.comparison.notes),
                "verdict": part.verdict,
            }
            for part in found
        ],
    }


# -------------------------------------------------------------------------------------- single runs


def _single(args: Namespace) -> int:
    if args.by is not None:
        raise UsageError("--by and --single together", hint=f"--single --within {args.by}")
    if args.ids:
        raise UsageError("--single takes filters, not ids")
    found = experiments(args).best(
        args.metric,
        by=args.within,
        lowest=bool(args.lowest),
        min_episodes=args.min_episodes,
        columns=args.columns or (),
        **conditions(args),
    )
    if args.json:
        extra = [
            {"columns": {name: row[name] for name, _ in found.columns}} if found.columns else {}
            for row in found.cells
        ]
        print_plain(
            {
                "metric": found.metric,
                "within": args.within,
                "lowest": found.lowest,
                "min_episodes": args.min_episodes,
                "filters": found.filters.stated(),
                "without_metric": found.without_metric,
                "not_finite": found.not_finite,
                "best": [{**row, **more} for row, more in zip(found, extra, strict=True)],
            }
        )
        return 0
    _print(args, found)
    return 0


def _print_not_finite(found: Mapping[str, str]) -> None:
    if found:
        few = [f"{id} ({value})" for id, value in list(found.items())[:5]]
        more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
        print_wrapped(f"left out, as not finite: {', '.join(few)}{more}")


def _print(args: Namespace, found: Best) -> None:
    from qn_tracking.render.table import Column
    from qn_tracking.store.fields import label_key

    way = "lowest" if args.lowest else "highest"
    less = f"; {found.without_metric} without it" if found.without_metric else ""
    print_wrapped(f"{way} {printable(found.metric)} of each {printable(args.within)}{less}")
    _print_not_finite(found.not_finite)
    if not len(found):
        print("no matching experiments")
        return
    columns = [
        Column(args.within.upper(), least=8),
        Column("VALUE", right=True),
        Column("ID"),
        Column("EPISODES", right=True, drop=2),
        Column("BEST OF", right=True, drop=3),
        Column("BRAIN", drop=4),
        Column("CONFIG", drop=6, least=6),
        Column("ORIGIN", drop=5),
    ]
    metric = found.metric.rpartition(".")[2]
    rows = [
        [
            printable(found.name(one)),
            metric_text(one["value"], metric),
            one["id"],
            str(one["episodes"]),
            str(one["of"]),
            printable(one["brain"] or ""),
            printable(label_key(one["config"] or "")),
            printable(f"imported, {one['origin']}" if one["origin"] else ""),
        ]
        for one in found
    ]
    if found.columns:
        columns = [*columns[:5], *columns_for(found.columns, keep=True)]
        rows = [
            [*row[:5], *cells_of(found.columns, cells)]
            for row, cells in zip(rows, found.cells, strict=True)
        ]
    print_table(columns, rows)
    print_wrapped(
        "the best of many is in part the luckiest: without --single, groups are ranked by means"
    )
