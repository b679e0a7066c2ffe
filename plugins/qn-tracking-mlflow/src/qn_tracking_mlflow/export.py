"""Sends a stored experiment to MLflow, or completes the run that MLflow has."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from os.path import join, lexists

from attrs import evolve, frozen

from qn_tracking.plugin import Experiment, digest, labels, lock, paths, read, write
from qn_tracking_mlflow import content, names
from qn_tracking_mlflow.delivery import Delivery
from qn_tracking_mlflow.server import Server

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


def export(server: Server, experiments: str, id: str, *, name: str | None, files: bool) -> Exported:
    """Send an experiment to the server, or complete the run that has its id.

    A new run belongs to the experiment `name`, or to one named after the configuration. Raises
    FileNotFoundError if there is no record, StorageError if reading or sending fails.
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
        outcome = COMPLETED
        if there is None:
            outcome = NEW
            place = server.experiment(name or experiment.config.label or "qn-tracking")
            started = content.milliseconds(experiment.started)
            run_id = server.create(place, id, started, content.tags_at_start(experiment))
            delivery = Delivery(server, run_id, experiment.started)
            delivery.params(experiment.config)
        else:
            run_id = str(there.info.run_id)
            if there.data.tags.get(names.RECORD_TAG) == digest(data):
                server.log(run_id, tags=content.of_user(tags))
                return Exported(id=id, run_id=run_id, outcome=THERE, episodes=None)
            server.log(run_id, tags=content.tags_at_start(experiment))
            seen = _seen(server, run_id, there.data.metrics)
            delivery = Delivery(server, run_id, experiment.started, seen)
            delivery.params(experiment.config, there.data.params)
        count = _episodes(delivery, experiment, journal) if here else None
        # If the record came by git, its journal may be added later.
        whole = here or not experiment.results.episodes
        delivery.end(experiment, experiments, whole=whole, files=files)
    return Exported(id=id, run_id=run_id, outcome=outcome, episodes=count)


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


def _seen(server: Server, run_id: str, metrics: Mapping[str, float]) -> dict[str, set[int]]:
    return {
        key: {step for _, _, _, step in server.history(run_id, key)}
        for key in metrics
        if not key.startswith(names.SUMMARY)
    }


def _episodes(delivery: Delivery, experiment: Experiment, journal: str) -> int:
    lines = read.Lines(journal)
    episodes = iter(lines)
    while block := list(islice(episodes, _BLOCK)):
        delivery.episodes(block)
    read.check_count(experiment, lines.count)
    return lines.count
