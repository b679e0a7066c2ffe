"""`qn-bench validate`: checks submissions by the rules, for contributors and for CI."""

from __future__ import annotations

from qn_tracking.api.leaderboard import Leaderboard
from qn_tracking.cli.output import print_findings, print_json, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser, command: str) -> None:
    """The options of `validate`."""
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="files or folders (default: every submission)"
    )


def run(args: Namespace) -> int:
    """Checks each against all others; 1 if one has an error or cannot be read, 4 if all that is
    wrong is that one needs what is not installed here.
    """
    reports = Leaderboard(args.benchmarks_dir, warn=warn).validate(args.paths or None)
    strange = sum(not report.checkable for report in reports)
    bad = sum(not report.valid for report in reports) - strange
    if args.json:
        print_json(
            [{"path": r.path, "valid": r.valid, "findings": list(r.findings)} for r in reports]
        )
    else:
        for report in reports:
            print_findings(report.path, report.findings)
        warned = sum(bool(report.findings) for report in reports) - bad - strange
        good = len(reports) - bad - strange
        more = f"; {strange} cannot be checked here" if strange else ""
        print(f"{len(reports)} submissions: {good} valid, {bad} not; {warned} with warnings{more}")
    return 1 if bad else 4 if strange else 0
