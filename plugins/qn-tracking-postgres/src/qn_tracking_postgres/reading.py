"""Reads from the server: lists of experiments, and whole experiments.

Other people wrote the data. So every column is cast to its type, text is cut to a maximal length,
documents are limited in size, and an experiment passes the same checks as an imported file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from datetime import datetime
from os.path import join
from typing import TYPE_CHECKING, Any

import orjson
from attrs import fields, frozen

from qn_tracking.plugin import (
    RECORD,
    Episode,
    Experiment,
    FrozenDict,
    StorageError,
    UsageError,
    arrival,
    is_id,
    journal,
    paths,
    read,
    recover,
    structure,
    write,
)
from qn_tracking_postgres.server import Server

if TYPE_CHECKING:
    from psycopg import Connection

UNFINISHED = "unfinished"
CANDIDATES = 6
FILES = 1000
"""The largest number of files of a run."""
SIZE = 500
"""The number of episodes fetched at a time."""


# --------------------------------------------------------------------------------------- queries


@frozen(kw_only=True)
class Row:
    """An experiment in a list. The status of a run without a record is `unfinished`."""

    id: str
    started: str | None
    status: str
    environment: str | None
    brain: str | None
    family: str | None
    seed: int | None
    episodes: int | None
    success_rate: float | None
    avg_reward: float | None
    host: str | None
    inserted_by: str | None


COLUMNS = tuple(column.name for column in fields(Row))


@frozen(kw_only=True)
class Filters:
    """Filters: one of the texts, if there are any; started at `since` or later."""

    environment: Sequence[str] = ()
    brain: Sequence[str] = ()
    family: Sequence[str] = ()
    status: Sequence[str] = ()
    since: datetime | None = None
    limit: int = 0


def newest(connection: Connection[Any], filters: Filters) -> tuple[list[Row], int]:
    """Return the newest matching experiments, and the number of all experiments."""
    found = connection.execute(
        """
        SELECT id::text, to_char(started AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
               coalesce(left(status, 200), ''), left(environment, 200), left(brain, 200),
               left(family, 200), seed::bigint, episodes::bigint,
               success_rate::double precision, avg_reward::double precision, left(host, 200),
               left(inserted_by, 200)
        FROM (
            SELECT id, started, status, environment, brain, family, seed, episodes, success_rate,
                   avg_reward, host, inserted_by
            FROM overview
            UNION ALL
            SELECT id, started, 'unfinished', environment, brain, family, seed, episodes,
                   success_rate, NULL, host, inserted_by
            FROM unfinished
        ) AS every
        WHERE (environment = ANY(%(environment)s::text[]) OR %(environment)s::text[] IS NULL)
          AND (brain = ANY(%(brain)s::text[]) OR %(brain)s::text[] IS NULL)
          AND (family = ANY(%(family)s::text[]) OR %(family)s::text[] IS NULL)
          AND (status = ANY(%(status)s::text[]) OR %(status)s::text[] IS NULL)
          AND (started >= %(since)s::timestamptz OR %(since)s::timestamptz IS NULL)
        ORDER BY started DESC NULLS LAST, id DESC
        LIMIT %(limit)s::bigint
        """,
        {
            "environment": list(filters.environment) or None,
            "brain": list(filters.brain) or None,
            "family": list(filters.family) or None,
            "status": list(filters.status) or None,
            "since": filters.since,
            "limit": filters.limit or None,
        },
    ).fetchall()
    total = connection.execute("SELECT count(*) FROM runs").fetchone()
    assert total is not None
    return [Row(**dict(zip(COLUMNS, row, strict=True))) for row in found], total[0]


def counts(connection: Connection[Any]) -> dict[str, int]:
    """Return the numbers of runs, records and episodes, and the bytes of the tables."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM experiments),"
        " (SELECT count(*) FROM episodes),"
        " (SELECT sum(pg_total_relation_size(t.name::regclass))::bigint"
        "  FROM (VALUES ('runs'), ('experiments'), ('episodes'), ('files')) AS t (name))"
    ).fetchone()
    assert row is not None
    return dict(zip(("runs", "records", "episodes", "bytes"), row, strict=True))


def resolve(connection: Connection[Any], text: str) -> str:
    """Return the id for an id or the beginning of one.

    Raises UsageError if it is ambiguous, StorageError if there is none.
    """
    found = connection.execute(
        "SELECT id::text FROM runs WHERE starts_with(id, %s) ORDER BY id = %s DESC, id LIMIT %s",
        (text, text, CANDIDATES),
    ).fetchall()
    ids = [str(id) for (id,) in found if is_id(id)]
    if not ids:
        raise StorageError(
            "no experiment with this id is on the server", file="postgres", field=text
        )
    if len(ids) > 1 and ids[0] != text:
        raise UsageError(f"{text} is ambiguous", hint=", ".join(ids))
    return ids[0]


# ------------------------------------------------------------------------------------- experiments


def document(connection: Connection[Any], id: str) -> bytes | None:
    """Return the bytes of the record, or None. Raises StorageError if it is too large."""
    row = connection.execute(
        "SELECT CASE WHEN octet_length(document) <= %s THEN document::bytea END"
        " FROM experiments WHERE id = %s",
        (read.MAX_BYTES, id),
    ).fetchone()
    if row is None:
        return None
    return _bytes(row[0], id)


def experiment(data: bytes, id: str) -> Experiment:
    """Return a record from the server with all fields checked. Raises StorageError."""
    name = f"postgres: {id}"
    doc = RECORD.current(read.parse(data, name), name)
    read.same_id(doc, id, name)
    return structure(doc, Experiment, file=name, error=StorageError)


def stored_episodes(connection: Connection[Any], id: str) -> int:
    """Return the number of episodes of a run on the server."""
    row = connection.execute("SELECT count(*) FROM episodes WHERE id = %s", (id,)).fetchone()
    assert row is not None
    return int(row[0])


def pull(
    server: Server,
    connection: Connection[Any],
    id: str,
    experiments: str,
    warn: Callable[[str], None],
    *,
    crashed: bool = False,
) -> arrival.Arrived:
    """Download an experiment to a folder of experiments, with the checks of an import.

    With `crashed`, a run without a record gets one, as by `qn-exp recover`. Raises StorageError if
    the data is inconsistent, or if another experiment with this id exists.
    """
    with tempfile.TemporaryDirectory(prefix="qn-postgres-") as stage:
        with server.transaction(connection):
            data = document(connection, id)
            if data is None and not crashed:
                raise StorageError(
                    "has no record yet",
                    file="postgres",
                    field=id,
                    hint="--recover makes the record of a crashed run",
                )
            if data is not None:
                experiment(data, id)  # checks that the record has this id
            _lay_out(connection, id, data, stage)
        try:
            if data is None:
                recover(stage, id, force=True)
            for one in arrival.import_path(experiments, paths.record(stage, id), warn):
                if isinstance(one, arrival.Arrived):
                    return one
                raise one.error
        except StorageError as error:
            # The temporary folder means nothing to the user.
            error.file = (error.file or "").replace(join(stage, ""), "postgres: ")
            raise
    raise StorageError("did not arrive", file="postgres", field=id)


def _lay_out(connection: Connection[Any], id: str, data: bytes | None, stage: str) -> None:
    """Write an experiment into a folder, laid out as a folder of experiments."""
    folder = paths.run_folder(stage, id)
    with write.naming(folder):
        os.makedirs(folder)
        if data is not None:
            write.create(paths.record(stage, id), data)
            names = _file_names(connection, id)
            for name in names:
                write.create(join(folder, name), _file(connection, id, name))
        else:
            names = ["run.json", "config.yml"]
            for name, content in zip(names, _known_before(connection, id), strict=True):
                write.create(join(folder, name), content)
        with closing(_lines(connection, id)) as lines:
            first = next(lines, None)
            if first is not None or "run.json" in names:
                with open(join(folder, "episodes.jsonl"), "xb") as stream:
                    stream.write(first or b"")
                    stream.writelines(lines)
        if first is None and not names:
            os.rmdir(folder)


def _file_names(connection: Connection[Any], id: str) -> list[str]:
    found = connection.execute(
        "SELECT left(name, 200) FROM files WHERE id = %s ORDER BY name LIMIT %s", (id, FILES + 1)
    ).fetchall()
    names = [name for (name,) in found]
    for name in names:
        if not is_id(name):
            raise StorageError(f"{name!r} is not a valid file name", file="postgres", field=id)
    if len(names) > FILES:
        raise StorageError(f"more than {FILES} files", file="postgres", field=id)
    return names


def _file(connection: Connection[Any], id: str, name: str) -> bytes:
    row = connection.execute(
        "SELECT CASE WHEN octet_length(data) <= %s THEN data::bytea END"
        " FROM files WHERE id = %s AND name = %s",
        (read.MAX_BYTES, id, name),
    ).fetchone()
    return _bytes(None if row is None else row[0], f"{id}: {name}")


def _known_before(connection: Connection[Any], id: str) -> tuple[bytes, bytes]:
    row = connection.execute(
        "SELECT CASE WHEN octet_length(about) <= %s THEN about::bytea END,"
        " CASE WHEN octet_length(config) <= %s THEN config::bytea END FROM runs WHERE id = %s",
        (read.MAX_BYTES, read.MAX_BYTES, id),
    ).fetchone()
    about, config = (None, None) if row is None else row
    return _bytes(about, f"{id}: run.json"), _bytes(config, f"{id}: config.yml")


def _bytes(value: Any, field: str) -> bytes:
    if not isinstance(value, bytes):
        cause = f"missing, or larger than {read.MAX_BYTES >> 20} MiB"
        raise StorageError(cause, file="postgres", field=field)
    return value


def _lines(connection: Connection[Any], id: str) -> Generator[bytes, None, None]:
    """Yield the lines of the journal of a run, as they were written."""
    with connection.cursor(name="qn_episodes") as cursor:
        cursor.itersize = SIZE
        cursor.execute(
            "SELECT index::bigint, CASE WHEN octet_length(exact) <= %s THEN exact::bytea END,"
            " CASE WHEN octet_length(timing::text) <= %s THEN timing::text END"
            " FROM episodes WHERE id = %s ORDER BY index",
            (read.MAX_BYTES, read.MAX_BYTES, id),
        )
        for index, exact, timing in cursor:
            field = f"{id}: episode {index}"
            yield _line(index, _bytes(exact, field), _bytes(timing and timing.encode(), field))


def _line(index: int, exact: bytes, timing: bytes) -> bytes:
    # The import reads the line again and checks it.
    try:
        seconds = orjson.loads(timing)
    except ValueError:
        seconds = None
    seconds = seconds if type(seconds) is dict else {}
    episode = Episode(index=index, exact=exact, timing=FrozenDict(seconds))
    return journal.line(episode)
