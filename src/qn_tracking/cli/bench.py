"""`qn-bench`: submissions and their leaderboard. Every command is in a module beside this one."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

from argparse import ArgumentParser

from qn_tracking.cli.command import Program, run
from qn_tracking.cli.parser import flag, valued

COMMANDS = {
    "leaderboard": ("bench_board", "rank the submissions of each category"),
    "list": ("bench_board", "list every submission"),
    "contributor": (
        "bench_board",
        "show the submissions of a contributor, and the best in each category",
    ),
    "show": ("bench_show", "show everything about one submission"),
    "compare": ("bench_compare", "compare two submissions, or quantum with classical"),
    "tasks": ("bench_tasks", "list the tasks of the protocol, and the division of configurations"),
    "submit": ("bench_submit", "make a submission of a study or of experiments"),
    "validate": ("bench_submit", "check submissions by the rules"),
    "verify": ("bench_verify", "check a submission by running it again, or with new seeds"),
    "outdated": ("bench_upkeep", "list verifications of code or rules that have changed since"),
    "sign": ("bench_upkeep", "sign a submission or a verification with an SSH key"),
    "regenerate": ("bench_upkeep", "write the leaderboard into README.md and BENCHMARKS.md"),
    "site": ("bench_site", "write the leaderboard as pages for a browser, without a server"),
}
FOOT = """
qn-bench COMMAND --help explains the options of a command.

examples:
  qn-run mlp_dynamic_small --save-benchmark --contributor Ada --benchmark-notes baseline
  qn-bench leaderboard dynamic_small
  qn-bench validate benchmarks
  qn-bench verify ID --repeat --sample 2 --trust
  qn-bench compare --quantum-vs-classical dynamic_small
  qn-bench site -o site

exit codes: 0 success, 1 a submission is not valid or not confirmed, or a page is not up to date,
2 usage, 3 data or storage, 4 refused or not possible here
"""


def common(parser: ArgumentParser) -> None:
    flag(parser, "--json", "print JSON")
    valued(
        parser,
        "--benchmarks-dir",
        "DIR",
        "the folder of the submissions (default: benchmarks)",
        default="benchmarks",
    )


PROGRAM = Program(
    "qn-bench",
    "Make, check and rank submissions, which are published sets of runs.",
    COMMANDS,
    FOOT,
    common,
)
main = PROGRAM.main


def entry() -> None:
    run(main)


if __name__ == "__main__":
    entry()
