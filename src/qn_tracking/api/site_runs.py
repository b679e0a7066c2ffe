"""The pages of local experiments: an index, a page for each study, and one for each newest run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from qn_tracking.api.fold import study_of
from qn_tracking.api.report import text_of
from qn_tracking.api.site import Page
from qn_tracking.api.site_run import RunPage, cause_of, study_text
from qn_tracking.errors import MALFORMED, QnError
from qn_tracking.render.report import Block, Figure, Table, Text
from qn_tracking.render.text import counted, duration
from qn_tracking.repository import GitError, Repository
from qn_tracking.store.paths import journal

if TYPE_CHECKING:
    from qn_tracking.api.folder import Folder
    from qn_tracking.api.gathered import Gathered
    from qn_tracking.api.study import Study

    Row = dict[str, Any]

PAGES = 1_000
"""The newest runs have a page of their own."""
FIRST = 200
"""The newest runs are on the first page."""
LISTED = 2_000
"""Of more runs than are on the first page, all are on pages of so many: a browser sorts these."""
ALL = "all-runs-{}.html"
TITLES = (
    *("run", "study", "started (UTC)", "status", "environment", "brain", "configuration", "seed"),
    *("episodes", "success", "final", "reward", "time", "tags"),
)
STUDY_TITLES = ("study", "question", "created", "kind", "arms", "runs", "metric", "what it shows")


def is_here(name: str) -> bool:
    """Whether a page of this name is one of these, and not of the leaderboard."""
    return name.startswith(("experiments.", "all-runs-", "studies/", "runs/"))


def pages(
    store: Folder,
    index: str,
    chosen: Sequence[str] | None = None,
    studies: Sequence[Study | Gathered] | None = None,
) -> Iterator[Page]:
    """The pages, `index` the first; of all runs, or of those `chosen`, newest first.

    `studies` are by default those that have one of these runs.
    """
    everything = store.find().cells() if os.path.isdir(store.folder) else []
    rows = everything
    if chosen is not None:
        wanted = set(chosen)
        rows = [row for row in everything if row["id"] in wanted]
    found = _studies(store, everything, rows if chosen is not None else None, studies)
    yield from _pages(store, index, rows, found, {row["id"]: row for row in everything})


def committed(store: Folder) -> list[Study | Gathered]:
    """The studies that the repository has, so that a site of it shows what is public anyway."""
    try:
        found = Repository(os.path.abspath(store.folder)).git("ls-files", "-z", "--", "studies")
    except (GitError, OSError):
        return []
    ids = {name.split("/")[1] for name in found.split("\0") if name.count("/") == 2}
    return [study for study in store.studies() if study.id in ids]


def _studies(
    store: Folder,
    everything: Sequence[Row],
    rows: Sequence[Row] | None,
    studies: Sequence[Study | Gathered] | None,
) -> list[tuple[Study | Gathered, list[str]]]:
    """Studies with the ids of their runs; with `rows` those that have one of them."""
    members: dict[str, list[str]] = {}
    for row in everything:
        members.setdefault(study_of(row["id"]) or "", []).append(row["id"])
    kept = None if rows is None else {row["id"] for row in rows}
    given = store.studies() if studies is None and os.path.isdir(store.folder) else studies or []
    out = []
    for study in given:
        ids = members.get(study.id, []) if study.declared else study.run_ids()
        if kept is None or kept.intersection(ids) or studies is not None:
            out.append((study, ids))
    return out


def _pages(
    store: Folder,
    index: str,
    rows: Sequence[Row],
    studies: Sequence[tuple[Study | Gathered, list[str]]],
    every: Mapping[str, Row],
) -> Iterator[Page]:
    drawn = [row["id"] for row in rows[:PAGES]]
    links = {id: f"runs/{id}.html" for id in drawn}
    inside: dict[str, dict[str, str]] = {}
    for study, ids in studies:
        for id in ids:
            inside.setdefault(id, {})[study.id] = study.name or study.id
    states = {
        study.id: [repr(study.record), study.labels, [_state(every.get(id)) for id in ids]]
        for study, ids in studies
    }
    parts = {index: rows[:FIRST]}
    if len(rows) > FIRST:
        starts = range(0, len(rows), LISTED)
        parts |= {ALL.format(n): rows[i : i + LISTED] for n, i in enumerate(starts, 1)}
    for number, (name, some) in enumerate(parts.items()):
        following = ALL.format(number + 1)
        yield Page(
            name=name,
            inputs=[
                [states, len(rows)] if name == index else following in parts,
                [[_state(row), row["id"] in links, inside.get(row["id"])] for row in some],
            ],
            make=partial(
                _index, number, rows, some, studies, inside, links,
                following if following in parts else None,
            ),
            template="experiments.html",
            scripts=["site.js"],
        )  # fmt: skip
    for study, ids in studies:
        yield Page(
            name=f"studies/{study.id}.html",
            inputs=[states[study.id], [id for id in ids if id in links]],
            make=partial(_study, store, study, links),
            template="report.html",
        )
    earlier = _before(rows, every)
    for id in drawn:
        before = earlier[id]
        yield Page(
            name=f"runs/{id}.html",
            inputs=[
                *(_state(every[id]), _journal(store, every[id]), _state(every.get(before))),
                *(before in links, inside.get(id)),
            ],
            make=partial(_run, store, id, before, links, inside.get(id, {})),
            template="report.html",
        )


def _state(row: Row | None) -> Any:
    """What a page depends on of a run: a record is never rewritten, its labels are in the index."""
    return None if row is None else [*row.values()]


def _journal(store: Folder, row: Row) -> Any:
    """Of a run that is not over, how far its episodes are written."""
    if row["status"] not in ("running", "unknown", "crashed"):
        return None
    try:
        info = os.stat(journal(store.folder, row["id"]))
    except OSError:
        return None
    return [info.st_size, info.st_mtime_ns]


def _before(rows: Sequence[Row], every: Mapping[str, Row]) -> dict[str, str]:
    """The id of the run before each, of the same environment and brain; empty for the first."""
    wanted = {row["id"] for row in rows[:PAGES]}
    latest: dict[tuple[Any, Any], str] = {}
    out: dict[str, str] = {}
    for row in reversed([*every.values()]):
        kind = (row["environment"], row["brain"])
        if row["id"] in wanted:
            out[row["id"]] = latest.get(kind, "")
        latest[kind] = row["id"]
    return out


# ----------------------------------------------------------------------------------------- content


def _index(
    number: int,
    rows: Sequence[Row],
    some: Sequence[Row],
    studies: Sequence[tuple[Study | Gathered, list[str]]],
    inside: Mapping[str, Mapping[str, str]],
    links: Mapping[str, str],
    following: str | None,
) -> dict[str, Any]:
    """A page of runs; the first one, 0, has the studies and the newest runs."""
    first = number == 0
    groups: list[dict[str, Any]] = []
    if studies and first:
        groups.append(
            {
                "title": "Studies",
                "titles": STUDY_TITLES,
                "head": 0,
                "rows": [_study_row(study) for study, _ in studies],
                "more": None,
            }
        )
    if some:
        text = f"All {len(rows):,} runs" if first else "Older runs"
        groups.append(
            {
                "title": f"The newest {len(some):,} runs" if first and following else "Runs",
                "titles": TITLES,
                "head": 0,
                "lines": True,
                "rows": [_run_row(row, inside.get(row["id"], {}), links) for row in some],
                "more": text if following else None,
                "more_page": following,
            }
        )
    counts = f"{counted(len(studies), 'study')} and"
    counts += f" {counted(len(rows), 'run')}."
    if len(rows) > len(links):
        counts += f" The newest {len(links):,} runs have a page." if links else ""
    options = {
        name: sorted({str(row[name]) for row in some if row[name] is not None})
        for name in ("status", "environment", "brain")
    }
    return {
        "title": "Experiments" if first else f"All runs, page {number}",
        "counts": counts,
        "choices": [(name, found) for name, found in options.items() if len(found) > 1],
        "groups": groups,
    }


def _study_row(study: Study | Gathered) -> dict[str, Any]:
    try:
        line = study.line()
    except (QnError, *MALFORMED) as error:
        cells = [study.name or study.id, study.question or "", study.created[:10], "", "", "", ""]
        texts = [*cells, f"cannot be read: {cause_of(error)}"]
    else:
        runs = f"{line.finished}/{line.runs}" if line.finished < line.runs else f"{line.runs}"
        kind = "declared" if line.declared else "gathered"
        texts = [line.name or line.id, line.question or "", line.created[:10], kind]
        texts += [str(line.arms), runs, line.metric, line.says]
    shown = [(text, text) for text in texts]
    return {"page": f"studies/{study.id}", "id": "", "data": {}, "cells": shown}


def _run_row(row: Row, studies: Mapping[str, str], links: Mapping[str, str]) -> dict[str, Any]:
    tags = json.loads(row["tags"]) if row["tags"] else {}
    wall = row["wall_seconds"]
    cells: list[tuple[str, object]] = [
        (row["id"], row["id"]),
        _same(", ".join(studies.values())),
        ((row["started"] or "")[:16].replace("T", " "), row["started"] or ""),
        *(_same(text_of(row[n])) for n in ("status", "environment", "brain", "config", "seed")),
        _number(row["episodes"], ","),
        _number(row["success_rate"], ".1%"),
        _number(row["final_success_rate"], ".1%"),
        _number(row["reward"], ".4g"),
        (duration(wall), wall) if isinstance(wall, (int, float)) else ("–", ""),
        _same(", ".join(f"{key}={value}" for key, value in tags.items())),
    ]
    data = {name: text_of(row[name]) for name in ("status", "environment", "brain")}
    page = links.get(row["id"], "").removesuffix(".html")
    return {"page": page, "id": "", "data": data, "cells": cells}


def _same(text: str) -> tuple[str, object]:
    return text, text


def _number(value: Any, form: str) -> tuple[str, object]:
    if value is None:
        return "–", ""
    return (f"{value:{form}}" if isinstance(value, (int, float)) else str(value)), value


def _study(store: Folder, study: Study | Gathered, links: Mapping[str, str]) -> dict[str, Any]:
    from qn_tracking.api.study_report import StudyReport

    kind = "declared before its first run" if study.declared else "gathered afterwards"
    shown: dict[str, Any] = {"title": study.name or study.id, "place": f"{study.id}, {kind}"}
    try:
        made = StudyReport(store, study)
    except (QnError, *MALFORMED) as error:
        return {**shown, **_unreadable(error)}
    inside = {id: f"../{page}" for id, page in links.items()}
    blocks: list[Block] = []
    for block in made.blocks:
        blocks.append(block)
        if isinstance(block, Figure):
            drawn = made.pictures[block.name]
            blocks.append(Table(drawn.titles, drawn.rows, drawn.title))
    return {
        **shown,
        "title": made.title,
        "blocks": named(blocks),
        "pictures": made.pictures,
        "links": inside,
    }


def _run(
    store: Folder,
    id: str,
    before: str,
    links: Mapping[str, str],
    studies: Mapping[str, str],
) -> dict[str, Any]:
    inside = {one: f"../{links[one]}" for one in (before,) if one in links}
    try:
        page = RunPage(store, id, before or None, studies)
    except (QnError, *MALFORMED) as error:
        return {"title": f"Run {id}", "place": id, **_unreadable(error)}
    inside |= {study_text(*one): f"../studies/{one[0]}.html" for one in studies.items()}
    pictures = {name: {"spec": spec} for name, spec in page.pictures.items()}
    return {
        "title": page.title,
        "place": page.place,
        "blocks": named(page.blocks),
        "pictures": pictures,
        "links": inside,
    }


def _unreadable(error: Exception) -> dict[str, Any]:
    text = Text(f"It cannot be read: {cause_of(error)}.")
    return {"blocks": named([text]), "pictures": {}, "links": {}}


def named(blocks: Sequence[Block]) -> list[tuple[str, Block]]:
    """Blocks with their kind, for a template."""
    return [(type(block).__name__, block) for block in blocks]
