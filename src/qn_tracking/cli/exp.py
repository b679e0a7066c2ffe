"""`qn-exp`: find, show and look after experiments. Every command is a module of its own."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

from argparse import ArgumentParser

from qn_tracking.cli.command import Program, run
from qn_tracking.cli.parser import flag, valued

COMMANDS = {
    "list": ("exp_list", "list experiments, newest first"),
    "show": ("exp_show", "show everything about one experiment, or the arms of a study"),
    "compare": ("exp_compare", "show what differs, and what may be concluded"),
    "plot": ("exp_plot", "draw learning curves and other pictures of runs"),
    "report": ("exp_report", "write everything about some runs into one file"),
    "ui": ("exp_ui", "show experiments and the leaderboard in a browser, on this machine"),
    "diff": ("exp_compare", "compare two configurations, or the code of two runs, line by line"),
    "best": ("exp_best", "rank groups of runs by the mean of a metric"),
    "gather": ("exp_gather", "gather runs that were done before into a study"),
    "check": ("exp_check", "check whether the arms of a study are where they are expected"),
    "export": ("exp_transfer", "write a table for other programs, or a bundle for another machine"),
    "import": ("exp_transfer", "read bundles and records of other machines and programs"),
    "stats": ("exp_care", "count experiments and show how much disk space they use"),
    "tail": ("exp_tail", "print the episodes of a run as they end"),
    "tag": ("exp_care", "add tags to an experiment"),
    "note": ("exp_care", "add a note to an experiment"),
    "attach": ("exp_artifact", "add a file or a folder, such as weights, to a run"),
    "artifact": ("exp_artifact", "list the files and folders of a run, or fetch one"),
    "rm": ("exp_care", "move experiments to the trash"),
    "restore": ("exp_care", "take experiments out of the trash"),
    "gc": ("exp_care", "clear the trash, and artifacts that nothing refers to"),
    "rerun": ("exp_rerun", "run an experiment again and compare the results"),
    "replay": ("exp_replay", "run an episode again, and show it"),
    "recover": ("exp_care", "make a record of a run that died"),
    "fsck": ("exp_care", "check every file of the experiments"),
}
"""Every command: the module in this folder that has its `arguments` and `run`, and its help."""

FOOT = """
ID is an id, its beginning, or @1 for the latest, @2 for the one before.
qn-exp COMMAND --help explains the options of a command.

exit codes: 0 success, 1 a fault was found, 2 usage, 3 data or storage, 4 not possible here
"""


def common(parser: ArgumentParser) -> None:
    flag(parser, "--json", "print JSON")
    valued(parser, "--experiments-dir", "DIR", "the folder of the records (default: experiments)")


PROGRAM = Program("qn-exp", "Find, compare and maintain experiments.", COMMANDS, FOOT, common)
main = PROGRAM.main


def entry() -> None:
    run(main)


if __name__ == "__main__":
    entry()
