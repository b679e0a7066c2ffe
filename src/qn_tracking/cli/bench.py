"""`qn-bench`: submissions and their leaderboard. Every command is in a module beside this one."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import os

from qn_tracking.cli.command import dispatch, run
from qn_tracking.cli.output import warn as warn
from qn_tracking.code import installed_digests
from qn_tracking.errors import UnsupportedError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    import pluggy

    from qn_tracking.benchmark.files import Entry
    from qn_tracking.benchmark.protocol import Rulebook
    from qn_tracking.benchmark.ranking import Cache, Summary
    from qn_tracking.records.model import Config
    from qn_tracking.records.submission import Finding

ABOUT = "Benchmarks made of tracked runs, their rules and their leaderboard."
COMMANDS = {
    "leaderboard": ("bench_board", "who leads, by category, with ranks as intervals"),
    "list": ("bench_board", "every submission"),
    "contributor": ("bench_board", "what somebody submitted, and their best in each category"),
    "show": ("bench_show", "everything about one submission"),
    "compare": ("bench_compare", "two submissions, or quantum against classical"),
    "submit": ("bench_submit", "make a submission of tracked experiments or a study"),
    "validate": ("bench_validate", "judge submissions by the rules"),
    "verify": ("bench_verify", "check a submission, run it again, or with fresh seeds"),
    "outdated": ("bench_outdated", "verifications that something has moved on from"),
    "sign": ("bench_sign", "sign a submission or a verification with an SSH key"),
    "regenerate": ("bench_regenerate", "write the leaderboard into README.md and BENCHMARKS.md"),
}
FOOT = """
qn-bench COMMAND --help tells the options of a command.

  qn-run mlp_dynamic_small --save-benchmark --contributor Ada --benchmark-notes baseline
  qn-bench leaderboard dynamic_small
  qn-bench validate benchmarks
  qn-bench verify ID --repeat --sample 2 --trust
  qn-bench compare --quantum-vs-classical dynamic_small

exit codes: 0 done, 1 a submission is not valid or not what it says, or a page is stale, 2 usage,
3 data or storage, 4 refused or not possible here
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name; returns the exit code."""
    return dispatch("qn-bench", ABOUT, COMMANDS, FOOT, common, argv)


def common(parser: ArgumentParser) -> None:
    """The options that every command has."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--benchmarks-dir",
        metavar="DIR",
        default="benchmarks",
        help="where the submissions are (default: benchmarks)",
    )


# ------------------------------------------------------------------------------ what commands share


def validators(config: Config) -> pluggy.PluginManager:
    """A manager with the judge that comes along, and the providers that a configuration needs."""
    from qn_tracking.tracking.manager import VALIDATORS, make_manager

    return make_manager(VALIDATORS, config=config)


def survey(args: Namespace, *, whole: bool = False) -> tuple[list[Summary], Rulebook, Cache]:
    """Every submission that is valid by itself, the rules, and the cache, to be saved.

    What cannot be read, or has errors, is a warning: it never hides the others. Raises
    UnsupportedError if they are wanted `whole` and one cannot be judged by what is installed here.
    """
    from qn_tracking.benchmark import ranking, validation
    from qn_tracking.benchmark.protocol import rulebook

    book = rulebook(args.benchmarks_dir)
    cache = ranking.Cache(args.benchmarks_dir)

    def check(entry: Entry) -> tuple[Finding, ...]:
        return validation.validate(
            entry.submission, (), book=book, make_manager=validators, place=entry.path
        )

    found, problems = ranking.survey(args.benchmarks_dir, book, check, cache, installed_digests())
    for problem in problems:
        warn(str(problem))
    for entry in found:
        place = os.path.join(args.benchmarks_dir, entry.path)
        if whole and not entry.checkable:
            hint = "pages that are made here would lose it"
            raise UnsupportedError(entry.errors[0], file=place, hint=hint)
        if entry.errors:
            more = f", and {len(entry.errors) - 1} more" if len(entry.errors) > 1 else ""
            what = "is not valid" if entry.checkable else "cannot be judged here"
            warn(f"{place}: {what}, left out: {entry.errors[0]}{more}")
    return [entry for entry in found if not entry.errors], book, cache


def pick(entries: Sequence[Summary], text: str) -> Summary:
    """The submission of this id, or of the only one that begins so. Raises UsageError."""
    found = [entry for entry in entries if entry.id == text]
    found = found or [entry for entry in entries if entry.id.startswith(text)]
    if len(found) != 1:
        names = ", ".join(entry.id for entry in (found or entries)[:5]) or "there are none"
        cause = "is ambiguous" if found else "no such submission"
        raise UsageError(f"{text}: {cause}", hint=names)
    return found[0]


def entry() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    entry()
