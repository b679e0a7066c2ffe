"""`qn-bench site`: the leaderboard, and experiments, as pages for a browser."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from qn_tracking.api.leaderboard import Leaderboard
from qn_tracking.cli.options import check_named
from qn_tracking.cli.output import once, print_plain, warn
from qn_tracking.cli.parser import valued
from qn_tracking.errors import printable

EXAMPLES = """examples:
  qn-bench site -o site
  qn-bench site -o site --experiments     with the local studies and runs
"""


def arguments(parser: ArgumentParser, command: str) -> None:
    valued(parser, "--output", "DIR", "the folder of the site", required=True, short="-o")
    valued(
        parser,
        "--experiments",
        "DIR",
        "also the local studies and runs (of DIR; default: the project's experiments)",
        nargs="?",
        const="",
    )


def run(args: Namespace) -> int:
    from qn_tracking.api.experiments import Experiments
    from qn_tracking.render.progress import Display, bar
    from qn_tracking.render.text import counted

    check_named(args.experiments)
    check_named(args.benchmarks_dir, "benchmarks")
    with Display(silent=args.json, delay=0.5) as display:
        say = once(warn)
        site = Leaderboard(args.benchmarks_dir, warn=say).site(
            args.output,
            experiments=Experiments(args.experiments or None, warn=say),
            runs=args.experiments is not None,
            progress=lambda done, total: display(f"pages {bar(done, total)} {done} of {total}"),
        )
    if args.json:
        print_plain(site.plain())
        return 0
    print(
        f"{printable(site.folder)}: {counted(site.pages, 'page')}, {site.drawn} drawn,"
        f" {site.removed} removed, {site.bytes / 1e6:.1f} MB"
    )
    return 0
