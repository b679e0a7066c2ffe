"""The first page of a site: every entry, in its category and division."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from qn_tracking.api.board import Board
from qn_tracking.api.site_pages import bounds, difference, p_value
from qn_tracking.benchmark.entries import Listed, Row
from qn_tracking.benchmark.metrics import METRICS, PRIMARY
from qn_tracking.benchmark.survey import Survey
from qn_tracking.benchmark.versus import compare_entries
from qn_tracking.render import board as words, picture
from qn_tracking.render.picture import Spec, Words
from qn_tracking.render.text import counted

Cell = tuple[str, object]

TITLES = (
    *("brain", "IQM, 95%", "runs of 80% or more, 95%", "mean, 95%", "episodes to 80%"),
    *("steps a run", "CPU a run", "parameters", "runs", "contributor", "date", "status"),
)


def left_out(found: Survey) -> dict[str, str]:
    """Files that are not valid here, or cannot be read, with the first cause."""
    causes = {entry.path: entry.errors[0] for entry in found.invalid}
    for problem in found.problems:
        place = os.path.relpath(problem.file, found.folder) if problem.file else found.folder
        causes[place] = f"{problem.field}: {problem.cause}" if problem.field else problem.cause
    return causes


def rankings(board: Board) -> Iterator[tuple[str, Sequence[Row]]]:
    """The rankings of a category, each with its title: today's, and one of each old protocol."""
    if board.rows:
        closed = "closed division" if board.rows[0].entry.division else "all entries"
        yield f"{closed}, protocol version {board.protocol}", board.rows
    for version in dict.fromkeys(row.entry.protocol for row in board.archive):
        title = f"archive, protocol version {version}"
        yield title, [row for row in board.archive if row.entry.protocol == version]


def ranking_name(category: str, title: str) -> str:
    """What the page of a ranking is called: no two the same, and a name of a file only."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", f"{category} {title}").strip("-")
    return f"{plain[:80]}-{sha256(f'{category} {title}'.encode()).hexdigest()[:8]}"


def index(
    found: Survey,
    boards: Sequence[Board],
    names: Mapping[str, str],
    refused: Mapping[str, str],
) -> dict[str, Any]:
    """The page of all entries."""
    against = list(_against(found, boards, names))
    shown = [board.name.partition("/") for board in boards]
    protocol = found.protocol
    tasks = [
        [name, one.episodes, f"at least {one.runs}", one.digest[:12]]
        for name, one in sorted(protocol.tasks.items())
    ]
    divisions = ["closed", "open", "archive"] if tasks else ["all", "archive"]
    return {
        "title": "Leaderboard",
        "protocol": found.version,
        "counts": counted(len(found.entries), "valid submission"),
        "intervals": words.intervals(protocol.inference),
        "choices": [
            ("environment", list(dict.fromkeys(one for one, _, _ in shown))),
            ("family", list(dict.fromkeys(one for _, _, one in shown))),
            ("division", divisions),
        ],
        "against": against,
        "difference": _differences(against),
        "categories": [_category(board, names) for board in boards],
        "tasks": tasks,
        "refused": list(refused.items()),
    }


def _against(
    found: Survey, boards: Sequence[Board], names: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """The first of each family, for each environment that has a ranked entry."""
    rows = {board.name: board.rows for board in boards}
    for environment in dict.fromkeys(name.partition("/")[0] for name in rows):
        both = [rows.get(f"{environment}/{family}", ()) for family in ("quantum", "classical")]
        if not any(both):
            continue
        sides = [
            {"brain": one[0].entry.brain, "page": names[one[0].entry.path]} if one else None
            for one in both
        ]
        out: dict[str, Any] = {"environment": environment, "sides": sides}
        out |= {"difference": "–", "p": "–", "interval": None}
        out["sentence"] = "no conclusion: a family has no ranked entry"
        if all(both):
            picked = (len(both[0]), len(both[1]))
            first, second = (one[0].entry for one in both)
            pair = compare_entries(first, second, found.protocol, families=True, picked=picked)
            out |= {
                "difference": difference(pair),
                "interval": bounds(pair),
                "p": p_value(pair.verdict.p),
                "sentence": pair.sentence,
            }
        yield out


def _differences(against: Sequence[Mapping[str, Any]]) -> Spec | None:
    """Quantum minus classical in each environment that has both, with its interval."""
    rows = []
    for one in against:
        if one["interval"] is not None:
            value, *ends = one["interval"]
            low, high = (None if end is None else 100 * end for end in ends)
            name = one["environment"]
            rows.append(picture.Row(name=name, value=100 * value, low=low, high=high))
    if not rows:
        return None
    title = f"Quantum minus classical: {METRICS[PRIMARY].title}"
    caption = "The first of each family. Dot: the difference; line: its 95% interval."
    text = Words(title=title, caption=caption, x="difference in points")
    return picture.rows(rows, text, middle=0)


def _category(board: Board, names: Mapping[str, str]) -> dict[str, Any]:
    environment, _, family = board.name.partition("/")
    groups = [_group(board.name, title, rows, names) for title, rows in rankings(board)]
    if board.open:
        groups.insert(
            1 if board.rows else 0, _group(board.name, "open division", board.open, names)
        )
    return {
        "environment": environment,
        "family": family,
        "groups": groups,
        "command": None if board.rows else board.command,
    }


def _group(
    category: str, title: str, rows: Sequence[Row] | Sequence[Listed], names: Mapping[str, str]
) -> dict[str, Any]:
    """A table of one category: a ranking, or the open division, which is listed only."""
    division = title.partition(",")[0].removesuffix(" division").removesuffix(" entries")
    ranked = isinstance(rows[0], Row)
    environment, _, family = category.partition("/")
    data = {"environment": environment, "family": family, "division": division}
    return {
        "title": title if ranked else f"{title}, not ranked",
        "division": division,
        "titles": ["rank" if ranked else "differs", *TITLES],
        "compare": names[rows[0].entry.path] if ranked and len(rows) > 1 else None,
        "ranking": ranking_name(category, title),
        "head": 1,
        "rows": [
            {
                "page": names[row.entry.path],
                "id": row.entry.id,
                "data": {**data, "verified": "yes" if row.entry.verified else "no"},
                "cells": _cells(row),
            }
            for row in rows
        ],
    }


def _cells(row: Row | Listed) -> list[Cell]:
    """The texts of a row, each with the value that it is sorted by."""
    entry, found = row.entry, row.entry.aggregates
    figure, share = found[PRIMARY], found.get("threshold_share")
    if isinstance(row, Row):
        first: Cell = words.ranks(row.rank_low, row.rank_high), row.rank_low + row.rank_high / 1e6
    else:
        first = "; ".join(row.differs), "; ".join(row.differs)
    seconds = (entry.verification or {}).get("cpu_seconds") or found["cpu_seconds"]
    return [
        first,
        (entry.brain, entry.brain),
        (words.middle(figure), figure["iqm"]),
        (words.working(share), share["share"] if share else ""),
        (words.estimate(figure), figure["mean"]),
        (words.time_to(found), _number(found["time_to_threshold"])),
        (words.number(found.get("environment_steps")), _number(found.get("environment_steps"))),
        (words.cpu(entry.plain()), _number(seconds)),
        (words.number(found.get("parameters")), _number(found.get("parameters"))),
        (f"{found['runs']} × {entry.episodes}", found["runs"]),
        (entry.contributor, entry.contributor),
        (entry.created[:10], entry.created),
        (", ".join(row.status), ", ".join(row.status)),
    ]


def _number(value: float | None) -> object:
    return "" if value is None else value
