"""`qn-bench`: curated benchmarks and their leaderboard. It has no commands yet."""

from __future__ import annotations

from collections.abc import Sequence

from qn_tracking.cli.command import Parser, Version, run
from qn_tracking.errors import UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Answers `--help` and `--version`; everything else is a usage error."""
    p = Parser(
        prog="qn-bench",
        description="Benchmarks and their leaderboard. This version has no commands yet: "
        "it tracks experiments (qn-run, qn-exp) but does not rank them.",
    )
    p.add_argument("--version", nargs=0, action=Version, help="print the version")
    p.parse_args(argv)
    raise UsageError("no commands yet", hint="see qn-bench --help")


def entry() -> None:
    """The console script."""
    run(main)
