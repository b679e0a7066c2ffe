"""`qn-exp replay`: an episode of a run, run again and shown."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from qn_tracking.cli import signals
from qn_tracking.cli.options import RUN_ID, one_id, up_to
from qn_tracking.cli.output import (
    difference_text,
    once,
    print_plain,
    print_wrapped,
    unicode_out,
    warn,
)
from qn_tracking.cli.parser import Parser, flag, valued
from qn_tracking.errors import printable

if TYPE_CHECKING:
    from argparse import Namespace

    from qn_tracking.api.replay import Replay

EXAMPLES = """What learns does so from episode to episode, so the episodes before are run again,
too. All of them are compared with the record, as by qn-exp rerun. The installed code runs, and
nothing is stored.

examples:
  qn-exp replay @1                              the last episode of the latest run
  qn-exp replay @1 --episode 0 --speed 30       the first one, at 30 steps a second
  qn-exp replay ID --episode 49 -o episode.svg  an animation for a page, without scripts
  qn-exp replay ID -o episode.gif               needs: pip install 'qn-tracking[gif]'
  qn-exp replay ID | cat                        the last frame as text

exit codes: 0 identical or same outcome, 1 different, 4 not possible here
"""
PIPED = 80, 60
"""Columns and lines where standard output is no terminal."""


def arguments(parser: Parser, command: str) -> None:
    one_id(parser, RUN_ID)
    valued(parser, "--episode", "N", "which one, from 0 (default: the last)", type=up_to(2**53))
    valued(
        parser,
        "--speed",
        "N",
        "steps a second, from 0.1 to 1000 (default: 10)",
        type=_speed,
        default=10.0,
    )
    valued(parser, "--output", "FILE", "write an animation: .svg or .gif", short="-o")
    flag(parser, "--force", "overwrite FILE if it exists")


def _speed(text: str) -> float:
    from argparse import ArgumentTypeError

    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 1000:
        raise ArgumentTypeError(f"expected a number from 0.1 to 1000, got {text!r}")
    return value


def run(args: Namespace) -> int:
    from qn_tracking.api.experiments import Experiments
    from qn_tracking.render.progress import counter
    from qn_tracking.tracking.runner import pin_numeric_threads

    # Before anything imports a numeric library.
    pin_numeric_threads()
    with signals.handled_by(signals.interrupt) as received:
        try:
            if args.output is not None:
                from qn_tracking.api.replay import check_format

                check_format(args.output)
            store = Experiments(
                args.experiments_dir, warn=once(warn), progress=lambda what: counter(what, least=1)
            )
            found = store.replay(args.id, args.episode)
            path = None
            if args.output is not None:
                path = found.save(args.output, speed=args.speed, replace=args.force)
            if args.json:
                print_plain(_plain(found, path))
            else:
                _show(found, path, args.speed)
        except KeyboardInterrupt:
            return 128 + (received[0] if received else signal.SIGINT)
    return int(found.outcome == "different")


def _plain(found: Replay, path: str | None) -> dict[str, object]:
    from qn_tracking.records.codec import plain

    return {
        "id": found.id,
        "episode": plain(found.episode),
        "outcome": found.outcome,
        "first_difference": plain(found.first_difference),
        "path": path,
        "frames": list(found.frames),
    }


def _show(found: Replay, path: str | None, speed: float) -> None:
    from qn_tracking.render.progress import is_terminal

    if path is not None:
        print(f"saved {printable(path)}: {printable(found.caption)}")
    else:
        if is_terminal(sys.stdout):
            _animate(found, speed)
        else:
            sys.stdout.write(_text(found, -1, PIPED))
        print_wrapped(printable(found.caption))
    if found.outcome == "not compared":
        print_wrapped("not compared: the episodes of the record are not here")
        return
    which = f"episodes 0 to {found.episode.index}" if found.episode.index else "episode 0"
    print_wrapped(f"{found.outcome}: {which} and the record")
    if found.first_difference is not None:
        print_wrapped(f"first at {difference_text(found.first_difference)}")


def _text(found: Replay, number: int, space: tuple[int, int]) -> str:
    from qn_tracking.render.table import coloured

    columns, lines = space
    return found.text(
        number, columns=columns, lines=lines, unicode=unicode_out(), colour=coloured()
    )


def _animate(found: Replay, speed: float) -> None:
    """Draws frame over frame; the cursor is hidden meanwhile."""
    from shutil import get_terminal_size
    from time import sleep

    out = sys.stdout
    up = ""
    try:
        out.write("\x1b[?25l")
        for number in range(len(found.frames)):
            columns, lines = get_terminal_size()
            # Two lines are for what is printed afterwards: nothing scrolls.
            text = _text(found, number, (columns, max(lines - 2, 4)))
            out.write(up + text.replace("\n", "\x1b[K\n"))
            out.flush()
            up = f"\x1b[{text.count(chr(10))}F"
            sleep(1 / speed if number < len(found.frames) - 1 else 0)
    finally:
        out.write("\x1b[?25h")
        out.flush()
