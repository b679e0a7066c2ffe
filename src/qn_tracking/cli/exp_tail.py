"""`qn-exp tail`: the episodes of an experiment, as they come."""

from __future__ import annotations

import sys
import time
from os.path import exists, join

from qn_tracking.cli.exp import folder, resolved, unicode_out, warn
from qn_tracking.errors import UnsupportedError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from qn_tracking.cli.command import Parser
    from qn_tracking.records.model import Episode

LAST = 10
PAUSE = 0.2


def arguments(parser: Parser, command: str) -> None:
    """The options of `tail`."""
    parser.add_argument(
        "id", metavar="ID", help="an id, the beginning of one, or @1 for the latest"
    )
    parser.add_argument(
        "-n",
        "--last",
        type=_count,
        default=LAST,
        metavar="N",
        help=f"begin with the last N episodes, 0 for all of them (default: {LAST})",
    )
    parser.add_argument(
        "--no-follow", action="store_true", help="print what is there and do not wait for more"
    )


def run(args: Namespace) -> int:
    """Prints episodes until the run is over."""
    from collections import deque

    from qn_tracking.store import paths
    from qn_tracking.store.read import Lines
    from qn_tracking.store.unfinished import RUNNING, status_now

    (id,) = resolved(args, [args.id])
    experiments = folder(args)
    place = paths.run_folder(experiments, id)
    journal = join(place, "episodes.jsonl")
    status = _status(experiments, id)
    if status != RUNNING and not exists(journal):
        raise UnsupportedError(
            "the episodes are not here", file=journal, hint="run folders are not in git"
        )
    offset = count = torn = 0
    kept: deque[Episode] = deque(maxlen=args.last or None)
    begun = False
    while True:
        over = args.no_follow or status_now(experiments, id) != RUNNING
        if exists(journal):
            lines = Lines(journal, offset, count)
            for episode in lines:
                if begun:
                    _show(episode, args.json)
                else:
                    kept.append(episode)
            offset, count, torn = lines.committed, lines.count, lines.torn
            if not begun:
                begun = True
                for episode in kept:
                    _show(episode, args.json)
                kept.clear()
        sys.stdout.flush()
        # Asked before the reading: what was written until the end of the run has been read.
        if over:
            break
        time.sleep(PAUSE)
    if torn and status_now(experiments, id) != RUNNING:
        warn(f"{journal}: a torn last line of {torn} bytes is left out")
    if not args.json:
        mark = "—" if unicode_out() else "-"
        print(f"{mark} {_status(experiments, id)}, {count} episode{'' if count == 1 else 's'}")
    return 0


def _status(experiments: str, id: str) -> str:
    from os.path import lexists

    from qn_tracking.store import paths, read
    from qn_tracking.store.unfinished import status_now

    for _ in range(2):  # a run may end between the two questions
        path = paths.record(experiments, id)
        if lexists(path):
            return printable(read.document(path).get("status"))
        status = status_now(experiments, id)
        if status is not None:
            return status
    return "gone"


def _show(episode: Episode, as_json: bool) -> None:
    if as_json:
        timing = ", ".join(f'"{key}": {value}' for key, value in episode.timing.items())
        body = episode.exact.decode()
        sys.stdout.write(f'{body[:-1]},"timing":{{{timing}}}}}\n')
        return
    success = {True: "success", False: "no", None: ""}[episode.success]
    parts = [f"{episode.index:>6}", f"{success:<7}", printable(episode.termination or "")]
    if episode.steps is not None:
        parts.append(f"steps {episode.steps}")
    if episode.reward is not None:
        parts.append(f"reward {episode.reward:.4g}")
    parts += [f"{printable(key)} {value}" for key, value in episode.counts.items()]
    parts += [f"{printable(key)} {value:.4g}" for key, value in episode.metrics.items()]
    sys.stdout.write("  ".join(part for part in parts if part).rstrip() + "\n")


def _count(text: str) -> int:
    from argparse import ArgumentTypeError

    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)
