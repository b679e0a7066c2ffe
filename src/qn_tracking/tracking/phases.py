"""The phases of a run: each has episodes and a summary of its own, beside those of the main one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qn_tracking.errors import printable, short, storable
from qn_tracking.records.limits import MAIN_PHASE, MAX_NAME, MAX_PHASES
from qn_tracking.records.model import Phase
from qn_tracking.records.stats import OTHERS, Tally
from qn_tracking.tracking import arguments


def phase_name(name: Any) -> str:
    """The name of a phase. Raises TypeError or ValueError for one that cannot be recorded."""
    text = arguments.text_of("phase", name)
    if not text or len(text) > MAX_NAME or storable(text) != text:
        cause = "not valid Unicode" if text else "expected a name"
        cause = f"more than {MAX_NAME} characters" if len(text) > MAX_NAME else cause
        raise ValueError(f"phase: {printable(short(text, MAX_NAME))}: {cause}")
    return text


class Phases:
    """The summaries of all phases by name; `main` is that of the main one, which has none."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.main = Tally(warn)
        self.others: dict[str, Tally] = {}
        self._warn = warn

    def of(self, name: str | None) -> tuple[str | None, Tally]:
        """The name of a phase as it is kept, None for the main one, and its summary."""
        if name is None:
            return None, self.main
        if type(name) is not str or name not in self.others:
            name = phase_name(name)
            if name == MAIN_PHASE:
                return None, self.main
            if name not in self.others and len(self.others) >= MAX_PHASES:
                if OTHERS not in self.others:
                    self._warn(f"more than {MAX_PHASES} phases; the others are counted as {OTHERS}")
                name = OTHERS
        return name, self.others.setdefault(name, Tally(self._warn))

    def summaries(self) -> Mapping[str, Phase]:
        """Of each but the main one, by name."""
        return {name: one.phase() for name, one in self.others.items() if one.count}
