"""Sends runs. Sending the same data twice changes nothing; different data for an id is refused.

Every function works inside a transaction of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from os.path import exists, getsize, join
from typing import TYPE_CHECKING, Any

from attrs import astuple, evolve

from qn_tracking.plugin import (
    RECORD,
    Episode,
    Experiment,
    QnError,
    StorageError,
    Tally,
    check_id,
    paths,
    phases,
    read,
    series,
    spool,
    structure,
)
from qn_tracking_postgres.rows import Run, Sealed, as_jsonb, of_episodes, of_experiment

if TYPE_CHECKING:
    from psycopg import Connection

SIZE = 500
"""The number of episodes in a statement."""


class RefusedError(StorageError):
    """The server has different data for this id; trying again does not help."""


def send_run(connection: Connection[Any], run: Run) -> None:
    """Insert a run, unless its id is known."""
    connection.execute(
        "INSERT INTO runs (id, started, host, environment, brain, family, seed, episodes_asked,"
        " about, config) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (id) DO NOTHING",
        astuple(run),
    )


def send_episodes(connection: Connection[Any], id: str, episodes: Sequence[Episode]) -> None:
    """Insert the missing episodes. Raises RefusedError if the server has a different one."""
    # The elements of a json array keep their text; jsonb would change it.
    sent = connection.execute(
        "INSERT INTO episodes (id, index, seed, success, termination, steps, reward, counts,"
        " metrics, at, exact, timing)"
        " SELECT %s, (e->>'index')::bigint, (e->>'seed')::bigint, (e->>'success')::boolean,"
        " e->>'termination', (e->>'steps')::bigint, (e->>'reward')::double precision,"
        " (e->'counts')::jsonb, (e->'metrics')::jsonb, at, convert_to(exact::text, 'UTF8'), timing"
        " FROM ROWS FROM (json_array_elements(%s::json), json_array_elements(%s::json),"
        " unnest(%s::double precision[]), json_array_elements(%s::json))"
        " AS given (exact, shown, at, timing), coalesce(shown, exact) AS e"
        " ON CONFLICT (id, index) DO NOTHING",
        (id, *astuple(of_episodes(episodes))),
    ).rowcount
    if sent < len(episodes):
        _compare(connection, id, episodes)


def _compare(connection: Connection[Any], id: str, episodes: Sequence[Episode]) -> None:
    there = connection.execute(
        "SELECT index, exact FROM episodes WHERE id = %s AND index = ANY(%s::bigint[])",
        (id, [episode.index for episode in episodes]),
    ).fetchall()
    ours = {episode.index: episode.exact for episode in episodes}
    for index, exact in there:
        if ours[index] != exact:
            raise RefusedError(
                f"another episode {index} with this id is on the server", file="postgres", field=id
            )


def send_sealed(connection: Connection[Any], sealed: Sealed) -> bool:
    """Insert a record and its files; return False if the server had it already.

    The record of a run that was resumed replaces that of an earlier life. Raises RefusedError if
    the server has another record with this id.
    """
    id = sealed.run.id
    send_run(connection, sealed.run)
    new = connection.execute(
        "INSERT INTO experiments (id, document, record, started, ended)"
        " VALUES (%s, %b, %s::jsonb, %s, %s) ON CONFLICT (id) DO NOTHING",
        (id, sealed.document, as_jsonb(sealed.document), sealed.run.started, sealed.ended),
    ).rowcount
    if not new and _replace(connection, id, sealed):
        new = 1
    elif not new:
        _compare_record(connection, id, sealed.document)
    for name, data in sealed.files.items():
        connection.execute(
            "INSERT INTO files (id, name, data) VALUES (%s, %s, %b)"
            " ON CONFLICT (id, name) DO NOTHING",
            (id, name, data),
        )
    return new == 1


def _replace(connection: Connection[Any], id: str, sealed: Sealed) -> bool:
    """Replace the record of an earlier life, and its files; return False if it is none."""
    lives = read.parse(sealed.document, id).get("lives") or []
    if not lives:  # a role that only adds may not lock a row
        return False
    row = connection.execute(
        "SELECT document FROM experiments WHERE id = %s FOR UPDATE", (id,)
    ).fetchone()
    there = None if row is None else sha256(bytes(row[0])).hexdigest()
    if there not in [life.get("sha256") for life in lives]:
        return False
    connection.execute(
        "UPDATE experiments SET document = %b, record = %s::jsonb, ended = %s WHERE id = %s",
        (sealed.document, as_jsonb(sealed.document), sealed.ended, id),
    )
    connection.execute("DELETE FROM files WHERE id = %s", (id,))
    return True


def _compare_record(connection: Connection[Any], id: str, document: bytes) -> None:
    """Compare records as data if the bytes differ: git may have changed line ends."""
    row = connection.execute("SELECT document FROM experiments WHERE id = %s", (id,)).fetchone()
    there = b"" if row is None else bytes(row[0])
    if there != document:
        try:
            same = read.parse(there, "postgres") == read.parse(document, id)
        except QnError:
            same = False
        if not same:
            cause = "another record with this id is on the server"
            raise RefusedError(cause, file="postgres", field=id)


def send_stored(
    connection: Connection[Any], experiments: str, id: str, *, partial: bool = False
) -> bool:
    """Send a stored experiment with its available files and episodes; return False if the server
    had its record already.

    With `partial`, the journal may start after episode 0, because the server has the others.
    Raises StorageError for files that do not match the record, FileNotFoundError without a record.
    """
    path = paths.record(experiments, id)
    folder = paths.run_folder(experiments, id)
    data, _ = read.load(path)
    doc = RECORD.current(read.parse(data, path), path)
    read.same_id(doc, id, path)
    experiment = structure(doc, Experiment, file=path, error=StorageError)
    new = send_sealed(connection, of_experiment(experiment, data, _files(experiment, folder)))
    journal = join(folder, "episodes.jsonl")
    if exists(journal):
        first = spool.first(journal) if partial else 0
        _send_journal(connection, experiment, read.Lines(journal, 0, first))
    return new


def _files(experiment: Experiment, folder: str) -> dict[str, bytes]:
    """Return run.json and the files that a record names, after checking their digests."""
    wanted: dict[str, str | None] = {"run.json": None}
    wanted.update((attachment.name, attachment.sha256) for attachment in experiment.attachments)
    found = {}
    for name, digest in wanted.items():
        path = join(folder, check_id(name))
        try:
            data, _ = read.load(path)
        except FileNotFoundError:
            continue
        if digest is not None and sha256(data).hexdigest() != digest:
            raise StorageError("is not the file that the record names", file=path)
        found[name] = data
    return found | beside(folder)


def beside(folder: str, warn: Callable[[str], None] = lambda text: None) -> dict[str, bytes]:
    """Return the files of the other phases and of the series, if there are any.

    One that is larger than a file of the table should be is left out with a warning.
    """
    found = {}
    for name in (phases.NAME, series.NAME):
        path = join(folder, name)
        if not exists(path):
            continue
        if getsize(path) > read.MAX_BYTES:
            warn(f"postgres: {path} is too large, and is not sent")
        else:
            found[name], _ = read.load(path)
    return found


def _send_journal(connection: Connection[Any], experiment: Experiment, lines: read.Lines) -> None:
    whole = lines.count == 0
    tally = Tally()
    rest: Iterator[Episode] = iter(lines)
    while batch := list(islice(rest, SIZE)):
        for episode in batch:
            tally.add(episode)
        send_episodes(connection, experiment.id, batch)
    # If storing failed, the journal is shorter than the record, which has the failure.
    torn = any(failure.storage for failure in experiment.failures)
    found, recorded = tally.digests(), experiment.digests
    if recorded is not None:  # that of the series is not of these lines
        found = evolve(found, series=recorded.series)
    if whole and not torn and recorded not in (None, found):
        raise StorageError("does not hold the episodes of the record", file=lines.path)
