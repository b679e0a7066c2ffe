"""The plugin: sends episodes in the background during a run, and the record at its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from os.path import join, lexists
from threading import Event, Thread
from time import monotonic

from qn_tracking.plugin import (
    ConfigError,
    Episode,
    Experiment,
    Outbox,
    QnError,
    RunInfo,
    StorageError,
    describe,
    document,
    hookimpl,
    journal,
    paths,
    read,
    spool,
)
from qn_tracking_postgres import rows
from qn_tracking_postgres.delivery import Delivery, Item, flush
from qn_tracking_postgres.place import OURS
from qn_tracking_postgres.rows import Sealed
from qn_tracking_postgres.sending import beside
from qn_tracking_postgres.server import SCHEMA, Server, UnreachableError

NAME = "plugin postgres"
WAIT = 8.0
"""Seconds; after ten, the recorder warns that the plugin hangs."""
NEVER_REACHED = 1.0
"""Seconds to wait at the end for a server that has never answered during the run."""


class Postgres:
    """Sends a run to a PostgreSQL server.

    `dsn`, `dsn_env` and `schema` are explained in `Server`. `wait` is how many seconds the end of
    the run may wait for the server; a later run sends the rest, which is kept in
    `<experiments_dir>/.spool/postgres/`. `unreachable` is `spool` to start a run without a server,
    or `stop`. Raises ConfigError.
    """

    def __init__(
        self,
        *,
        dsn: str | None = None,
        dsn_env: str | None = None,
        schema: str = SCHEMA,
        wait: float = WAIT,
        unreachable: str = "spool",
    ) -> None:
        self._server = Server(dsn=dsn, dsn_env=dsn_env, schema=schema)
        self._server.check(NAME)
        if type(wait) not in (int, float) or not 0 <= wait <= 3600:
            raise ConfigError("expected seconds from 0 to 3600", file=NAME, field="wait")
        if unreachable not in ("spool", "stop"):
            raise ConfigError("expected spool or stop", file=NAME, field="unreachable")
        self._wait = float(wait)
        self._stop = unreachable == "stop"
        self._experiments: str | None = None
        self._about = b""
        self._saved = False
        self._delivery: Delivery
        self._outbox: Outbox[Item]
        self._flusher: Thread | None = None
        self._flushed = spool.Flushed()
        self._over = Event()
        self._warn: Callable[[str], None]

    @hookimpl
    def run_start(self, run: RunInfo, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._experiments = run.experiments_dir
        host = os.uname().nodename
        self._about = journal.run_file(run)
        self._delivery = Delivery(
            self._server, rows.of_run(run, self._about, host), run.experiments_dir
        )
        try:
            self._delivery.open()
        except UnreachableError as error:
            if self._stop:
                raise
            self._warn(f"{error}: the run goes on; its episodes wait for the server")
        else:
            self._begin_flush()
        self._outbox = Outbox(self._delivery.deliver)
        self._delivery.backlog = lambda: self.waiting

    @hookimpl
    def episode_end(self, run: RunInfo, episode: Episode) -> None:
        if episode.phase is None:  # the others come as a file, at the end
            self._outbox.put(episode)

    @hookimpl
    def run_end(self, experiment: Experiment) -> None:
        until = monotonic() + (self._wait if self._delivery.reached else NEVER_REACHED)
        try:
            sealed = self._sealed(experiment)
            self._outbox.put(sealed)
            left = self._outbox.close(max(until - monotonic(), 0.0))
        except BaseException:  # Ctrl-C while waiting: keep the run at once
            self._keep(self._sealed(experiment), () if self._saved else self._outbox.close(0.0))
            raise
        self._delivery.close()
        if left:
            self._keep(sealed, left)
        self._end_flush(until)
        if self._delivery.refused is not None:
            raise self._delivery.refused

    @property
    def waiting(self) -> int:
        """The number of episodes in memory that have not been sent."""
        return len(self._outbox)

    def _sealed(self, experiment: Experiment) -> Sealed:
        """Return the rows of the run, with the stored bytes of the record if they exist."""
        data = b""
        if self._experiments is not None:
            with suppress(FileNotFoundError):
                data, _ = read.load(paths.record(self._experiments, experiment.id))
        self._saved = bool(data)
        files = {attachment.name: attachment.data for attachment in experiment.attachments}
        if self._experiments is not None:
            files |= beside(paths.run_folder(self._experiments, experiment.id), self._warn)
        return rows.of_experiment(
            experiment, data or document(experiment), {**files, "run.json": self._about}
        )

    def _keep(self, sealed: Sealed, left: Sequence[Item]) -> None:
        error = self._outbox.error
        if error is None or isinstance(error, TimeoutError):
            cause = f"postgres: {self._server.name}: timed out"
        else:
            cause = describe(error)
        if self._experiments is None:
            raise StorageError(f"not delivered: {cause}", file=NAME)
        episodes = [item for item in left if isinstance(item, Episode)]
        id, files = sealed.run.id, sealed.files
        path = spool.keep(self._experiments, OURS, id, sealed.document, files, episodes, self._warn)
        self._warn(
            f"{cause}: the run is kept in {path}; the next run sends it (or qn-exp postgres flush)"
        )

    # ----------------------------------------------------------------------------- earlier runs

    def _begin_flush(self) -> None:
        """Send the runs that wait, in a thread."""
        if self._experiments is not None and lexists(spool.folder(self._experiments, OURS)):
            self._flusher = Thread(
                target=self._flush, args=(self._experiments,), name="qn-postgres", daemon=True
            )
            self._flusher.start()

    def _flush(self, experiments: str) -> None:
        try:
            self._flushed = flush(self._server, experiments, self._over.is_set)
        except QnError as error:
            self._flushed = spool.Flushed(errors=(("", error),))

    def _end_flush(self, until: float) -> None:
        if self._flusher is None or self._experiments is None:
            return
        self._flusher.join(max(until - monotonic(), 0.1))
        self._over.set()
        for id, error in self._flushed.errors:
            if not isinstance(error, UnreachableError):
                place = join(spool.folder(self._experiments, OURS), f"{id}.zip" if id else "")
                self._warn(f"{error}: an earlier run still waits in {place}")
