"""Converts records to rows: exact bytes, and columns for queries in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from attrs import frozen

from qn_tracking.plugin import Episode, Experiment, RunInfo, read

NUL = b"\\u0000"
"""NUL in JSON; PostgreSQL cannot store it in a text."""


@frozen(kw_only=True)
class Run:
    """A row of `runs`; `about` has the bytes of run.json, `config` those of config.yml."""

    id: str
    started: datetime | None
    host: str | None
    environment: str
    brain: str
    family: str
    seed: int | None
    episodes_asked: int | None
    about: bytes | None
    config: bytes | None


@frozen(kw_only=True)
class Sealed:
    """A run that has ended: its row, the bytes of its record, and its files by name."""

    run: Run
    ended: datetime | None
    document: bytes
    files: Mapping[str, bytes]


def of_experiment(experiment: Experiment, document: bytes, files: Mapping[str, bytes]) -> Sealed:
    """Return the rows of a run that has ended; run.json has its host, if it is in `files`."""
    about = files.get("run.json")
    host = None if about is None else read.parse(about, "run.json").get("host")
    return Sealed(
        run=_run(experiment, host if type(host) is str else None, about, files.get("config.yml")),
        ended=moment(experiment.ended),
        document=document,
        files=files,
    )


def of_run(run: RunInfo, about: bytes, host: str) -> Run:
    """Return the row of a run that is about to start on this host."""
    return _run(run, host, about, run.config.text.encode())


def _run(
    known: RunInfo | Experiment, host: str | None, about: bytes | None, config: bytes | None
) -> Run:
    return Run(
        id=known.id,
        started=moment(known.started),
        host=None if host is None else text(host),
        environment=text(known.subject.environment),
        brain=text(known.subject.brain),
        family=text(known.subject.family),
        seed=known.seed,
        episodes_asked=known.episodes,
        about=about,
        config=config,
    )


@frozen(kw_only=True)
class Batch:
    """Episodes as four texts, which the server splits; that is faster than single rows.

    `exact` and `timing` are JSON arrays whose elements are stored unchanged; `at` is an array of
    PostgreSQL. `shown` is `exact` without NUL, or None if `exact` has none.
    """

    exact: str
    shown: str | None
    at: str
    timing: str


def of_episodes(episodes: Sequence[Episode]) -> Batch:
    """Return episodes of one run as a batch."""
    exact = b"[%b]" % b",".join([episode.exact for episode in episodes])
    times = [episode.timing.get("at") for episode in episodes]
    return Batch(
        exact=exact.decode(),
        shown=orjson.dumps(clean(orjson.loads(exact))).decode() if NUL in exact else None,
        at=f"{{{','.join(['NULL' if at is None else repr(at) for at in times])}}}",
        timing=orjson.dumps([episode.timing for episode in episodes]).decode(),
    )


def as_jsonb(document: bytes) -> str:
    """Return a record as text that jsonb accepts."""
    if NUL not in document:
        return document.decode()
    return orjson.dumps(clean(read.parse(document, "record"))).decode()


def text(value: str) -> str:
    """Return the text with U+FFFD in place of NUL."""
    return value.replace("\0", "\ufffd")


def clean(value: Any) -> Any:
    """Return plain data with `text` applied to every text."""
    if type(value) is str:
        return text(value)
    if type(value) is dict:
        return {text(key): clean(item) for key, item in value.items()}
    if type(value) is list:
        return [clean(item) for item in value]
    return value


def moment(started: str) -> datetime | None:
    """Return a time of a record; None if it is invalid."""
    from datetime import UTC

    try:
        when = datetime.fromisoformat(started)
        return when if when.tzinfo else when.replace(tzinfo=UTC)
    except ValueError:
        return None
