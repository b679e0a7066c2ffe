"""The pages of the leaderboard: every entry, every ranking, every pair."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

from qn_tracking import files as system
from qn_tracking.api import site_index, site_pages
from qn_tracking.api.board import Board
from qn_tracking.api.site import Page
from qn_tracking.api.site_compare import Ranking
from qn_tracking.api.site_pages import Source
from qn_tracking.benchmark import places, signature
from qn_tracking.benchmark.cache import digest
from qn_tracking.benchmark.entries import Entry
from qn_tracking.benchmark.survey import Survey
from qn_tracking.errors import QnError


def pages(
    found: Survey, boards: Sequence[Board], source: Source, left_out: Mapping[str, str]
) -> Iterator[Page]:
    """Every page, in order; nothing is drawn yet."""
    names = _names(found.entries)
    yield Page(
        name="index.html",
        inputs=[[board.plain() for board in boards], dict(left_out), digest(repr(found.protocol))],
        make=lambda: site_index.index(found, boards, names, left_out),
        template="index.html",
    )
    for board in boards:
        for title, rows in site_index.rankings(board):
            # The entries first: the ranking shows what was read and estimated for them.
            for row in rows:
                yield _entry(found, board, row, title, names, source, len(rows) > 1)
            yield from Ranking(board.name, title, rows, names, source).pages()
        for one in board.open:
            title = "open division, not ranked"
            yield _entry(found, board, one, title, names, source, False)


def _entry(
    found: Survey,
    board: Board,
    place: Any,
    title: str,
    names: Mapping[str, str],
    source: Source,
    compared: bool,
) -> Page:
    entry: Entry = place.entry
    beside = [
        *places.verification_names(found.folder, entry.id),
        signature.path(found.folder, entry.id),
    ]
    unsound = {problem.file: problem.cause for problem in found.problems}
    contents = [[os.path.basename(name), _digest(name), unsound.get(name)] for name in beside]

    return Page(
        name=f"entries/{names[entry.path]}.html",
        inputs=[board.name, title, place.plain(), contents, compared],
        make=lambda: site_pages.entry(found, board, place, title, names, source, compared),
        template="entry.html",
    )


def _names(entries: Sequence[Entry]) -> dict[str, str]:
    """The name of the page of each entry, by the path of its file."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for entry in sorted(entries, key=lambda entry: entry.path):
        clash = entry.id.lower() in taken
        name = f"{entry.id[:100]}.{entry.sha256[:16]}" if clash else entry.id
        taken.add(name.lower())
        names[entry.path] = name
    return names


def _digest(path: str) -> str | None:
    with suppress(QnError):
        try:
            return sha256(system.load(path)[0]).hexdigest()
        except FileNotFoundError:
            return None
    return "not readable"
