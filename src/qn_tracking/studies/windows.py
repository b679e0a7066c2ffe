"""The results of a run over other last episodes than the protocol's; pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import fsum, isfinite
from typing import Any

from attrs import frozen

from qn_tracking.errors import UsageError
from qn_tracking.inference.rules import share_of
from qn_tracking.render.text import counted
from qn_tracking.studies.comparison import PRIMARY

Doc = Mapping[str, Any]


@frozen(kw_only=True)
class Window:
    """The `last` episodes of each run, or the `tail`, a share of them.

    Raises UsageError for both or neither, and for what is no number of episodes or no share.
    """

    last: int | None = None
    tail: float | None = None

    def __attrs_post_init__(self) -> None:
        if (self.last is None) == (self.tail is None):
            raise UsageError("--last and --tail: expected one of them")
        if self.last is not None and self.last < 1:
            raise UsageError(f"--last {self.last}: expected 1 or more episodes")
        if self.tail is not None and not 0 < self.tail <= 1:
            raise UsageError(f"--tail {self.tail:g}: expected a share above 0, up to 1")

    def of(self, episodes: int) -> int:
        """How many of so many episodes it has."""
        if self.tail is not None:
            return max(1, share_of(self.tail, episodes))
        return min(self.last or 1, episodes)

    def notes(self, docs: Sequence[Doc]) -> Iterator[str]:
        """That runs have fewer episodes than it asks for, if there are such."""
        counts = [(doc.get("results") or {}).get("episodes") or 0 for doc in docs]
        if self.last is not None and (short := [n for n in counts if 0 < n < self.last]):
            runs = f"{len(short)} of {len(docs)} runs have"
            yield f"{runs} fewer episodes than {self.last:,}: of these all are taken"

    def __str__(self) -> str:
        """Such as `last 100 episodes`."""
        return (
            f"last {counted(self.last, 'episode')}"
            if self.last
            else f"last {self.tail:.0%} of episodes"
        )


def windowed(doc: Doc, columns: Mapping[str, Sequence[Any]], window: Window) -> dict[str, Any]:
    """The run with its final success rate, reward, steps and metrics over the window alone.

    The success rate stays that of all episodes. `columns` are the values of all its episodes.
    """
    results = dict(doc.get("results") or {})
    known = [flag for flag in columns["success"] if flag is not None]
    if known:
        size = window.of(len(known))
        results |= {PRIMARY: sum(known[-size:]) / size, "final_window": size}
    means = {}
    for name, values in columns.items():
        last = values[-window.of(len(values)) :] if values else []
        numbers = [value for value in last if value is not None and isfinite(value)]
        if name != "success" and numbers:
            means[name] = fsum(numbers) / len(numbers)
    for name in ("reward", "steps"):
        if name in means:
            results[f"avg_{name}"] = means.pop(name)
    results["metrics"] = {name: {"mean": mean} for name, mean in means.items()}
    return {**doc, "results": results}
