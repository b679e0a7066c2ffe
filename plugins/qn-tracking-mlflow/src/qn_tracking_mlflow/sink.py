"""The plugin: sends a run to MLflow during the run, in the background.

It is active when it is named, by `--plugins mlflow` or in a `plugins` section.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os.path import getsize, join, lexists
from typing import TYPE_CHECKING, Any

from qn_tracking.plugin import (
    ConfigError,
    Episode,
    Experiment,
    Logged,
    Outbox,
    PluginError,
    RunInfo,
    StorageError,
    document,
    hookimpl,
    journal,
    paths,
    phases,
    read,
    redact_text,
    series,
    spool,
)
from qn_tracking_mlflow.server import uri_of

if TYPE_CHECKING:
    from qn_tracking_mlflow.delivery import Delivery

Item = Episode | Logged | Experiment

WAITING = 100_000
"""The largest number of queued episodes, if a journal has the others."""


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
        self._run: RunInfo
        self._delivery: Delivery | None = None
        self._outbox: Outbox[Item]
        self._left_out = 0
        self._warn: Callable[[str], None]

    @hookimpl
    def run_start(self, run: RunInfo, warn: Callable[[str], None]) -> Mapping[str, Any]:
        """Create the run in MLflow. Raises PluginError if the server does not answer.

        A server that is only slow is tried again in the background.
        """
        from qn_tracking_mlflow.server import SlowError

        self._run, self._warn = run, warn
        self._name = self._name or run.config.label
        facts = {"experiment": self._name}
        try:
            facts["run_id"] = self._opened().run_id
        except SlowError as error:
            warn(f"{error}: the run goes on; its episodes wait for the server")
        except StorageError as error:
            hint = error.hint or "--no-plugin mlflow runs without it"
            raise PluginError(error.cause, file=error.file, hint=hint) from None
        self._outbox = Outbox(self._deliver)
        return facts

    def _opened(self, *, again: bool = False) -> Delivery:
        from qn_tracking_mlflow.delivery import Delivery
        from qn_tracking_mlflow.server import Server

        run, server = self._run, Server(self._uri)
        there = server.find(run.id) if again or run.lives else None
        self._delivery = Delivery(server, run, there, self._name or "", run.experiments_dir)
        return self._delivery

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        """Queue the episode for the background thread."""
        self._queue(episode)

    @hookimpl
    def metrics_logged(self, metrics: Logged) -> None:
        """Queue what was logged between episodes."""
        self._queue(metrics)

    def _queue(self, one: Item) -> None:
        # Beyond many, the journal has them, or the file of the series.
        if len(self._outbox) < WAITING or not self._has_journal():
            self._outbox.put(one)
        else:
            self._left_out += 1

    @hookimpl
    def run_end(self, experiment: Experiment) -> None:
        """Wait for the background thread, and keep what could not be sent."""
        self._outbox.put(experiment)
        try:
            left = self._outbox.close(self._timeout)
        except BaseException:  # Ctrl-C while waiting: keep the run at once
            self._keep(experiment, self._outbox.close(0.0))
            raise
        if left or self._left_out:
            self._keep(experiment, left)

    def _keep(self, experiment: Experiment, left: Sequence[Item]) -> None:
        # Those of other phases, and the series, are kept as the files that have them.
        episodes = [one for one in left if isinstance(one, Episode) and one.phase is None]
        missing = self._left_out + len(episodes)
        what = f"{missing:,} of {experiment.results.episodes:,} episodes" if missing else ""
        end = "the end of the run" if left else ""
        cause = self._outbox.error
        why = f": {cause}" if cause is not None else ""
        said = f"{' and '.join(filter(None, (what, end)))} did not reach MLflow{why}"
        if self._run.experiments_dir is None:
            raise PluginError(said)
        files = {attachment.name: attachment.data for attachment in experiment.attachments}
        folder = paths.run_folder(self._run.experiments_dir, experiment.id)
        for name in (phases.NAME, series.NAME):
            if lexists(join(folder, name)) and getsize(join(folder, name)) <= read.MAX_BYTES:
                files[name], _ = read.load(join(folder, name))
        path = spool.keep(
            self._run.experiments_dir,
            "mlflow",
            experiment.id,
            document(experiment),
            {**files, "run.json": journal.run_file(self._run)},
            episodes,
            self._warn,
        )
        self._warn(f"mlflow: {said}: the run is kept in {path} (qn-exp mlflow flush)")

    def _deliver(self, batch: list[Item]) -> None:
        delivery = self._delivery or self._opened(again=True)
        delivery.episodes(one for one in batch if not isinstance(one, Experiment))
        for one in batch:
            if isinstance(one, Experiment):
                delivery.end(
                    one, self._run.experiments_dir, whole=not self._left_out, files=self._files
                )

    def _has_journal(self) -> bool:
        root = self._run.experiments_dir
        return root is not None and lexists(
            join(paths.run_folder(root, self._run.id), "episodes.jsonl")
        )


def check_experiment(name: object) -> str | None:
    """Return the option if it is a valid name. Raises ConfigError."""
    if name is None or (type(name) is str and name.strip() and len(name) <= 500):
        return name
    raise _invalid("experiment", f"expected a name, got {redact_text(repr(name)[:60])}")


def _invalid(option: str, cause: str) -> ConfigError:
    return ConfigError(cause, file="plugin mlflow", field=option)
