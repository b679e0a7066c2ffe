"""`qn-exp ui`: experiments and the leaderboard in a browser, on this machine."""

from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace

from qn_tracking.cli import signals
from qn_tracking.cli.options import check_named, up_to
from qn_tracking.cli.output import once, print_plain, warn
from qn_tracking.cli.parser import Parser, flag, valued

PORT = 8642
START = "experiments.html"
SUBMISSIONS = "benchmarks"
EXAMPLES = f"""\
The pages are those of qn-bench site. Each is made when it is opened, and brought up to
date when it is loaded again. Nothing can be changed through them. Only this machine can reach
them, and only with the secret in the address, which is a new one each time. Ctrl-C ends it.

examples:
  qn-exp ui                                     opens the browser
  qn-exp ui --no-browser --port 0               prints the address only, with any free port
  qn-exp ui -o pages                            keeps the pages that were opened
  ssh -L {PORT}:127.0.0.1:{PORT} HOST               before the address is opened on another machine
"""


def arguments(parser: Parser, command: str) -> None:
    about = f"the port of 127.0.0.1, 0 for any that is free (default: {PORT})"
    valued(parser, "--port", "N", about, type=up_to(65535), default=PORT)
    flag(parser, "--no-browser", "print the address and open no browser")
    about = "the folder of the submissions (default: benchmarks)"
    valued(parser, "--benchmarks-dir", "DIR", about, default=SUBMISSIONS)
    valued(
        parser, "--output", "DIR", "keep the pages here (default: a temporary folder)", short="-o"
    )


def run(args: Namespace) -> int:
    """Serves until a signal comes."""
    from contextlib import ExitStack

    from qn_tracking.api.experiments import Experiments
    from qn_tracking.api.leaderboard import Leaderboard
    from qn_tracking.api.serving import SiteServer
    from qn_tracking.reproduce.scratch import private_folder
    from qn_tracking.store.index import NO_FOLDER

    check_named(args.experiments_dir, hint=NO_FOLDER)
    check_named(args.benchmarks_dir, SUBMISSIONS)
    serving = False
    say = once(warn)
    with signals.handled_by(signals.interrupt) as received, ExitStack() as stack:
        try:
            folder = args.output or os.path.join(stack.enter_context(private_folder()), "site")

            def build(name: str) -> None:
                # A new one each time: what is here may have changed.
                store = Experiments(args.experiments_dir, warn=say)
                Leaderboard(args.benchmarks_dir, warn=say).site(
                    folder, experiments=store, only=name
                )

            server = SiteServer(folder, port=args.port, refresh=build, warn=warn, start=START)
            stack.callback(server.server_close)
            build(START)
            if args.json:
                print_plain({"url": server.url})
            else:
                print(f"{server.url}\nCtrl-C ends it")
            sys.stdout.flush()
            if not args.no_browser:
                _open(server.url_for_once())
            serving = True
            server.serve_forever()
        except KeyboardInterrupt:
            return 0 if serving else 128 + (received[0] if received else signal.SIGINT)
    return 0


def _open(url: str) -> None:
    """Opens a browser, if there is a screen: one for terminals would take this one."""
    if sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        import webbrowser

        webbrowser.open(url)
