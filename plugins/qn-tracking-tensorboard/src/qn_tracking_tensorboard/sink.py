"""The plugin: writes event files during a run, in the background, for TensorBoard to follow.

It is active when it is named, by `--plugins tensorboard` or in a `plugins` section.
"""

from __future__ import annotations

from os.path import dirname, isabs, join

from qn_tracking.plugin import (
    ConfigError,
    Episode,
    Experiment,
    Logged,
    Outbox,
    PluginError,
    RunInfo,
    hookimpl,
)
from qn_tracking_tensorboard.content import Writer

FOLDER = join("exports", "tensorboard")
WAIT = 30.0
"""Seconds that the end of a run waits for a disk."""


class TensorBoard:
    """Writes the event files of one run to `<folder>/<id>/`.

    `folder` (default: `exports/tensorboard`) is relative to the parent of the experiments folder.
    Raises ConfigError for an invalid option.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._given = check_folder(folder)
        self._writer: Writer
        self._outbox: Outbox[Episode | Logged]
        self._written = 0

    @hookimpl
    def run_start(self, run: RunInfo) -> None:
        """Make the file, so that errors appear before the first episode."""
        folder = join(folder_of(run.experiments_dir, self._given), run.id)
        self._writer = Writer(folder, run.started)
        self._outbox = Outbox(self._deliver)

    def _deliver(self, batch: list[Episode | Logged]) -> None:
        for one in batch[self._written :]:  # after a failure, not again what was written
            self._writer.add(one)
            self._written += 1
        self._writer.flush()
        self._written = 0

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        """Queue the episode for the background thread."""
        self._outbox.put(episode)

    @hookimpl
    def metrics_logged(self, metrics: Logged) -> None:
        """Queue what was logged between episodes."""
        self._outbox.put(metrics)

    @hookimpl
    def run_end(self, experiment: Experiment) -> None:
        """Write the rest."""
        left = self._outbox.close(WAIT)
        self._writer.close()
        if left:
            cause = f"{len(left)} episodes or series were not written: {self._outbox.error}"
            raise PluginError(cause, hint=f"qn-exp tensorboard export {experiment.id}")


def check_folder(folder: object) -> str | None:
    """Return the option if it can be a folder. Raises ConfigError."""
    if folder is None or (type(folder) is str and folder and "\x00" not in folder):
        return folder
    cause = f"expected a folder, got {folder!r}"
    raise ConfigError(cause, file="plugin tensorboard", field="folder")


def folder_of(experiments: str | None, given: str | None) -> str:
    """Return the folder of all event files for a folder of experiments."""
    if given is not None and isabs(given):
        return given
    return join(dirname((experiments or "experiments").rstrip("/")), given or FOLDER)
