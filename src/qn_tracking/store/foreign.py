"""Records of Quantum Nematode, in the generations of its own format, as experiments.

Their whole document stays in `origin.original`; only what means the same here is copied out of it,
and what they do not say is absent. Which generation a document is of shows in its fields:

    1   from 2025-11-09   results without convergence
    2   from 2025-11-23   convergence and predators; the id is the time of the end
    3   from 2025-11-27   the id is the time of the start
    4   from 2025-11-30   the gradient's `max_norm`
    5   from 2025-12-28   submissions of several sessions, and the sessions with all their runs
    6   from 2025-12-28   of the configuration a summary; its file is kept beside the record
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import evolve

from qn_tracking.config import from_text
from qn_tracking.errors import ConfigError, StorageError, short
from qn_tracking.ids import utc
from qn_tracking.records.codec import attachment, canonical, digest, plain
from qn_tracking.records.facts import METADATA
from qn_tracking.records.limits import MAX_INT
from qn_tracking.records.model import (
    EMPTY,
    Config,
    Episode,
    Experiment,
    FrozenDict,
    Measure,
    Origin,
    Results,
    Spread,
    Subject,
)
from qn_tracking.records.stats import Tally
from qn_tracking.redact import redact_config

PROGRAM = "quantum-nematode"
FAMILIES = {
    "quantum": (
        "equivariantquantum hybridquantum hybridquantumcortex modular qef qliflstm qmodular"
        " qqlearning qrc qrh qrhqlstm qsnnppo qsnnreinforce qvarcircuit"
    ),
    "classical": (
        "cfcppo connectomeppo crh crhqlstm feedforwardga hybridclassical lstmppo mingruppo"
        " minlstmppo mlp mlpdqn mlpppo mlpreinforce ppo qmlp spiking spikingppo spikingreinforce"
        " transformerppo"
    ),
}
"""The brains of each family, as the program registered them in July 2026."""
FAMILY = {brain: family for family, brains in FAMILIES.items() for brain in brains.split()}
SECTIONS = ("environment", "brain", "reward", "learning_rate", "gradient", "config_summary")
TERMINATIONS = {
    "completed_all_food": "completed_all_food",
    "goal_reached": "goal_reached",
    "starved": "starved",
    "max_steps": "max_steps_reached",
    "predator": "predator_deaths",
    "health_depleted": "health_depleted",
}
EPISODE = ("run", "seed", "success", "steps", "total_reward", "termination_reason")
"""Fields of an episode that are no metrics."""

# A suffix keeps apart what started in one second.
_STAMP = re.compile(r"([0-9]{8})_([0-9]{6})(?:[_-][A-Za-z0-9_-]{1,60})?")


def recognise(doc: Mapping[str, Any]) -> bool:
    """Whether a document looks like one of theirs."""
    session = {"experiment_id", "results"} <= doc.keys() and (
        "config_summary" in doc or {"brain", "environment"} <= doc.keys()
    )
    return session or {"submission_id", "sessions", "metrics"} <= doc.keys()


def experiment(
    doc: Mapping[str, Any], sha256: str, file: str, beside: Mapping[str, bytes] = EMPTY
) -> tuple[Experiment, tuple[Episode, ...]]:
    """A record of Quantum Nematode as an experiment, and its episodes where it holds them.

    The id derives from its id and the digest of its file: two published records share an id, and
    importing a file again gives the same record. `beside` are the YAML files of its folder: one may
    be its configuration. Raises StorageError naming an invalid field.
    """
    fields = _Fields(doc, file)
    submission = "submission_id" in doc
    name = fields.text("submission_id" if submission else "experiment_id")
    stamp = _STAMP.fullmatch(name or "")
    if name is None or stamp is None:
        raise fields.wrong("submission_id" if submission else "experiment_id", "expected a time")
    ended = fields.time("timestamp")
    generation = 5 if submission else _generation(doc, name, ended)
    started = ended
    episodes: tuple[Episode, ...] = ()
    if submission:
        config, subject, results, notes = _submission(fields)
    else:
        config, subject, results, notes = _session(fields, generation, beside)
        episodes = _episodes(fields, notes)
        if generation in (1, 2):
            notes.append("one time is recorded, that of the end: `started` is the same")
        elif (named := fields.time_of("experiment_id", f"{stamp[1]}T{stamp[2]}Z")) > ended:
            notes.append("the time in their id is after the end: `started` is the end")
        else:
            started = named
            notes.append("`started` is the time in their id")
    if len(episodes) > results.episodes:
        cause = f"{len(episodes)} episodes, but total_runs is {results.episodes}"
        raise fields.wrong("results.per_run_results", cause)
    tally = Tally.of(episodes)
    whole = bool(episodes) and len(episodes) == results.episodes
    if whole:
        results = _counted(tally.results(), results, notes)
    elif episodes:
        has = f"{len(episodes)} of {results.episodes}"
        notes.append(f"holds {has} episodes: the results are theirs")
    return Experiment(
        id=f"{stamp[1]}T{stamp[2]}Z-{sha256[:8]}",
        status="imported",
        started=started,
        ended=ended,
        subject=subject,
        results=results,
        digests=tally.digests() if whole else None,
        config=config,
        notes=fields.text("notes" if submission else "benchmark.notes"),
        attachments=(attachment("config.yml", config.text.encode()),) if config.text else (),
        origin=Origin(
            kind="import",
            id=name,
            format=f"{PROGRAM}/{generation}",
            sha256=sha256,
            notes=tuple(notes),
            original=doc,
        ),
        facts=_facts(fields),
    ), episodes


def _episodes(fields: _Fields, notes: list[str]) -> tuple[Episode, ...]:
    """Every episode that a session holds; further numbers are counts or metrics by their type."""
    runs = fields.value("results.per_run_results") or []
    if type(runs) is not list or not all(isinstance(run, Mapping) for run in runs):
        raise fields.wrong("results.per_run_results", "expected a list of mappings")
    if [run.get("run") for run in runs] != list(range(1, len(runs) + 1)):
        notes.append("their numbers of runs do not count from 1: `index` is the place in the file")
    names = dict.fromkeys(name for run in runs for name in run if name not in EPISODE)
    kinds = {name: {type(run.get(name)) for run in runs} - {type(None)} for name in names}
    counts = [name for name, kind in kinds.items() if kind == {int}]
    metrics = [name for name, kind in kinds.items() if kind in ({float}, {int, float})]
    out = []
    for i, run in enumerate(runs):
        one = _Fields(run, fields.file, f"results.per_run_results[{i}].")
        success, reward, seed = run.get("success"), one.number("total_reward"), run.get("seed")
        if success is not None and type(success) is not bool:
            raise one.wrong("success", "expected true or false")
        episode = Episode(
            index=i,
            # A negative number is what they write for none.
            seed=None if type(seed) is int and seed < 0 else one.count("seed"),
            success=success,
            termination=one.text("termination_reason"),
            steps=one.count("steps"),
            reward=_measure(reward),
            counts=FrozenDict({name: run[name] for name in counts if one.number(name) is not None}),
            metrics=FrozenDict(
                {name: _measure(one.number(name)) for name in metrics if run.get(name) is not None}
            ),
            timing=FrozenDict(),
        )
        exact = {name: value for name, value in plain(episode).items() if name != "timing"}
        out.append(evolve(episode, exact=canonical(exact)))
    return tuple(out)


def _counted(found: Results, theirs: Results, notes: list[str]) -> Results:
    """What the episodes give, and of theirs the means of what is not in the episodes."""
    for field in ("success_rate", "avg_steps", "avg_reward"):
        said, computed = getattr(theirs, field), getattr(found, field)
        if said is not None and computed is not None and abs(said - computed) > 1e-6:
            notes.append(f"their {field} is {said:.6g}, but their episodes give {computed:.6g}")
    return evolve(found, metrics={**theirs.metrics, **found.metrics})


def _generation(doc: Mapping[str, Any], id: str, ended: str) -> int:
    """Of the record of one session."""
    results = doc["results"] if isinstance(doc["results"], Mapping) else {}
    gradient = doc.get("gradient")
    if "config_summary" in doc:
        return 6
    if results.keys() & {"per_run_results", "learning_speed"}:
        return 5
    if "converged" not in results:
        return 1
    if isinstance(gradient, Mapping) and "max_norm" in gradient:
        return 4
    digits = re.sub(r"\D", "", ended)[:14]
    return 2 if id.replace("_", "") == digits else 3


Parts = tuple[Config, Subject, Results, list[str]]


def _session(fields: _Fields, generation: int, beside: Mapping[str, bytes]) -> Parts:
    total = fields.count("results.total_runs")
    if total is None:
        raise fields.wrong("results.total_runs", "missing")
    config, notes = _config(fields, beside)
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
    results = Results(
        episodes=total,
        success_rate=fields.rate("results.success_rate") if total else None,
        avg_steps=_measure(fields.number("results.avg_steps") if total else None),
        avg_reward=_measure(reward),
        terminations={end: count for end, count in ends.items() if count},
        metrics=metrics,
    )
    brain = fields.text("brain.type") or fields.text("config_summary.brain_type") or ""
    environment = fields.text("environment.type") or fields.text("config_summary.environment_type")
    subject = Subject(
        environment=environment or "",
        brain=brain,
        family=FAMILY.get(brain, ""),
        device=fields.text("system.device_type") or "",
        backend=fields.text("system.qpu_backend"),
    )
    return config, subject, results, notes


def _config(fields: _Fields, beside: Mapping[str, bytes]) -> tuple[Config, list[str]]:
    """What the record says of the configuration, or all of it, if its very file is beside it."""
    notes = []
    if not fields.value("results.per_run_results"):
        notes.append(
            "origin.original.results.avg_distance_efficiency is over the runs that have one; how"
            " many those are is not recorded"
        )
    sha256, label = fields.text("config_hash"), fields.text("config_file") or ""
    data = {key: fields.doc[key] for key in SECTIONS if fields.doc.get(key) is not None}
    config = Config(label=label, sha256=sha256, data=data)
    for name, text in beside.items():
        if digest(text) != sha256:
            continue
        try:
            whole = redact_config(from_text(text.decode("utf-8-sig"), name, {}))
            return evolve(whole, label=label, sha256=sha256, digest=None), notes
        except (UnicodeDecodeError, ConfigError) as error:
            notes.append(f"their configuration cannot be read: {error}")
            break
    else:
        if beside:
            others = short(", ".join(beside))
            notes.append(f"left out, not being the file of their config_hash: {others}")
    notes.append("config.data holds what the record says of the configuration, not the whole of it")
    return config, notes


def _submission(fields: _Fields) -> Parts:
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
        family=FAMILY.get(brain, ""),
        device="",
    )
    results = Results(
        episodes=total,
        success_rate=fields.rate("metrics.success_rate.mean") if sessions else None,
        metrics=metrics,
    )
    notes = [
        f"several sessions, {len(sessions)} of them: success_rate and the metrics are means over"
        " the means of the sessions, whose seeds are in `original`",
        "their std divides by the number of sessions, not by one less",
        "no configuration file is named: `label` is empty",
        "composite_score, learning_speed and stability are theirs and stay in `original`",
        "one time is recorded, that of the submission: `started` and `ended` are it",
    ]
    return config, subject, results, notes


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

    def __init__(self, doc: Mapping[str, Any], file: str, above: str = "") -> None:
        self.doc = doc
        self.file = file
        self.above = above

    def wrong(self, field: str, cause: str) -> StorageError:
        return StorageError(cause, file=self.file, field=f"{self.above}{field}")

    def value(self, field: str) -> Any:
        if field in self.doc:
            return self.doc[field]
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
        if type(value) is float or (type(value) is int and -MAX_INT < value < MAX_INT):
            return float(value)
        if value is None:
            return None
        raise self.wrong(field, "expected a number" + " below 2**53" * (type(value) is int))

    def rate(self, field: str) -> float | None:
        value = self.number(field)
        if value is None or 0 <= value <= 1:
            return value
        raise self.wrong(field, f"expected a rate from 0 to 1, got {value:g}")

    def count(self, field: str) -> int | None:
        value = self.value(field)
        if value is None or (type(value) is int and 0 <= value < MAX_INT):
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
            return utc(when.astimezone(UTC).timestamp())
        except (ValueError, OverflowError):
            raise self.wrong(field, f"expected a time, got {text[:40]!r}") from None
