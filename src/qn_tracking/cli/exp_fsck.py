"""`qn-exp fsck`: checks every file."""

from __future__ import annotations

from qn_tracking.cli.exp import folder, print_plain, progress, resolved, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from qn_tracking.cli.command import Parser


def arguments(parser: Parser, command: str) -> None:
    """The options of `fsck`."""
    parser.add_argument("id", nargs="*", metavar="ID", help="check these only (default: all)")


def run(args: Namespace) -> int:
    """Prints every fault; 1 if there is any."""
    from qn_tracking.records.codec import plain
    from qn_tracking.store.check import check
    from qn_tracking.store.index import consult

    experiments = folder(args)
    ids = resolved(args, args.id) if args.id else []
    report = check(experiments, ids, progress("checking experiments"))
    if not ids:
        # The index looks at every file as well: what was edited in place is true there again.
        consult(experiments, lambda index: None, fresh=True, warn=warn)
    if args.json:
        print_plain({"experiments_dir": experiments, "faults": report.faults, **plain(report)})
        return 1 if report.faults else 0
    for finding in report.findings:
        print(f"{finding.level}: {finding}")
    faults = report.faults
    print(
        f"{faults or 'no'} fault{'' if faults == 1 else 's'} in {report.records:,} records,"
        f" {report.journals:,} journals, {report.episodes:,} episodes"
    )
    return 1 if faults else 0
