"""The board of a category: its ranked entries, and those that are not ranked."""

from __future__ import annotations

from itertools import chain

from qn_tracking.benchmark import ranking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qn_tracking.benchmark.entries import Places
    from qn_tracking.benchmark.survey import Survey


class Board:
    """A category: its ranked rows, and where it has none, a configuration that would fill it.

    `open` are the entries of the open division, which are not ranked; `archive` the rows of older
    versions of the protocol, ranked by their own rules. `protocol` is the version in force.
    """

    def __init__(self, found: Survey, name: str, places: Places) -> None:
        self.name = name
        self.rows, self.open, self.archive = places.rows, places.open, places.archive
        self.config = found.configs.get(name)
        self.protocol = found.version

    @property
    def command(self) -> str:
        """The command that would make an entry."""
        from shlex import quote

        from qn_tracking.render.board import no_option

        name = quote(no_option(self.config or "CONFIG.yml"))
        return f"qn-run {name} --save-benchmark --contributor NAME --benchmark-notes TEXT"

    def plain(self) -> dict[str, Any]:
        """The board as JSON data."""
        from qn_tracking.render.board import command

        environment, _, family = self.name.partition("/")
        parts = {
            "rows": [row.plain() for row in self.rows],
            "open": [one.plain() for one in self.open],
            "archive": [row.plain() for row in self.archive],
        }
        for row in chain.from_iterable(parts.values()):
            row["entry"]["command"] = command(row["entry"])
        out: dict[str, Any] = {
            "category": {"environment": environment, "family": family},
            **parts,
        }
        return out if self.rows else {**out, "command": self.command}


def boards_of(found: Survey) -> list[Board]:
    """The board of each category, by the metric of the protocol."""
    every = ranking.boards(found.entries, found)
    found.cache.save()
    return [Board(found, name, places) for name, places in every.items()]
