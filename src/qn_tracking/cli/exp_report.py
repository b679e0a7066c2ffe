"""`qn-exp report`: everything about some runs, or a study, in one file."""

from __future__ import annotations

from qn_tracking.cli.options import add_choice, conditions, experiments
from qn_tracking.cli.output import print_plain
from qn_tracking.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from qn_tracking.cli.command import Parser

EXAMPLES = """examples:
  qn-exp report --tag sweep=gamma -o report.html     one page, without scripts
  qn-exp report @1 @2 -o report.md                   Markdown, with its pictures beside it
  qn-exp report rate -o 007.md                       the logbook of a study
  qn-exp report rate -o 007.md --check               whether it is up to date

In Markdown the report stands between the lines <!-- qn:report NAME --> and
<!-- /qn:report NAME -->. What you write around them stays; the same command writes it again.
"""


def arguments(parser: Parser, command: str) -> None:
    """The options of `report`."""
    parser.epilog = EXAMPLES
    add_choice(parser)
    parser.add_argument(
        "--metric",
        metavar="NAME",
        help="what is shown (default: success, else the reward; of a study: what was declared)",
    )
    parser.add_argument(
        "--by",
        metavar="FIELD",
        help="runs with the same value of FIELD form a group (default: config, or the arms)",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the file to write: .html or .md"
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit code 1 if the file is not up to date",
    )


def run(args: Namespace) -> int:
    """Writes the report, or checks whether it is up to date."""
    report = experiments(args).report(args.ids, metric=args.metric, by=args.by, **conditions(args))
    if args.check:
        stale = report.stale(args.output)
        if args.json:
            print_plain({"path": args.output, "ok": not stale, "stale": stale})
        else:
            for text in stale or [f"{args.output} is up to date"]:
                print(printable(text))
        return int(bool(stale))
    paths = report.save(args.output, replace=args.force)
    if args.json:
        print_plain({"paths": paths, "title": report.title, "runs": len(report.docs)})
    else:
        print(f"saved {', '.join(map(printable, paths))}: {printable(report.title)}")
    return 0
