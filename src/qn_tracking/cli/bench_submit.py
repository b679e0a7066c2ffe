"""`qn-bench submit` and `validate`: making submissions, and checking them by the rules."""

from __future__ import annotations

from functools import partial

from qn_tracking.api.leaderboard import Leaderboard
from qn_tracking.cli.options import add_tuned_by, experiments, tuning
from qn_tracking.cli.output import (
    confirm_submission,
    print_findings,
    print_json,
    print_submitted,
    warn,
)
from qn_tracking.cli.parser import flag, valued
from qn_tracking.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from qn_tracking.api.experiments import Experiments


EXAMPLES = {
    "submit": """examples:
  qn-bench submit lr --contributor "Ada L" --benchmark-notes baseline
""",
    "validate": """examples:
  qn-bench validate                       every submission; exits with 1 if one is not valid
  qn-bench validate benchmarks/dynamic_small
""",
}


def arguments(parser: ArgumentParser, command: str) -> None:
    if command == "validate":
        valued(parser, "paths", "PATH", "files or folders (default: every submission)", nargs="*")
        return
    valued(parser, "ids", "ID", "a study, or experiments of one configuration", nargs="+")
    valued(parser, "--contributor", "NAME", "who submits")
    valued(parser, "--github", "ACCOUNT", "the GitHub account of the contributor")
    valued(parser, "--benchmark-notes", "TEXT", "a description of the submission")
    add_tuned_by(parser)
    valued(
        parser,
        "--experiments-dir",
        "DIR",
        "the folder of the records (default: that of the project, or experiments)",
    )
    flag(
        parser,
        "--dry-run",
        "print what is missing for a submission, also of runs that have just begun",
    )
    flag(parser, "--yes", "save the submission despite warnings, without asking")


def run(args: Namespace) -> int:
    return _validate(args) if args.command == "validate" else _submit(args)


def _submit(args: Namespace) -> int:
    """Makes, checks and saves a submission; 1 if it is not valid, and nothing is written."""
    from qn_tracking.errors import UsageError
    from qn_tracking.records.submission import Contribution

    if args.dry_run:
        return _missing(args)
    if args.contributor is None:
        raise UsageError("submit needs --contributor NAME")
    made = Leaderboard(args.benchmarks_dir, warn=warn).submit(
        args.ids,
        Contribution(
            contributor=args.contributor,
            github=args.github,
            notes=args.benchmark_notes,
            tuning=tuning(args),
        ),
        experiments=experiments(args).folder,
        confirm=partial(confirm_submission, ask=not args.yes, silent=args.json),
    )
    return print_submitted(made, as_json=args.json)


def _missing(args: Namespace) -> int:
    """Prints what is missing; 1 if anything is."""
    board = Leaderboard(args.benchmarks_dir, warn=warn)
    store = experiments(args)
    found = board.missing([_id(store, id) for id in args.ids], experiments=store.folder)
    if args.json:
        print_json({"missing": list(found)})
    else:
        for text in found:
            print(printable(text))
        print("nothing was saved" if found else "nothing is missing; nothing was saved")
    return int(bool(found))


def _id(store: Experiments, text: str) -> str:
    """An id as it is given to `submit`, or the whole one of its beginning, or of @1."""
    return text if store.study(text) is not None else store.id(text)


def _validate(args: Namespace) -> int:
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
        noun = "submission" if len(reports) == 1 else "submissions"
        print(f"{len(reports)} {noun}: {good} valid, {bad} not; {warned} with warnings{more}")
    return 1 if bad else 4 if strange else 0
