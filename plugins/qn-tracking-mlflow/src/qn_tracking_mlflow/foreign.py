"""Converts a run of MLflow that another program made to an experiment.

`origin.original` has all its fields, and a file beside the record all values of its metrics. Other
fields of the record are set only if they have the same meaning. MLflow has steps, not episodes, so
the record has no episodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import fsum, isfinite, sqrt
from typing import TYPE_CHECKING, Any

import orjson

from qn_tracking.plugin import (
    Attachment,
    Config,
    Experiment,
    Measure,
    Origin,
    Results,
    Spread,
    canonical,
    digest,
    plain,
    redact_text,
    redact_value,
    utc,
)
from qn_tracking_mlflow.content import Value

if TYPE_CHECKING:
    from mlflow.entities import Run

FORMAT = "mlflow"
HISTORY = "mlflow-history.jsonl"
RUNNING = ("RUNNING", "SCHEDULED")

NOTES = (
    "MLflow has steps, not episodes: `results.episodes` is 0, and `results.metrics` covers the"
    f" logged values, all of which are in {HISTORY}",
    "config.data has its parameters, which MLflow stores as text",
    "its artifacts were not copied",
)


def experiment(run: Run, name: str, history: Mapping[str, Sequence[Value]]) -> Experiment:
    """Make the record; `name` is that of the experiment in MLflow, `history` has all values.

    The id derives from MLflow's, so that importing a run again gives the same record.
    """
    data = history_file(history)
    original = _original(run, name, data)
    info, tags = original["info"], original["tags"]
    notes = list(NOTES)
    started, ended = info["start_time"], info["end_time"]
    if ended is None:
        last = max((value[2] for values in history.values() for value in values), default=None)
        notes.append(
            f"it was {info['status']} when it was imported: `ended` is the time of the last value"
            if last is not None
            else f"it was {info['status']} when it was imported: `ended` is `started`"
        )
        ended = last
    start = utc((started or 0) / 1000)
    if started is None:
        notes.append("its start is not recorded: `started` is 1970")
    stamp = start[:19].replace("-", "").replace(":", "")
    metadata = {
        key: tags[f"mlflow.source.git.{key}"]
        for key in ("commit", "branch")
        if f"mlflow.source.git.{key}" in tags
    }
    return Experiment(
        id=f"{stamp}Z-{digest(info['run_id'].encode())[:8]}",
        status="imported",
        started=start,
        ended=start if ended is None else utc(ended / 1000),
        wall_seconds=(ended - started) / 1000 if info["end_time"] and started else None,
        results=Results(metrics={key: _spread(one) for key, one in history.items() if one}),
        tags={key: text for key, text in tags.items() if not key.startswith("mlflow.")},
        notes=tags.get("mlflow.note.content"),
        config=Config(label=tags.get("mlflow.source.name", ""), data=original["params"]),
        attachments=(
            (Attachment(name=HISTORY, size=len(data), sha256=digest(data)),) if data else ()
        ),
        origin=Origin(
            kind="import",
            id=info["run_id"],
            format=FORMAT,
            sha256=digest(canonical(original)),
            notes=tuple(notes),
            original=original,
        ),
        facts={"metadata": {"git": metadata}} if metadata else {},
    )


def history_file(history: Mapping[str, Iterable[Value]]) -> bytes:
    """Return all values of all metrics as JSON, one per line, by name and then in order."""
    return b"".join(
        orjson.dumps(plain({"key": key, "step": step, "timestamp": at, "value": value})) + b"\n"
        for name in sorted(history)
        for key, value, at, step in history[name]
    )


def _original(run: Run, name: str, history: bytes) -> dict[str, Any]:
    """Return all fields of the run, without secrets."""
    info = run.info
    original: dict[str, Any] = {
        "info": {
            "run_id": info.run_id,
            "run_name": info.run_name,
            "experiment_id": info.experiment_id,
            "experiment": name,
            "user_id": info.user_id,
            "status": info.status,
            "start_time": info.start_time,
            "end_time": info.end_time,
            "lifecycle_stage": info.lifecycle_stage,
            "artifact_uri": redact_text(info.artifact_uri or ""),
        },
        "params": redact_value(dict(sorted(run.data.params.items()))),
        "metrics": dict(sorted(run.data.metrics.items())),
        "tags": redact_value(dict(sorted(run.data.tags.items()))),
        "history_sha256": digest(history),
    }
    # As JSON, so that the digest is the same after reading the record.
    return json.loads(canonical(original))


def _spread(values: Sequence[Value]) -> Spread:
    numbers = [value[1] for value in values]
    n = len(numbers)
    if all(map(isfinite, numbers)):
        mean = fsum(number / n for number in numbers)
        squares = fsum((number - mean) * (number - mean) for number in numbers)
        sd = sqrt(squares / (n - 1)) if n > 1 and isfinite(squares) else None
    else:
        mean, sd = sum(numbers) / n, None
    known = [number for number in numbers if number == number]
    least, most = (min(known), max(known)) if known else (None, None)
    return Spread(
        n=n,
        mean=Measure(mean),
        sd=None if sd is None else Measure(sd),
        min=None if least is None else Measure(least),
        max=None if most is None else Measure(most),
    )
