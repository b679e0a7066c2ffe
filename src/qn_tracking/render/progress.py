"""The line that says how far some work has come: redrawn on a terminal, else now and then.

    with Display() as display:
        for done in ...:
            display(f"{done} of {total}")

The text may be a function, which is then called only when the line is drawn.
"""

from __future__ import annotations

import sys
from time import perf_counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, TextIO

REDRAW_SECONDS = 0.1
LINE_SECONDS = 10.0


class Display:
    """Draws one line on a terminal again and again, and clears it in the end.

    Where the stream is no terminal, it prints a plain line every 10 seconds, unless `plain` is
    false. A `silent` display prints nothing. `delay` is how many seconds pass before the first
    line on a terminal.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        silent: bool = False,
        plain: bool = True,
        delay: float = 0.0,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        silent = silent or self._stream is None  # closed when the program started
        self.live = not silent and is_terminal(self._stream)
        self._silent = silent or (not self.live and not plain)
        self._pause = REDRAW_SECONDS if self.live else LINE_SECONDS
        self._delay = delay if self.live else LINE_SECONDS
        self._drawn = False
        self.restart()

    def restart(self) -> None:
        """Counts the seconds from now on."""
        self._began = perf_counter()
        self._next = self._began + self._delay

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.clear()

    @property
    def elapsed(self) -> float:
        """Seconds since the display was made, or restarted."""
        return perf_counter() - self._began

    def __call__(self, line: str | Callable[[], str]) -> None:
        """Shows the line, unless the last one was drawn a moment ago."""
        if self._silent:
            return
        now = perf_counter()
        if now < self._next:
            return
        self._next = now + self._pause
        text = line if isinstance(line, str) else line()
        try:
            if self.live:
                import shutil

                from qn_tracking.render.text import clip

                width = shutil.get_terminal_size().columns
                self._stream.write("\r\x1b[K" + clip(text, max(width - 1, 1)))
                self._drawn = True
            else:
                self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # closed
            self._silent = True

    def clear(self) -> None:
        """Takes the line away, for another one to be printed."""
        if self._drawn:
            self._drawn = False
            try:
                self._stream.write("\r\x1b[K")
                self._stream.flush()
            except (OSError, ValueError):
                self._silent = True


def is_terminal(stream: TextIO) -> bool:
    """Whether a line on it can be drawn again."""
    import os

    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except (OSError, ValueError):
        return False


def bar(done: int, total: int, width: int = 20) -> str:
    """`[####----]`; empty if the total is 0."""
    filled = width * min(done, total) // total if total else 0
    return "[" + "#" * filled + "-" * (width - filled) + "]"


def time_left(elapsed: float, done: float, total: float) -> str | None:
    """`3m20s left`, by the speed so far; None as long as nothing is done."""
    if done <= 0:
        return None
    from qn_tracking.render.text import duration

    return f"{duration(elapsed / done * max(total - done, 0))} left"


def counter(
    what: str, least: int = 2000, *, delay: float = 0.0
) -> Callable[[int, int], None] | None:
    """A callback `(done, total)` that shows how far long work has come, after `delay` seconds.

    None where standard error is no terminal. Less work than `least` shows nothing.
    """
    display = Display(plain=False, delay=delay)
    if not display.live:
        return None

    def draw(done: int, total: int) -> None:
        if total < least:
            return
        if done < total:
            display(f"{what} {bar(done, total, 24)} {done:,} of {total:,}")
        else:
            display.clear()

    return draw
