"""The boards of a folder, one for each category: its ranked entries, and those that are not ranked.

They are of a survey of the folder, in which every submission is checked.
"""

from __future__ import annotations

import os
from itertools import chain

from qn_tracking.benchmark import ranking
from qn_tracking.benchmark.survey import Survey, survey
from qn_tracking.errors import QnError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import pluggy

    from qn_tracking.benchmark.checker import Checker
    from qn_tracking.benchmark.entries import Places
    from qn_tracking.benchmark.files import Stored
    from qn_tracking.benchmark.protocol import Rulebook
    from qn_tracking.records.model import Config
    from qn_tracking.records.submission import Finding


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


def surveyed(
    folder: str,
    checker: Callable[[], Checker],
    warn: Callable[[str], None],
    progress: Callable[[int, int], None] | None,
    *,
    complete: bool,
) -> Survey:
    """All entries. Raises UnsupportedError if they must be `complete` and cannot be checked."""
    from qn_tracking.code import installed_digests

    checkers: list[Checker] = []

    def alone(stored: Stored, book: Rulebook) -> tuple[tuple[Finding, ...], bool]:
        if not checkers:  # most often nothing has changed, and there is nothing to check
            checkers.append(checker())
        return checkers[0].alone(stored, book)

    found = survey(folder, alone, _category, installed_digests(), progress)
    for problem in found.problems:
        warn(str(problem))
    for entry in found.invalid:
        place = os.path.join(folder, entry.path)
        if complete and not entry.checkable:
            hint = "pages that are made here would lose it"
            raise UnsupportedError(entry.errors[0], file=place, hint=hint)
        more = f", and {len(entry.errors) - 1} more" if len(entry.errors) > 1 else ""
        what = "is not valid" if entry.checkable else "cannot be checked here"
        warn(f"{place}: {what}, left out: {entry.errors[0]}{more}")
    return found


def validators(config: Config) -> pluggy.PluginManager:
    """A manager with the built-in validator, and the providers that a configuration needs."""
    from qn_tracking.tracking.manager import VALIDATORS, make_manager

    return make_manager(VALIDATORS, config=config)


def _category(source: str, rules: Rulebook) -> str | None:
    """The category of a configuration; None for an invalid file, or one without a category here."""
    from qn_tracking import config as configuration
    from qn_tracking.benchmark.category import categorize

    try:
        config = configuration.load(source)
        return str(categorize(config, rules.now, validators(config)))
    except (QnError, OSError):
        return None
