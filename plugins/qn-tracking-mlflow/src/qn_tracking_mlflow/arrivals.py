"""Imports runs of MLflow into the folder of experiments, with the checks of every import.

A run with our record, or with the bundle of its files, is imported unchanged, and its digests are
checked. A run of another program becomes a record that names its origin.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from os.path import join
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from qn_tracking.plugin import QnError, StorageError, arrival, document, is_id
from qn_tracking_mlflow import foreign, names
from qn_tracking_mlflow.server import Server

if TYPE_CHECKING:
    from mlflow.entities import Run


def import_run(
    server: Server,
    experiments: str,
    run: Run,
    experiment: str,
    warn: Callable[[str], None],
) -> Iterator[arrival.Arrived | arrival.Refused]:
    """Import a run; `experiment` is the name of its experiment in MLflow."""
    source = f"{server.name}: run {run.info.run_id}"
    try:
        with TemporaryDirectory(prefix="qn-tracking-") as folder:
            path = _fetched(server, run, experiment, folder, source)
            for one in arrival.import_path(experiments, path, warn):
                if isinstance(one, arrival.Refused):
                    error = StorageError(one.error.cause, file=source, hint=one.error.hint)
                    yield arrival.Refused(source=source, error=error)
                else:
                    yield arrival.Arrived(
                        source=source,
                        id=one.id,
                        outcome=one.outcome,
                        format=one.format,
                        origin_id=one.origin_id,
                    )
    except QnError as error:
        yield arrival.Refused(source=source, error=error)


def _fetched(server: Server, run: Run, experiment: str, folder: str, source: str) -> str:
    """Return a file with the run, in a format that an import reads."""
    if run.data.tags.get(names.KIND_TAG) == "study":
        raise StorageError("is a study, not a run", file=source, hint="name its runs")
    id = run.data.tags.get(names.ID_TAG)
    if id is None:
        return _staged(server, run, experiment, folder)
    if not is_id(id):
        raise StorageError(f"{id[:60]!r} is not an id of a run", file=source, field=names.ID_TAG)
    there = server.files(run.info.run_id)
    # The bundle has the record and the episodes; otherwise, use the record alone.
    for name in (f"{id}.zip", f"{id}.json"):
        if name in there:
            return server.download(run.info.run_id, name, folder)
    raise StorageError(
        "is a run of qn-tracking without its record",
        file=source,
        hint=f"qn-exp mlflow export {id}, on the machine where it ran",
    )


def _staged(server: Server, run: Run, experiment: str, folder: str) -> str:
    """Write a run of another program as a record, with its history."""
    history = {key: server.history(run.info.run_id, key) for key in run.data.metrics}
    record = foreign.experiment(run, experiment, history)
    path = join(folder, f"{record.id}.json")
    with open(path, "wb") as stream:
        stream.write(document(record))
    if record.attachments:
        beside = join(folder, "runs", record.id)
        os.makedirs(beside)
        with open(join(beside, foreign.HISTORY), "wb") as stream:
            stream.write(foreign.history_file(history))
    return path
