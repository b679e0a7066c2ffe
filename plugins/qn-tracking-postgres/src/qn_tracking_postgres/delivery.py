"""Sends one run to the server: its episodes during the run, its record at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os.path import exists, join
from threading import Lock
from typing import TYPE_CHECKING, Any

from qn_tracking.plugin import Episode, paths, spool
from qn_tracking_postgres import schema
from qn_tracking_postgres.place import OURS
from qn_tracking_postgres.rows import Run, Sealed
from qn_tracking_postgres.sending import (
    RefusedError,
    send_episodes,
    send_run,
    send_sealed,
    send_stored,
)
from qn_tracking_postgres.server import Server, UnreachableError

if TYPE_CHECKING:
    from psycopg import Connection

Item = Episode | Sealed

BACKLOG = 50_000
"""The largest number of episodes in memory, if a journal has them as well."""
CLOSE_SECONDS = 1.0


def flush(
    server: Server, experiments: str, stop: Callable[[], bool] = lambda: False
) -> spool.Flushed:
    """Send the runs that wait, until `stop` returns True. Raises StorageError."""
    if not spool.waiting(experiments, OURS):
        return spool.Flushed()
    with schema.prepared(server) as connection:

        def send(folder: str, id: str) -> None:
            with server.transaction(connection):
                send_stored(connection, folder, id, partial=True)

        return spool.flush(experiments, OURS, send, UnreachableError, stop)


class Delivery:
    """Sends items over a connection, which it makes again when it is lost.

    `reached` says whether the server has ever answered. `refused` is a final error; after it, all
    items are dropped. `behind` says that the server was away for so long that the episodes will be
    read from the journal at the end.
    """

    def __init__(self, server: Server, run: Run, experiments: str | None) -> None:
        self.reached = False
        self.refused: RefusedError | None = None
        self.behind = False
        self.backlog: Callable[[], int] = lambda: 0
        self._server = server
        self._run = run
        self._experiments = experiments
        self._connection: Connection[Any] | None = None
        self._lock = Lock()
        self._closed = False

    def open(self) -> Connection[Any]:
        """Connect, create the tables if needed, and insert the run. Raises StorageError."""
        connection = self._server.connect()
        try:
            schema.prepare(self._server, connection)
            with self._server.transaction(connection):
                send_run(connection, self._run)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.reached = True
        return connection

    def deliver(self, items: Sequence[Item]) -> None:
        """Send episodes, and the record after the last one. Raises unless all were sent."""
        sealed = [item for item in items if isinstance(item, Sealed)]
        if self.refused is not None or (self.behind and not sealed):
            return
        with self._lock:
            try:
                connection = self._connection or self.open()
                with self._server.transaction(connection):
                    self._send(connection, items, sealed)
            except RefusedError as error:
                self.refused = error
            except BaseException:
                self._drop()
                if self.backlog() > BACKLOG and self._has_journal():
                    self.behind = True
                    return
                raise
            finally:
                if self._closed:  # while this call was waiting
                    self._drop()

    def _send(
        self, connection: Connection[Any], items: Sequence[Item], sealed: Sequence[Sealed]
    ) -> None:
        if self.behind and self._experiments is not None:
            send_stored(connection, self._experiments, self._run.id)
            return
        episodes = [item for item in items if isinstance(item, Episode)]
        if episodes:
            send_episodes(connection, self._run.id, episodes)
        for one in sealed:
            send_sealed(connection, one)

    def _has_journal(self) -> bool:
        return self._experiments is not None and exists(
            join(paths.run_folder(self._experiments, self._run.id), "episodes.jsonl")
        )

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connection; if a request is waiting, close it when that returns."""
        self._closed = True
        if self._lock.acquire(timeout=CLOSE_SECONDS):
            try:
                self._drop()
            finally:
                self._lock.release()
