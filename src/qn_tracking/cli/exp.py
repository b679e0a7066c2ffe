"""`qn-exp`: find, show and look after experiments. Every command is a module of its own."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

from qn_tracking.cli.command import dispatch, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence

COMMANDS = {
    "list": ("exp_list", "experiments, newest first, with filters"),
    "show": ("exp_show", "everything about one"),
    "compare": ("exp_compare", "what differs, and what may be concluded"),
    "diff": ("exp_compare", "two configurations, line by line"),
    "best": ("exp_best", "the best of each group, by a metric"),
    "export": ("exp_transfer", "a table for other programs, or a bundle for another machine"),
    "import": ("exp_transfer", "bundles and records of other machines and programs"),
    "stats": ("exp_stats", "how many there are, of what, and how much disk they take"),
    "tail": ("exp_tail", "the episodes of one, as they come"),
    "tag": ("exp_care", "add tags to one"),
    "note": ("exp_care", "add a note to one"),
    "rm": ("exp_care", "put some into the trash"),
    "restore": ("exp_care", "take some out of the trash again"),
    "rerun": ("exp_rerun", "run one again, and say whether the same comes out"),
    "recover": ("exp_care", "make a record of a run that died"),
    "fsck": ("exp_care", "check every file"),
}
"""Every command: the module in this folder that has its `arguments` and `run`, and its help."""

ABOUT = "Find, show and look after experiments."
FOOT = """
ID is an id, the beginning of one, or @1 for the latest, @2 for the one before.
qn-exp COMMAND --help explains the options of a command.

exit codes: 0 done, 1 a fault was found, 2 usage, 3 data or storage, 4 not possible here
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name; returns the exit code."""
    return dispatch("qn-exp", ABOUT, COMMANDS, FOOT, common, argv)


def common(parser: ArgumentParser) -> None:
    """The options that every command has."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--experiments-dir", metavar="DIR", help="where the experiments are (default: experiments)"
    )


def entry() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    entry()
