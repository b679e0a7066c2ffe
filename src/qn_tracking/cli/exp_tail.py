"""`qn-exp tail`: the episodes of an experiment, as they come."""

from __future__ import annotations

import sys
from argparse import Namespace

from qn_tracking.cli.options import RUN_ID, experiments, one_id, up_to
from qn_tracking.cli.output import print_wrapped, unicode_out
from qn_tracking.cli.parser import Parser, flag, valued
from qn_tracking.errors import printable
from qn_tracking.records.model import Episode

LAST = 10


EXAMPLES = """examples:
  qn-exp tail @1                          the latest run, until it ends
  qn-exp tail 20260131T12 -n 100 --json | jq .reward
"""


def arguments(parser: Parser, command: str) -> None:
    one_id(parser, RUN_ID)
    valued(
        parser,
        "--last",
        "N",
        f"begin with the last N episodes, 0 for all of them (default: {LAST})",
        type=up_to(10**9),
        default=LAST,
        short="-n",
    )
    flag(parser, "--no-follow", "print the episodes so far, and do not wait for more")


def run(args: Namespace) -> int:
    """Prints episodes until the run is over."""
    from qn_tracking.render.text import counted

    store = experiments(args)
    id = store.id(args.id)
    count = None
    for episode in store.tail(id, last=args.last, follow=not args.no_follow):
        if episode is None:
            sys.stdout.flush()
            continue
        count = episode.index + 1
        _print(episode, args.json)
    if not args.json:
        mark = "—" if unicode_out() else "-"
        print_wrapped(f"{mark} {printable(store.status(id))}, {counted(count or 0, 'episode')}")
    return 0


def _print(episode: Episode, as_json: bool) -> None:
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
    print_wrapped("  ".join(part for part in parts if part).rstrip())
