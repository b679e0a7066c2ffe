"""The signals that end a program, passed to the one thing that is running."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handled_by(handle: Callable[[list[int]], None]) -> Iterator[list[int]]:
    """Calls `handle` with all signals received so far, at each SIGINT, SIGTERM or SIGHUP.

    A signal that is ignored, for instance by nohup, stays ignored.
    """
    received: list[int] = []

    def on_signal(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        handle(received)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, on_signal) for number in handled}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt(received: list[int]) -> None:
    """Every signal unwinds as Ctrl-C does."""
    raise KeyboardInterrupt


def name(signum: int) -> str:
    """`SIGINT`."""
    return signal.Signals(signum).name
