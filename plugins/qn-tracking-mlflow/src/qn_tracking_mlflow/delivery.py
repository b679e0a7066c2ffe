"""Sends one run to MLflow: its episodes, its end, the record and the bundle of its files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from os.path import getsize, isfile, join, lexists
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from qn_tracking.plugin import (
    Config,
    Episode,
    Experiment,
    Logged,
    RunInfo,
    bundle,
    digest,
    document,
    lock,
    paths,
    read,
)
from qn_tracking_mlflow import content, names
from qn_tracking_mlflow.server import PER_CALL, Server

if TYPE_CHECKING:
    from mlflow.entities import Run


@contextmanager
def _alone(experiments: str | None, study: str) -> Iterator[None]:
    """Lock the folder of a study, because two runs that start at once would make two parents."""
    fd = -1
    if experiments is not None:
        with suppress(OSError):
            fd = os.open(join(experiments, "studies", study), os.O_RDONLY | os.O_CLOEXEC)
    try:
        if fd >= 0:
            lock(fd)
        yield
    finally:
        if fd >= 0:
            os.close(fd)


class Delivery:
    """Sends a run to the server. Raises StorageError; every method may be called again.

    `there` is the run that MLflow has; without one, a new run is created in the experiment `name`.
    A run of a study becomes a child of the study's. `run_id` is MLflow's id.
    """

    def __init__(
        self,
        server: Server,
        run: RunInfo | Experiment,
        there: Run | None,
        name: str,
        experiments: str | None,
    ) -> None:
        self._server = server
        self._started = content.milliseconds(run.started)
        self._seen: dict[str, set[int]] = {}
        self._name = lru_cache(10_000)(names.of_metric)
        self._place = server.experiment(name) if there is None else str(there.info.experiment_id)
        tags = content.tags_at_start(run)
        self._parent = self._parent_of(run, experiments)
        if self._parent is not None:
            tags[names.PARENT_TAG] = self._parent
        if there is None:
            self.run_id = server.create(self._place, run.id, self._started, tags)
        else:
            self.run_id = str(there.info.run_id)
            server.log(self.run_id, tags=tags)
            for key in there.data.metrics:
                if not key.startswith(names.SUMMARY):
                    history = server.history(self.run_id, key)
                    self._seen[key] = {step for _, _, _, step in history}
        self.params(run.config, {} if there is None else there.data.params)

    def _parent_of(self, run: RunInfo | Experiment, experiments: str | None) -> str | None:
        if run.study is None:
            return None
        with _alone(experiments, run.study.id):
            return self._server.parent(self._place, run.study.id, self._started)

    def params(self, config: Config, there: Mapping[str, str]) -> None:
        """Send the resolved configuration; a file has values too long for a parameter."""
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

        fields = {key: content.without_nul(text) for key, text in names.flat(config.data).items()}
        long = {key: text for key, text in fields.items() if len(text) > MAX_PARAM_VAL_LENGTH}
        known = {*long, *there}
        missing = {key: text for key, text in fields.items() if key not in known}
        self._server.log(self.run_id, params=missing)
        if long:
            self._upload("params.json", document(long))

    def episodes(self, episodes: Iterable[Episode | Logged]) -> None:
        """Send the numbers of each episode, and of what was logged between them, in as few
        requests as possible.
        """
        values: list[content.Value] = []
        for one in episodes:
            for value in content.values(one, self._started, self._name):
                if value[3] not in self._seen.get(value[0], ()):
                    values.append(value)
            if len(values) >= PER_CALL:
                self._server.log(self.run_id, values)
                values = []
        self._server.log(self.run_id, values)

    def end(
        self, experiment: Experiment, experiments: str | None, *, whole: bool, files: bool
    ) -> None:
        """Send the results, the record, with `files` the bundle, and the final status.

        With `whole` the last request sets the tag of a complete run, with every episode.
        """
        self._server.log(
            self.run_id, list(content.summary(experiment)), tags=content.tags_at_end(experiment)
        )
        stored = None if experiments is None else paths.record(experiments, experiment.id)
        if stored is not None and lexists(stored):
            data, _ = read.load(stored)
            if files and experiments is not None:
                self._bundle(experiments, experiment.id)
        else:
            data = document(experiment)
        if files:
            for artifact in experiment.artifacts:
                if isfile(artifact.path) and getsize(artifact.path) == artifact.size:
                    self._server.upload(self.run_id, artifact.path)
        self._upload(f"{experiment.id}.json", data)
        status = content.STATUS.get(experiment.status, "FINISHED")
        ended = content.milliseconds(experiment.ended)
        self._server.end(self.run_id, status, ended)
        if self._parent is not None:
            self._server.end_parent(self._place, self._parent, ended)
        if whole:
            self._server.log(self.run_id, tags={names.RECORD_TAG: digest(data)})

    def _bundle(self, experiments: str, id: str) -> None:
        with TemporaryDirectory(prefix="qn-tracking-") as folder:
            path = join(folder, f"{id}.zip")
            with open(path, "wb") as stream:
                bundle.write(stream, experiments, [id], lambda text: None)
            self._server.upload(self.run_id, path)

    def _upload(self, name: str, data: bytes) -> None:
        with TemporaryDirectory(prefix="qn-tracking-") as folder:
            path = join(folder, name)
            with open(path, "wb") as stream:
                stream.write(data)
            self._server.upload(self.run_id, path)
