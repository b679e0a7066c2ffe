"""`qn-exp best`: of each group of experiments the one with the best value of a metric."""

from __future__ import annotations

from qn_tracking.cli.options import add_filters, conditions, experiments, names, up_to
from qn_tracking.cli.output import cells_of, columns_for, metric_text, print_plain, print_table
from qn_tracking.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from qn_tracking.api.reports import Best
    from qn_tracking.cli.command import Parser


def arguments(parser: Parser, command: str) -> None:
    """The options of `best`."""
    parser.add_argument(
        "--metric",
        required=True,
        metavar="NAME",
        help="such as success_rate, reward, steps or a metric of your own",
    )
    parser.add_argument(
        "--by",
        default="category",
        metavar="FIELD",
        help="the field that forms the groups (default: category)",
    )
    parser.add_argument("--lowest", action="store_true", help="the smallest value is the best")
    parser.add_argument(
        "--min-episodes",
        type=up_to(10**15),
        default=1,
        metavar="N",
        help="ignore runs with fewer episodes",
    )
    parser.add_argument(
        "--columns", type=names, metavar="NAME,…", help="show these columns too, as in qn-exp list"
    )
    add_filters(parser.add_argument_group("filters, as in qn-exp list"))


def run(args: Namespace) -> int:
    """Prints the best of each group."""
    found = experiments(args).best(
        args.metric,
        by=args.by,
        lowest=args.lowest,
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
                "by": args.by,
                "lowest": args.lowest,
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


def _print(args: Namespace, found: Best) -> None:
    from qn_tracking.render.table import Column
    from qn_tracking.store.fields import label_key

    way = "lowest" if args.lowest else "highest"
    less = f"; {found.without_metric} without it" if found.without_metric else ""
    print(f"{way} {printable(found.metric)} of each {printable(args.by)}{less}")
    if found.not_finite:
        few = [f"{id} ({value})" for id, value in list(found.not_finite.items())[:5]]
        more = f" and {len(found.not_finite) - 5:,} more" if len(found.not_finite) > 5 else ""
        print(f"left out, as not finite: {', '.join(few)}{more}")
    if not len(found):
        print("no matching experiments")
        return
    columns = [
        Column(args.by.upper(), least=8),
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
    print("the best of many is in part the luckiest: qn-exp compare says what may be concluded")
