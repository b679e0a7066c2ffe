"""`qn-bench`: submissions and their leaderboard. Every command is in a module beside this one."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

from qn_tracking.cli.command import dispatch, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence

ABOUT = "Submissions made of tracked runs, their rules and their leaderboard."
COMMANDS = {
    "leaderboard": ("bench_board", "the ranking of each category, with ranks as intervals"),
    "list": ("bench_board", "every submission"),
    "contributor": ("bench_board", "what a person submitted, and their best in each category"),
    "show": ("bench_show", "everything about one submission"),
    "compare": ("bench_compare", "two submissions, or quantum against classical"),
    "submit": ("bench_submit", "make a submission of tracked experiments or a study"),
    "validate": ("bench_validate", "check submissions by the rules"),
    "verify": ("bench_verify", "check a submission, run it again, or with fresh seeds"),
    "outdated": ("bench_upkeep", "verifications that something has changed since"),
    "sign": ("bench_upkeep", "sign a submission or a verification with an SSH key"),
    "regenerate": ("bench_upkeep", "write the leaderboard into README.md and BENCHMARKS.md"),
}
FOOT = """
qn-bench COMMAND --help explains the options of a command.

  qn-run mlp_dynamic_small --save-benchmark --contributor Ada --benchmark-notes baseline
  qn-bench leaderboard dynamic_small
  qn-bench validate benchmarks
  qn-bench verify ID --repeat --sample 2 --trust
  qn-bench compare --quantum-vs-classical dynamic_small

exit codes: 0 done, 1 a submission is not valid or does not agree, or a page is stale, 2 usage,
3 data or storage, 4 refused or not possible here
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name; returns the exit code."""
    return dispatch("qn-bench", ABOUT, COMMANDS, FOOT, common, argv)


def common(parser: ArgumentParser) -> None:
    """Adds the options that every command has."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--benchmarks-dir",
        metavar="DIR",
        default="benchmarks",
        help="where the submissions are (default: benchmarks)",
    )


def entry() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    entry()
