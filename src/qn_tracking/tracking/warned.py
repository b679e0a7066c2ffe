"""What a run warns of: said at once, and kept for its record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from qn_tracking.errors import printable, storable
from qn_tracking.redact import redact_within

MAX_WARNINGS = 1_000
MAX_WARNING = 4_000
"""Warnings that a record keeps, and characters of each."""
MAX_KINDS = 1_000
"""Kinds of warnings that are said once each; those beyond are not said."""
FEW = 5
"""Warnings of one kind that are said one by one."""


def warn_on_stderr(text: str) -> None:
    """One line, `warning: …`, on standard error; a closed standard error does not end the run."""
    print_on_stderr(f"warning: {printable(text)}")


def print_on_stderr(line: str) -> None:
    """One line on standard error, if there is one."""
    if sys.stderr is not None:  # of None, `print` makes standard output
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


class Warned:
    """The warnings of a run so far, in `texts`, without secrets."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self.texts: list[str] = []
        self._show = show
        self._kinds: set[str] = set()

    def show(self, text: str) -> None:
        """Shows a text that no record keeps."""
        with suppress(OSError, ValueError):
            self._show(text)

    def say(self, text: str) -> None:
        """Shows a warning and keeps it."""
        text = redact_within(storable(text), MAX_WARNING)
        if len(self.texts) < MAX_WARNINGS:
            self.texts.append(text)
        elif len(self.texts) == MAX_WARNINGS:
            self.texts.append(f"more than {MAX_WARNINGS:,} warnings; the others are not kept")
        self.show(text)

    def once(self, kind: str, text: str) -> None:
        """The same of the first warning of its kind."""
        if kind not in self._kinds and len(self._kinds) < MAX_KINDS:
            self._kinds.add(kind)
            self.say(text)

    def some(self, texts: Sequence[str], what: str) -> None:
        """The first few, and how many more there are."""
        for text in texts[:FEW]:
            self.say(text)
        if len(texts) > FEW:
            self.say(f"{len(texts) - FEW} more {what}")
