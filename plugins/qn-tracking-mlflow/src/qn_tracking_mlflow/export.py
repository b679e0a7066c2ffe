"""Sends a stored experiment to MLflow, or completes the run that MLflow has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from os.path import join, lexists

from attrs import evolve, frozen

from qn_tracking.plugin import (
    Episode,
    Experiment,
    Logged,
    digest,
    labels,
    lock,
    paths,
    phases,
    read,
    series,
    spool,
    write,
)
from qn_tracking_mlflow import content, names
from qn_tracking_mlflow.delivery import Delivery
from qn_tracking_mlflow.server import Server, UnreachableError

NEW, COMPLETED, THERE = "new", "completed", "there"
"""A run that MLflow did not have; one that was incomplete; one that was complete."""
_BLOCK = 500


@frozen(kw_only=True)
class Exported:
    """The outcome for an experiment; `episodes` is None if its journal is not available."""

    id: str
    run_id: str
    outcome: str
    episodes: int | None


def export(
    server: Server,
    experiments: str,
    id: str,
    *,
    name: str | None,
    files: bool,
    partial: bool = False,
) -> Exported:
    """Send an experiment to the server, or complete the run that has its id.

    A new run belongs to the experiment `name`, to the one of its first try, or to one named after
    the configuration. With `partial`, the journal may start after episode 0, because the server has
    the others. Raises FileNotFoundError if there is no record, StorageError if reading or sending
    fails.
    """
    path = paths.record(experiments, id)
    with _alone(path):
        data, _ = read.load(path)
        experiment = read.experiment(path)
        tags = labels.merged(dict(experiment.tags), labels.read(experiments, id))
        experiment = evolve(experiment, tags=tags)
        journal = join(paths.run_folder(experiments, id), "episodes.jsonl")
        here = lexists(journal)
        there = server.find(id)
        if there is not None and there.data.tags.get(names.RECORD_TAG) == digest(data):
            run_id = str(there.info.run_id)
            server.log(run_id, tags=content.of_user(tags))
            return Exported(id=id, run_id=run_id, outcome=THERE, episodes=None)
        name = name or experiment.facts.get("mlflow", {}).get("experiment")
        name = name or experiment.config.label or "qn-tracking"
        delivery = Delivery(server, experiment, there, name, experiments)
        first = spool.first(journal) if here and partial else 0
        count = _episodes(delivery, experiment, read.Lines(journal, 0, first)) if here else None
        folder = paths.run_folder(experiments, id)
        others: list[Iterable[Episode | Logged]]
        others = [phases.lines(folder) or (), series.calls(folder)]
        for rest in map(iter, others):
            while block := list(islice(rest, _BLOCK)):
                delivery.episodes(block)
        # If the record came by git, its journal may be added later.
        whole = here or not experiment.results.episodes
        delivery.end(experiment, experiments, whole=whole, files=files and not first)
    return Exported(
        id=id,
        run_id=delivery.run_id,
        outcome=NEW if there is None else COMPLETED,
        episodes=count,
    )


def flush(server: Server, experiments: str, *, files: bool) -> spool.Flushed:
    """Send the runs that wait. Raises StorageError if their folder cannot be read."""

    def send(folder: str, id: str) -> None:
        server.ping()
        export(server, folder, id, name=None, files=files, partial=True)

    return spool.flush(experiments, "mlflow", send, UnreachableError)


@contextmanager
def _alone(record: str) -> Iterator[None]:
    """Lock the record, because two exports at the same time would make two runs."""
    with write.naming(record):
        try:
            fd = os.open(record, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            fd = -1
    if fd < 0:
        raise FileNotFoundError(record)
    try:
        lock(fd)
        yield
    finally:
        os.close(fd)


def _episodes(delivery: Delivery, experiment: Experiment, lines: read.Lines) -> int:
    episodes = iter(lines)
    while block := list(islice(episodes, _BLOCK)):
        delivery.episodes(block)
    read.check_count(experiment, lines.count)
    return lines.count
