"""The page of a run, made of its record alone: what it was, what came out, what had changed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from qn_tracking.api.report import environment, failed, text_of
from qn_tracking.errors import MALFORMED, QnError
from qn_tracking.render import picture
from qn_tracking.render.picture import Line, Spec, Words
from qn_tracking.render.report import Block, Code, Figure, Heading, Items, Table, Text
from qn_tracking.render.text import counted, duration
from qn_tracking.studies import comparison
from qn_tracking.studies.comparison import leaves

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qn_tracking.api.folder import Folder

    Doc = dict[str, Any]

SERIES = 12
"""Of more series than this the others are in the table alone."""
DIFFERENT = ("run", "configuration", "code", "packages")
"""What is compared with the run before."""
LINES = 400
"""Of a difference of two texts."""


class RunPage:
    """The blocks of the page of a run, and its pictures by name."""

    def __init__(
        self, store: Folder, id: str, before: str | None, studies: Mapping[str, str]
    ) -> None:
        doc = store.document(id)
        self.pictures: dict[str, Spec] = {}
        subject = doc.get("subject") or {}
        tags = {**(doc.get("tags") or {}), **doc["labels"]["tags"]}
        words = (*(subject.get(key) for key in ("environment", "brain", "family")), doc["status"])
        self.title = f"Run {tags.get('name') or id}"
        self.place = " · ".join(str(word) for word in (id, *words) if word)
        self.blocks: list[Block] = [
            *_about(doc, tags, studies),
            *self._results(doc),
            *self._series(doc.get("series") or {}),
            *environment([doc]),
            *failed([doc], None),
            *_configuration(doc),
            *_changed(store, before, id),
        ]

    def _results(self, doc: Doc) -> Iterator[Block]:
        results = doc.get("results") or {}
        yield Heading("Results")
        known = {
            "episodes": results.get("episodes"),
            "success": _rate(results.get("success_rate")),
            f"success of the last {results.get('final_window')}": _rate(
                results.get("final_success_rate")
            ),
            "steps in total": results.get("total_steps"),
        }
        yield Table(["what", "value"], [[k, text_of(v)] for k, v in known.items() if v is not None])
        phases = {"": results} | {n: p["results"] for n, p in (doc.get("phases") or {}).items()}
        for number, (name, one) in enumerate(phases.items()):
            values = [_finite(value) for value in one.get("curve") or []]
            of, episodes = one.get("curve_of"), one.get("episodes") or len(values)
            if not any(value is not None for value in values):
                continue
            where = f", phase {name}" if name else ""
            x = [episodes * (i + 1) / len(values) for i in range(len(values))]
            mean = episodes / len(values)
            caption = f"One run: no interval. A point: the mean of {mean:.3g} episodes."
            text = Words(
                title=f"{str(of).replace('_', ' ').capitalize()} over the run{where}",
                caption=caption if mean > 1 else "One run: no interval. A point is an episode.",
                x="episode",
                y=str(of).replace("_", " "),
                percent=of == "success_rate",
            )
            yield self._drawn(f"curve {number}", Line(name="run", x=x, y=values), text)
            yield _points(text, x, values)
        spreads = [
            [name, *(text_of(_short(one.get(key))) for key in ("n", "mean", "sd", "min", "max"))]
            for name, one in (results.get("metrics") or {}).items()
        ]
        if spreads:
            yield Heading("Metrics of its episodes")
            yield Table(["metric", "episodes", "mean", "sd", "least", "most"], spreads)
        ends = sorted((results.get("terminations") or {}).items(), key=lambda one: -one[1])
        if ends:
            total = sum(count for _, count in ends)
            yield Heading("How its episodes ended")
            rows = [[name, f"{count:,}", f"{count / total:.1%}"] for name, count in ends[:50]]
            yield Table(["ending", "episodes", "share"], rows)

    def _series(self, series: dict[str, Any]) -> Iterator[Block]:
        if not series:
            return
        yield Heading("Series")
        for number, (name, one) in enumerate(list(series.items())[:SERIES]):
            values = [_finite(value) for value in one.get("curve") or []]
            steps = [float(step) for step in one.get("steps") or []]
            if len(steps) != len(values) or not any(value is not None for value in values):
                yield Text(f"{name}: no picture, it has no finite value.")
                continue
            each = one["n"] / len(values)
            point = f"the mean of {each:.3g} values" if each > 1 else "a value"
            caption = f"{counted(one['n'], 'value')} of one run; a point: {point}."
            words = Words(title=name, caption=caption, x="step", y=name)
            yield self._drawn(f"series {number}", Line(name="run", x=steps, y=values), words)
            yield _points(words, steps, values)
        rows = [
            [name, f"{one['n']:,}", f"{one['first_step']:,} to {one['last_step']:,}"]
            + [text_of(_short(one.get(key))) for key in ("last", "mean", "sd", "min", "max")]
            for name, one in series.items()
        ]
        titles = ["series", "values", "steps", "last", "mean", "sd", "least", "most"]
        yield Table(titles, rows, "All series")

    def _drawn(self, name: str, line: Line, words: Words) -> Figure:
        spec = picture.lines([line], words)
        self.pictures[name] = spec
        return Figure(name, spec["description"])


def study_text(id: str, name: str) -> str:
    """A study by its name; with its id, so that nothing else on a page is called that."""
    return f"{name} ({id})" if name != id else id


def _about(doc: Doc, tags: dict[str, Any], studies: Mapping[str, str]) -> Iterator[Block]:
    wall = doc.get("wall_seconds")
    error = doc.get("error") or {}
    facts = {
        "status": doc["status"],
        "started": doc.get("started"),
        "took": duration(wall) if isinstance(wall, (int, float)) else None,
        "seed": doc.get("seed"),
        "episodes planned": doc.get("episodes"),
        "configuration": (doc.get("config") or {}).get("label"),
        "command": shlex.join(map(str, doc.get("command") or [])) or None,
        "tags": ", ".join(f"{key}={value}" for key, value in tags.items()) or None,
        "error": f"{error.get('type')}: {error.get('message')}" if error else None,
    }
    yield Heading("What it was")
    rows = [[k, text_of(v)] for k, v in facts.items() if v is not None]
    yield Table(
        ["what", "value"], [*(["study", study_text(*one)] for one in studies.items()), *rows]
    )
    notes = [doc["notes"]] if doc.get("notes") else []
    notes += [f"{note['at'][:10]}: {note['text']}" for note in doc["labels"]["notes"]]
    if notes:
        yield Items(notes)


def _configuration(doc: Doc) -> Iterator[Block]:
    config = doc.get("config") or {}
    settings = leaves(config.get("data") or {})
    if settings:
        yield Heading("Configuration")
        yield Code("\n".join(f"{name}: {text_of(value)}" for name, value in settings.items()))


def _changed(store: Folder, before: str | None, id: str) -> Iterator[Block]:
    """What differs from the run before: settings, code and packages, and the texts line by line."""
    from qn_tracking.api.reports import Diff
    from qn_tracking.store.documents import attached_text, packages

    yield Heading("What had changed since the run before")
    if before is None:
        yield Text("No run of the same environment and brain is before it.")
        return
    try:
        docs = [store.document(one) for one in (before, id)]
        lists = [packages(store.folder, doc, store.warn) for doc in docs]
        found = comparison.sections(docs, lists)
        texts = [attached_text(store.folder, doc, "config.yml") for doc in docs]
        lines = [] if None in texts else Diff(docs, texts, False).lines
    except (QnError, *MALFORMED) as error:
        yield Text(f"Compared with nothing: {cause_of(error)}.")
        return
    rows = [
        [row.field, *(text_of(value) for value in row.values)]
        for part in DIFFERENT
        for row in found[part]
        if not row.same
    ]
    if not rows:
        yield Text(f"Nothing that is recorded differs from {before}.")
        return
    yield Table(["what differs", before, id], rows)
    if lines:
        yield _cut(lines)
    if comparison.code_differs(found):
        yield from _source(store, docs)


def _source(store: Folder, docs: Sequence[Doc]) -> Iterator[Block]:
    """What differs in the code, as far as it is here."""
    from qn_tracking.reproduce.sources import source_diff

    try:
        found = source_diff(store.folder, docs)
    except (QnError, *MALFORMED) as error:
        yield Text(f"The code cannot be compared: {cause_of(error)}.")
        return
    yield Text(f"Code: {found.summary}.")
    if found.log or found.missing:
        yield Items([*found.log, *found.missing])
    if found.lines:
        yield _cut(found.lines)


def cause_of(error: Exception) -> str:
    """Why a record cannot be shown; of one that is malformed `fsck` names the field."""
    return error.cause if isinstance(error, QnError) else "malformed, see qn-exp fsck"


def _cut(lines: Sequence[str]) -> Code:
    more = [f"… and {len(lines) - LINES:,} lines more"] if len(lines) > LINES else []
    return Code("\n".join([*lines[:LINES], *more]))


def _points(words: Words, x: Sequence[float], y: Sequence[float | None]) -> Table:
    """Five places of a picture, as a table."""
    places = sorted({(len(x) - 1) * i // 4 for i in range(5)})
    value = _rate if words.percent else _short
    rows = [[f"{x[i]:,.4g}", text_of(value(y[i]))] for i in places]
    return Table([words.x, words.y], rows, words.title)


def _rate(value: Any) -> str | None:
    return f"{value:.1%}" if isinstance(value, (int, float)) else None


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and isfinite(value) else None


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value
