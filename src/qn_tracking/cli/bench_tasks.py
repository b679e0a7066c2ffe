"""`qn-bench tasks`: the tasks of the protocol, and the division of configurations."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from qn_tracking.api.leaderboard import Leaderboard
from qn_tracking.cli.output import print_json, print_table, warn
from qn_tracking.cli.parser import valued
from qn_tracking.errors import printable
from qn_tracking.render.table import Column

EXAMPLES = """examples:
  qn-bench tasks
  qn-bench tasks my.yml mlp_dynamic_small
"""


def arguments(parser: ArgumentParser, command: str) -> None:
    valued(
        parser,
        "configs",
        "CONFIG",
        "files or names of configurations (default: all that are shipped)",
        nargs="*",
    )


def run(args: Namespace) -> int:
    """Prints them; 1 if a configuration that was named has no category."""
    leaderboard = Leaderboard(args.benchmarks_dir, warn=warn)
    protocol = leaderboard.rules().now
    found = leaderboard.tasks(args.configs or None)
    failed = 1 if args.configs and any(one.error for one in found) else 0
    if args.json:
        print_json({"protocol": protocol.version, "tasks": protocol.tasks, "configs": found})
        return failed
    print(f"protocol version {protocol.version}")
    if protocol.tasks:
        columns = [Column("task"), Column("episodes"), Column("runs"), Column("digest", drop=1)]
        print_table(
            columns,
            [
                (name, str(one.episodes), f"at least {one.runs}", one.digest[:12])
                for name, one in protocol.tasks.items()
            ],
        )
        print()
    columns = [
        Column("configuration"),
        Column("category"),
        Column("division"),
        Column("differs", least=12, drop=1),
    ]
    print_table(
        columns,
        [
            (
                printable(one.config),
                one.category or "–",
                one.division or "–",
                printable(one.error or "; ".join(one.differs)),
            )
            for one in found
        ],
    )
    return failed
