"""The page of a site about an entry, and what other pages share with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

import orjson

from qn_tracking.api.board import Board
from qn_tracking.api.picture import Picture
from qn_tracking.benchmark import places, reports, verifications
from qn_tracking.benchmark.entries import Entry, Listed, Row
from qn_tracking.benchmark.metrics import METRICS, PRIMARY
from qn_tracking.benchmark.survey import Survey
from qn_tracking.benchmark.versus import EntryComparison
from qn_tracking.errors import QnError, StorageError
from qn_tracking.inference.rules import p_text
from qn_tracking.records.schema import SUBMISSION
from qn_tracking.render import board as words, picture
from qn_tracking.render.picture import Spec, Words
from qn_tracking.render.text import duration
from qn_tracking.store import read
from qn_tracking.studies.comparison import leaves

Fact = tuple[str, object, str | None]


class Source:
    """Where submissions are read, when a page needs it."""

    def __init__(self, found: Survey) -> None:
        self.found = found
        self._settings: dict[str, dict[str, Any]] = {}
        self._pictures: dict[str, Picture] = {}

    def submission(self, entry: Entry) -> dict[str, Any]:
        """The submission of an entry, as JSON data: what is in its file was checked for the entry.

        Raises StorageError.
        """
        path = os.path.join(self.found.folder, entry.path)
        try:
            data, _ = read.load(path)
        except FileNotFoundError:
            data = b""
        if sha256(data).hexdigest() != entry.sha256:
            hint = "build the pages again"
            raise StorageError("has changed since it was checked", file=path, hint=hint)
        doc = SUBMISSION.current(orjson.loads(data), path)
        self._settings[entry.path] = leaves(doc["config"].get("data") or {})
        return doc

    def settings(self, entry: Entry) -> dict[str, Any]:
        """The configuration of an entry, field by field; its file is not read for that again."""
        if entry.path not in self._settings:
            self.submission(entry)
        return self._settings[entry.path]

    def curve(self, entry: Entry) -> tuple[list[Spec], list[Spec]]:
        """The learning curve of an entry: its points, and the band around them."""
        data = self._drawn(entry).spec["datasets"]
        return data.get("lines", []), data.get("bands", [])

    def learning(self, entry: Entry) -> list[list[str]]:
        """The same as a table: name, runs, episode, mean, interval."""
        return self._drawn(entry).rows

    def _drawn(self, entry: Entry) -> Picture:
        if entry.path not in self._pictures:
            learned(entry, self.submission(entry)["runs"], self)
        return self._pictures[entry.path]

    def keep(self, entry: Entry, picture: Picture) -> None:
        """Keeps the curve of an entry for the page of its ranking, without its single runs."""
        spec = {**picture.spec, "datasets": {**picture.spec["datasets"], "runs": []}}
        self._pictures[entry.path] = Picture(spec, picture.titles, picture.rows)


def bounds(pair: EntryComparison) -> tuple[float, float | None, float | None]:
    """The difference and the ends of its interval, where there is one."""
    found = pair.comparison
    interval = found.guarded or found.welch
    if interval is None:
        return found.delta, None, None
    return found.delta, interval.low, interval.high


def difference(pair: EntryComparison) -> str:
    """The difference with its interval, in points of a percentage where the metric is a rate."""
    delta, low, high = bounds(pair)
    scale, unit = (100, " points") if METRICS[pair.metric].format == "percent" else (1, "")
    form = "+.1f" if unit else "+.3g"
    text = f"{scale * delta:{form}}"
    if low is not None and high is not None:
        text += f" [{scale * low:{form}}, {scale * high:{form}}]"
    return text + unit


def p_value(value: float | None) -> str:
    """A p, or a dash."""
    return "–" if value is None else p_text(value)


def entry(
    found: Survey,
    board: Board,
    place: Row | Listed,
    title: str,
    names: Mapping[str, str],
    source: Source,
    compared: bool,
) -> dict[str, Any]:
    """The page of an entry."""
    one = place.entry
    submission = source.submission(one)
    signature, verification = reports.backing(found.folder, one, None)
    rank = ""
    if isinstance(place, Row):
        rank = f"rank {words.ranks(place.rank_low, place.rank_high)} in "
    environment, _, family = board.name.partition("/")
    share = one.aggregates.get("threshold_share")
    name = names[one.path]
    return {
        "title": f"{one.brain}: {environment}, {family}",
        "place": f"{one.id}: {rank}{title}",
        "compare": name if compared else None,
        "figures": _figures(one),
        "limits": words.limits(share["runs"]) if share else None,
        "pictures": _pictures(one, submission["runs"], source),
        "runs": _runs(one, submission["runs"]),
        "costs": _costs(one),
        "about": _about(place, signature),
        "notes": one.contribution["notes"],
        "command": words.command(one.plain()),
        "configuration": submission["text"],
        "verification": verification,
        "history": list(_history(found, one)),
        "findings": [
            f"{f['level']}: {f['field'] or f['rule']}: {f['message']}" for f in one.findings
        ],
    }


def _facts(rows: Mapping[str, object]) -> list[Fact]:
    """What is known, a line each; it may have a link."""
    shown = {name: value for name, value in rows.items() if value not in (None, "")}
    return [
        (name, *value) if type(value) is tuple else (name, value, None)
        for name, value in shown.items()
    ]


def _figures(one: Entry) -> list[Fact]:
    figures = one.aggregates
    primary, share, stability = (
        figures[PRIMARY],
        figures.get("threshold_share"),
        figures["stability"],
    )
    reached = f"runs of {share['threshold']:.0%} or more" if share else "runs"
    return _facts(
        {
            "IQM of the final success": words.middle(primary),
            reached: f"{words.working(share)}, exact interval" if share else None,
            "mean final success": words.estimate(primary),
            "conventional": words.conventional(primary),
            "mean of the worst runs": f"{primary['worst']:.1%}",
            **{
                metric.title: words.estimate(figures.get(name), rate=metric.format == "percent")
                for name, metric in METRICS.items()
                if name != PRIMARY
            },
            "episodes to 80%": words.time_to(figures),
            "spread of the runs": None
            if stability is None
            else f"sd {stability:.3f}, without the chance of single episodes",
            "learning": figures["plateau"],
        }
    )


def _costs(one: Entry) -> list[Fact]:
    found = one.aggregates
    return _facts(
        {
            "environment steps": words.number(found.get("environment_steps")),
            "CPU": words.cpu(one.plain()),
            "parameters": words.number(found.get("parameters")),
            "circuits": words.circuits(found),
            "runs and their episodes": f"{found['runs']} × {one.episodes}",
        }
    )


def _about(place: Row | Listed, signature: str | None) -> list[Fact]:
    one, by, origin = place.entry, place.entry.contribution, place.entry.source
    commit = origin["commit"]
    return _facts(
        {
            "contributor": by["contributor"] + (f" ({by['github']})" if by["github"] else ""),
            "settings chosen by": words.tuned(by),
            "created": one.created,
            "protocol": one.protocol,
            "division": one.division,
            "differs": "; ".join(getattr(place, "differs", one.differs)),
            "status": ", ".join(place.status),
            "training reward": None if one.reward is None else words.reward(one.reward),
            "configuration": one.config,
            "digest of the configuration": one.config_digest,
            "commit": commit and (commit, words.address(origin["remote"], commit)),
            "uncommitted changes": "yes" if origin["dirty"] else None,
            "remote": origin["remote"],
            "study": words.declared(one.study) if one.study else None,
            "signature": signature,
            "submission": one.path,
            "SHA-256": one.sha256,
        }
    )


def _runs(one: Entry, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row for each run: the picture as a table."""
    shown = [METRICS[name] for name in one.values if name in METRICS]
    rows = []
    for i, run in enumerate(runs):
        cpu = "–" if run.get("cpu_seconds") is None else duration(run["cpu_seconds"])
        values = [metric.text(one.values[metric.name][i]) for metric in shown]
        rows.append([i, run["seed"], *values, cpu])
    return {"titles": ["run", "seed", *(metric.title for metric in shown), "CPU"], "rows": rows}


def learned(one: Entry, runs: Sequence[Mapping[str, Any]], source: Source) -> Picture:
    """The learning curve of an entry with its band and single runs."""
    from qn_tracking.api import drawing

    episodes = [run["episodes"]["success"] for run in runs]
    found = drawing.from_values({one.brain: episodes}, drawing.How(runs=True))
    source.keep(one, found)
    return found


def _pictures(
    one: Entry, runs: Sequence[Mapping[str, Any]], source: Source
) -> list[dict[str, Any]]:
    """The learning curve, and what each run came to in the end."""
    curve = learned(one, runs, source)
    known = any(flag is not None for run in runs for flag in run["episodes"]["success"])
    pictures = [drawn(curve.spec, "Learning curve", curve.titles, curve.rows)] if known else []
    return [*pictures, drawn(dots({"all": one}), "", [], [])]


def dots(entries: Mapping[str, Entry], *, title: str | None = None, dark: bool = False) -> Spec:
    """Runs as ticks; of one entry its mean and IQM with their intervals, of several the IQM."""
    alone = next(iter(entries.values())) if len(entries) == 1 else None
    rows = []
    for name, one in entries.items():
        found, points = one.aggregates[PRIMARY], one.values[PRIMARY]
        if alone:
            rows += [_row("IQM", found, "iqm", points), _row("mean", found, "", points)]
        else:
            rows.append(_row(name, found, "iqm", points))
    caption = "Dot: the IQM; line: its 95% interval, where there is one; ticks: single runs."
    if alone:
        caption = f"{len(alone.values[PRIMARY])} runs. Dot: the estimate; line: 95% interval over"
        caption += " runs, where there is one; ticks: single runs."
    metric = METRICS[PRIMARY].title
    text = Words(title=title or metric.capitalize(), caption=caption, x=metric, percent=True)
    return picture.rows(rows, text, dark=dark)


def _row(
    name: str, found: Mapping[str, Any], statistic: str, points: Sequence[float]
) -> picture.Row:
    low, high = (found.get(f"{statistic}_{side}".removeprefix("_")) for side in ("low", "high"))
    return picture.Row(
        name=name, value=found[statistic or "mean"], low=low, high=high, points=points
    )


def drawn(
    spec: Spec, title: str, titles: Sequence[str], rows: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """A picture and its table, for a template."""
    return {"spec": spec, "title": title, "titles": titles, "rows": rows}


def _history(survey: Survey, one: Entry) -> Iterator[list[str]]:
    """The verifications of an entry, the newest first; one that counts for nothing says so."""
    unsound = {problem.file: problem.cause for problem in survey.problems}
    found: list[tuple[str, list[str]]] = []
    names: list[str] = []
    with suppress(QnError):
        names = places.verification_names(survey.folder, one.id)
    for name in names:
        try:
            record, _ = verifications.load(name)
        except FileNotFoundError:
            continue
        except QnError as error:
            found.append(("", ["–", "–", "–", "not readable", "–", "–", error.cause]))
            continue
        again = [run for run in record.runs if run.index is not None]
        agreed = sum(run.agreement in ("exact", "outcome") for run in again)
        remarks = [*record.reasons]
        if record.sha256 != one.sha256:
            remarks.append("counts for nothing: of another text of the submission")
        elif name in unsound:
            remarks.append(f"counts for nothing: {unsound[name]}")
        by = record.verifier + (f" ({record.github})" if record.github else "")
        agreement = f"{agreed} of {len(again)} agree" if again else "–"
        line = [
            record.created,
            by,
            record.level,
            record.outcome,
            agreement,
            record.isolation or "–",
        ]
        found.append((record.created, [*line, "; ".join(remarks) or "–"]))
    yield from (line for _, line in sorted(found, reverse=True))
