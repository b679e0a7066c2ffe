"""Runs that wait for the server, in `<experiments_dir>/.spool/postgres/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qn_tracking.plugin import Episode, spool
from qn_tracking_postgres.rows import Sealed
from qn_tracking_postgres.server import UnreachableError

NAME = "postgres"
Flushed = spool.Flushed


def folder(experiments: str) -> str:
    """Return the folder of the waiting runs for a folder of experiments."""
    return spool.folder(experiments, NAME)


def waiting(experiments: str) -> list[str]:
    """Return the ids of the waiting runs, the oldest first. Raises StorageError."""
    return spool.waiting(experiments, NAME)


def keep(
    experiments: str, sealed: Sealed, episodes: Sequence[Episode], warn: Callable[[str], None]
) -> str:
    """Keep a run durably; return the path of its bundle. Raises StorageError."""
    return spool.keep(
        experiments, NAME, sealed.run.id, sealed.document, sealed.files, episodes, warn
    )


def flush(experiments: str, send: spool.Send, stop: Callable[[], bool]) -> Flushed:
    """Send the waiting runs, until `stop` returns True or the server is gone."""
    return spool.flush(experiments, NAME, send, UnreachableError, stop)
