"""The plugin: sends a run to MLflow during the run, in the background.

It is active when it is named, by `--plugins mlflow` or in a `plugins` section.
"""

from __future__ import annotations

from collections.abc import Mapping
from os.path import lexists
from typing import TYPE_CHECKING, Any

from qn_tracking.plugin import (
    ConfigError,
    Episode,
    Experiment,
    Outbox,
    PluginError,
    RunInfo,
    StorageError,
    hookimpl,
    paths,
    redact_text,
)
from qn_tracking_mlflow.server import uri_of

if TYPE_CHECKING:
    from qn_tracking_mlflow.delivery import Delivery

WAITING = 100_000
"""The largest number of queued episodes; `qn-exp mlflow export` sends the rest."""


class Mlflow:
    """Sends one run.

    `uri` is the server (default: MLFLOW_TRACKING_URI); `experiment` the name of the experiment in
    MLflow (default: the name of the configuration); `files` says whether to send the files of the
    run (journal, configuration, packages, patch) with the record; `timeout` is how many seconds the
    end of the run waits for the server. Raises ConfigError for an invalid option.
    """

    def __init__(
        self,
        uri: str | None = None,
        experiment: str | None = None,
        files: bool = True,
        timeout: float = 60.0,
    ) -> None:
        self._uri = uri_of(uri)
        self._name = check_experiment(experiment)
        if type(files) is not bool:
            raise _invalid("files", f"expected true or false, got {files!r}")
        if type(timeout) not in (int, float) or not 0 <= timeout < 1e9:
            raise _invalid("timeout", f"expected seconds, got {timeout!r}")
        self._files, self._timeout = files, timeout
        self._experiments: str | None = None
        self._delivery: Delivery
        self._outbox: Outbox[Episode | Experiment]
        self._left_out = 0

    @hookimpl
    def run_start(self, run: RunInfo) -> Mapping[str, Any]:
        """Create the run in MLflow. Raises PluginError if the server does not answer."""
        from qn_tracking_mlflow import content
        from qn_tracking_mlflow.delivery import Delivery
        from qn_tracking_mlflow.server import Server

        self._experiments = run.experiments_dir
        name = self._name or run.config.label
        started = content.milliseconds(run.started)
        try:
            server = Server(self._uri)
            place = server.experiment(name)
            run_id = server.create(place, run.id, started, content.tags_at_start(run))
            self._delivery = Delivery(server, run_id, run.started)
            self._delivery.params(run.config)
        except StorageError as error:
            hint = error.hint or "--no-plugin mlflow runs without it"
            raise PluginError(error.cause, file=error.file, hint=hint) from None
        self._outbox = Outbox(self._deliver)
        return {"experiment": name, "run_id": run_id}

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        """Queue the episode for the background thread."""
        if len(self._outbox) < WAITING:
            self._outbox.put(episode)
        else:
            self._left_out += 1

    @hookimpl
    def run_end(self, experiment: Experiment) -> None:
        """Wait for the background thread. Raises PluginError if data could not be sent."""
        self._outbox.put(experiment)
        left = self._outbox.close(self._timeout)
        missing = self._left_out + sum(type(one) is Episode for one in left)
        if not left and not missing:
            return
        what = f"{missing:,} of {experiment.results.episodes:,} episodes" if missing else ""
        end = "the end of the run" if left else ""
        cause = self._outbox.error
        why = f": {cause}" if cause is not None else ""
        raise PluginError(
            f"{' and '.join(filter(None, (what, end)))} did not reach MLflow{why}",
            hint=f"qn-exp mlflow export {experiment.id}" if self._is_stored(experiment) else None,
        )

    def _deliver(self, batch: list[Episode | Experiment]) -> None:
        self._delivery.episodes(one for one in batch if isinstance(one, Episode))
        for one in batch:
            if isinstance(one, Experiment):
                self._delivery.end(
                    one, self._experiments, whole=not self._left_out, files=self._files
                )

    def _is_stored(self, experiment: Experiment) -> bool:
        root = self._experiments
        return root is not None and lexists(paths.record(root, experiment.id))


def check_experiment(name: object) -> str | None:
    """Return the option if it is a valid name. Raises ConfigError."""
    if name is None or (type(name) is str and name.strip() and len(name) <= 500):
        return name
    raise _invalid("experiment", f"expected a name, got {redact_text(repr(name)[:60])}")


def _invalid(option: str, cause: str) -> ConfigError:
    return ConfigError(cause, file="plugin mlflow", field=option)
