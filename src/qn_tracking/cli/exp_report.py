"""`qn-exp report`: everything about some runs in one file, to send to a colleague."""

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
"""


def arguments(parser: Parser, command: str) -> None:
    """The options of `report`."""
    parser.epilog = EXAMPLES
    add_choice(parser)
    parser.add_argument(
        "--metric", metavar="NAME", help="what is drawn (default: success, else the reward)"
    )
    parser.add_argument(
        "--by",
        default="config",
        metavar="FIELD",
        help="runs with the same value of FIELD form a group (default: config)",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the file to write: .html or .md"
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")


def run(args: Namespace) -> int:
    """Writes the report."""
    report = experiments(args).report(args.ids, metric=args.metric, by=args.by, **conditions(args))
    paths = report.save(args.output, replace=args.force)
    if args.json:
        print_plain({"paths": paths, "title": report.title, "runs": len(report.docs)})
    else:
        print(f"saved {', '.join(map(printable, paths))}: {printable(report.title)}")
    return 0
