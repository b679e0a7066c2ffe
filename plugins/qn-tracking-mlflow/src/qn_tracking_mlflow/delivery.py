"""Sends one run to MLflow: its episodes, its end, the record and the bundle of its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from os.path import join, lexists
from tempfile import TemporaryDirectory

from qn_tracking.plugin import Config, Episode, Experiment, bundle, digest, document, paths, read
from qn_tracking_mlflow import content, names
from qn_tracking_mlflow.server import PER_CALL, Server


class Delivery:
    """Sends a run to the server. Raises StorageError; every method may be called again.

    `seen` has the steps of each metric that MLflow already has; they are not sent.
    """

    def __init__(
        self,
        server: Server,
        run_id: str,
        started: str,
        seen: Mapping[str, set[int]] | None = None,
    ) -> None:
        self.run_id = run_id
        self._server = server
        self._started = content.milliseconds(started)
        self._seen = seen or {}
        self._name = lru_cache(10_000)(names.of_metric)

    def params(self, config: Config, there: Mapping[str, str] | None = None) -> None:
        """Send the resolved configuration; a file has values too long for a parameter."""
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

        fields = {key: content.without_nul(text) for key, text in names.flat(config.data).items()}
        long = {key: text for key, text in fields.items() if len(text) > MAX_PARAM_VAL_LENGTH}
        known = {*long, *(there or {})}
        missing = {key: text for key, text in fields.items() if key not in known}
        self._server.log(self.run_id, params=missing)
        if long:
            self._upload("params.json", document(long))

    def episodes(self, episodes: Iterable[Episode]) -> None:
        """Send the numbers of each episode, in as few requests as possible."""
        values: list[content.Value] = []
        for episode in episodes:
            for value in content.values(episode, self._started, self._name):
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
        self._upload(f"{experiment.id}.json", data)
        status = content.STATUS.get(experiment.status, "FINISHED")
        self._server.end(self.run_id, status, content.milliseconds(experiment.ended))
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
