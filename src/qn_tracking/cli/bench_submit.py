"""`qn-bench submit`: a submission of tracked experiments or of a study."""

from __future__ import annotations

from functools import partial

from qn_tracking.api.leaderboard import Leaderboard
from qn_tracking.cli.options import experiments
from qn_tracking.cli.output import confirm_submission, print_submitted, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser, command: str) -> None:
    """The options of `submit`."""
    parser.add_argument(
        "ids", nargs="+", metavar="ID", help="a study, or experiments of one configuration"
    )
    parser.add_argument("--contributor", required=True, metavar="NAME", help="who submits")
    parser.add_argument("--github", metavar="ACCOUNT", help="the GitHub account of the contributor")
    parser.add_argument("--benchmark-notes", metavar="TEXT", help="a description of the submission")
    parser.add_argument(
        "--experiments-dir",
        metavar="DIR",
        help="the folder of the records (default: that of the project, or experiments)",
    )
    parser.add_argument(
        "--yes", action="store_true", help="save the submission despite warnings, without asking"
    )


def run(args: Namespace) -> int:
    """Makes, checks and saves a submission; 1 if it is not valid, and nothing is written."""
    from qn_tracking.records.submission import Contribution

    made = Leaderboard(args.benchmarks_dir, warn=warn).submit(
        args.ids,
        Contribution(contributor=args.contributor, github=args.github, notes=args.benchmark_notes),
        experiments=experiments(args).folder,
        confirm=partial(confirm_submission, ask=not args.yes, silent=args.json),
    )
    return print_submitted(made, as_json=args.json)
