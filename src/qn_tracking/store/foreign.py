"""Records of Quantum Nematode, in the generations of its own format, as experiments.

Their whole document stays in `origin.original`; only what means the same here is copied out of it,
and what they do not say is absent. Which generation a document is of shows in its fields:

    1   from 2025-11-09   results without convergence
    2   from 2025-11-23   convergence and predators; the id is the time of the end
    3   from 2025-11-27   the id is the time of the start
    4   from 2025-11-30   the gradient's `max_norm`
    5   from 2025-12-28   submissions of several sessions, and the sessions with all their runs
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from qn_tracking.errors import StorageError
from qn_tracking.ids import utc
from qn_tracking.records.facts import METADATA
from qn_tracking.records.model import (
    Config,
    Experiment,
    Measure,
    Origin,
    Results,
    Spread,
    Subject,
)

PROGRAM = "quantum-nematode"
QUANTUM = frozenset({"modular", "qmodular"})
"""Brains that the program counts as quantum; all its others are classical."""
SECTIONS = ("environment", "brain", "reward", "learning_rate", "gradient")
TERMINATIONS = {
    "completed_all_food": "completed_all_food",
    "goal_reached": "goal_reached",
    "starved": "starved",
    "max_steps": "max_steps_reached",
    "predator": "predator_deaths",
}

_STAMP = re.compile(r"([0-9]{8})_([0-9]{6})")


def recognise(doc: Mapping[str, Any]) -> bool:
    """Whether a document looks like one of theirs."""
    single = {"experiment_id", "results", "brain", "environment"}
    return single <= doc.keys() or {"submission_id", "sessions", "metrics"} <= doc.keys()


def experiment(doc: Mapping[str, Any], sha256: str, file: str) -> Experiment:
    """A record of Quantum Nematode as an experiment. Raises StorageError naming an invalid field.

    The id derives from its id and the digest of its file: two published records share an id, and
    importing a file again gives the same record.
    """
    fields = _Fields(doc, file)
    submission = "submission_id" in doc
    name = fields.text("submission_id" if submission else "experiment_id")
    stamp = _STAMP.fullmatch(name or "")
    if name is None or stamp is None:
        raise fields.wrong("submission_id" if submission else "experiment_id", "expected a time")
    ended = fields.time("timestamp")
    generation = 5 if submission else _generation(doc, name, ended)
    if generation in (1, 2) or submission:
        started = ended
    else:
        started = fields.time_of("experiment_id", f"{stamp[1]}T{stamp[2]}Z")
    make = _submission if submission else _session
    config, subject, results, notes = make(fields, generation)
    return Experiment(
        id=f"{stamp[1]}T{stamp[2]}Z-{sha256[:8]}",
        status="imported",
        started=started,
        ended=ended,
        subject=subject,
        results=results,
        config=config,
        notes=fields.text("notes" if submission else "benchmark.notes"),
        origin=Origin(
            kind="import",
            id=name,
            format=f"{PROGRAM}/{generation}",
            sha256=sha256,
            notes=notes,
            original=doc,
        ),
        facts=_facts(fields),
    )


def _generation(doc: Mapping[str, Any], id: str, ended: str) -> int:
    """Of the record of one session."""
    results = doc["results"] if isinstance(doc["results"], Mapping) else {}
    gradient = doc.get("gradient")
    if results.keys() & {"per_run_results", "learning_speed"}:
        return 5
    if "converged" not in results:
        return 1
    if isinstance(gradient, Mapping) and "max_norm" in gradient:
        return 4
    digits = re.sub(r"\D", "", ended)[:14]
    return 2 if id.replace("_", "") == digits else 3


def _session(fields: _Fields, generation: int) -> tuple[Config, Subject, Results, tuple[str, ...]]:
    total = fields.count("results.total_runs")
    if total is None:
        raise fields.wrong("results.total_runs", "missing")
    notes = [
        "origin.original.results.avg_distance_efficiency is over the runs that have one; how many"
        " those are is not recorded",
        "config.data holds what the record says of the configuration, not the whole of it",
    ]
    if generation > 1:
        notes.append("composite_benchmark_score is theirs, a weighted sum, and stays in `original`")
    metrics = {}
    for ours, theirs in (
        ("foods_collected", "avg_foods_collected"),
        ("predator_encounters", "avg_predator_encounters"),
        ("successful_evasions", "avg_successful_evasions"),
        ("distance_efficiency", "avg_distance_efficiency"),
    ):
        mean = fields.number(f"results.{theirs}")
        if mean is not None and total:
            metrics[ours] = Spread(n=None, mean=Measure(mean))
    ends = {ours: fields.count(f"results.{theirs}") for ours, theirs in TERMINATIONS.items()}
    # Of no runs at all they write 0.0 where nothing is meant.
    reward = fields.number("results.avg_reward") if total else None
    if generation == 1:
        notes.insert(
            0,
            "their avg_reward is the sum of gradient strengths along the path, not of rewards: it"
            " stays in `original`, and avg_reward is absent here",
        )
        reward = None
    if generation in (1, 2):
        notes.append("one time is recorded, that of the end: `started` is the same")
    else:
        notes.append("`started` is the time in their id")
    results = Results(
        episodes=total,
        success_rate=fields.rate("results.success_rate") if total else None,
        avg_steps=_measure(fields.number("results.avg_steps") if total else None),
        avg_reward=_measure(reward),
        terminations={end: count for end, count in ends.items() if count},
        metrics=metrics,
    )
    brain = fields.text("brain.type") or ""
    category = fields.text("benchmark.category")
    config = Config(
        label=fields.text("config_file") or "",
        sha256=fields.text("config_hash"),
        data={key: fields.doc[key] for key in SECTIONS if fields.doc.get(key) is not None},
    )
    subject = Subject(
        environment=fields.text("environment.type") or "",
        brain=brain,
        family=_family(category, brain),
        device=fields.text("system.device_type") or "",
        backend=fields.text("system.qpu_backend"),
    )
    return config, subject, results, tuple(notes)


def _submission(fields: _Fields, _: int) -> tuple[Config, Subject, Results, tuple[str, ...]]:
    sessions = fields.doc["sessions"]
    if not isinstance(sessions, list) or not all(isinstance(one, Mapping) for one in sessions):
        raise fields.wrong("sessions", "expected a list of mappings")
    total = fields.count("total_runs")
    if total is None:
        raise fields.wrong("total_runs", "missing")
    metrics = {}
    efficiency = fields.number("metrics.distance_efficiency.mean")
    most = fields.number("metrics.distance_efficiency.max")
    # Where no session has one they write zeros.
    if efficiency is not None and most:
        metrics["distance_efficiency"] = Spread(n=None, mean=Measure(efficiency))
    brain = fields.text("brain_type") or ""
    category = fields.text("category")
    config = Config(
        label="",
        data={
            ours: fields.doc[theirs]
            for ours, theirs in (("environment", "environment"), ("brain", "brain_config"))
            if fields.doc.get(theirs) is not None
        },
    )
    subject = Subject(
        environment=fields.text("environment.type") or "",
        brain=brain,
        family=_family(category, brain),
        device="",
    )
    results = Results(
        episodes=total,
        success_rate=fields.rate("metrics.success_rate.mean") if sessions else None,
        metrics=metrics,
    )
    notes = (
        f"several sessions, {len(sessions)} of them: success_rate and the metrics are means over"
        " the means of the sessions, whose seeds are in `original`",
        "their std divides by the number of sessions, not by one less",
        "no configuration file is named: `label` is empty",
        "composite_score, learning_speed and stability are theirs and stay in `original`",
        "one time is recorded, that of the submission: `started` and `ended` are it",
    )
    return config, subject, results, notes


def _family(category: str | None, brain: str) -> str:
    """As the category says; without one, as the program sorts its brains."""
    ending = re.split(r"[/_]", category)[-1] if category else ""
    if ending in ("quantum", "classical"):
        return ending
    return "quantum" if brain in QUANTUM else "classical" if brain else ""


def _facts(fields: _Fields) -> dict[str, Any]:
    """Code and system where the built-in `metadata` puts them, so that filters find them."""
    dirty = fields.value("git_dirty")
    git = {
        "commit": fields.text("git_commit"),
        "branch": fields.text("git_branch"),
        "dirty": dirty if type(dirty) is bool else None,
    }
    system = {name: fields.text(f"system.{name}_version") for name in ("python", "qiskit", "torch")}
    found = {
        "git": {key: value for key, value in git.items() if value is not None},
        "system": {key: value for key, value in system.items() if value is not None},
    }
    metadata = {key: section for key, section in found.items() if section}
    return {METADATA: metadata} if metadata else {}


def _measure(value: float | None) -> Measure | None:
    return None if value is None else Measure(value)


class _Fields:
    """The fields of a document; absent or null is None, the wrong type an error."""

    def __init__(self, doc: Mapping[str, Any], file: str) -> None:
        self.doc = doc
        self.file = file

    def wrong(self, field: str, cause: str) -> StorageError:
        return StorageError(cause, file=self.file, field=field)

    def value(self, field: str) -> Any:
        at: Any = self.doc
        passed = ""
        for name in field.split("."):
            if at is None:
                return None
            if not isinstance(at, Mapping):
                raise self.wrong(passed, "expected a mapping")
            at = at.get(name)
            passed = f"{passed}.{name}".lstrip(".")
        return at

    def text(self, field: str) -> str | None:
        value = self.value(field)
        if value is None or type(value) is str:
            return value
        raise self.wrong(field, "expected text")

    def number(self, field: str) -> float | None:
        value = self.value(field)
        if value is None or type(value) in (int, float):
            return None if value is None else float(value)
        raise self.wrong(field, "expected a number")

    def rate(self, field: str) -> float | None:
        value = self.number(field)
        if value is None or 0 <= value <= 1:
            return value
        raise self.wrong(field, f"expected a rate from 0 to 1, got {value:g}")

    def count(self, field: str) -> int | None:
        value = self.value(field)
        if value is None or (type(value) is int and 0 <= value < 2**53):
            return value
        raise self.wrong(field, "expected a whole number, 0 or more")

    def time(self, field: str) -> str:
        return self.time_of(field, self.text(field) or "")

    def time_of(self, field: str, text: str) -> str:
        """An ISO time as ours, in UTC; theirs are."""
        try:
            when = datetime.fromisoformat(text)
            if when.tzinfo is None:
                when = when.replace(tzinfo=UTC)
            return utc(when.timestamp())
        except (ValueError, OverflowError):
            raise self.wrong(field, f"expected a time, got {text[:40]!r}") from None
