"""The plugin: writes episodes to a hidden file during a run, and publishes both files at its end.

It is active when it is named, by `--plugins parquet` or in a `plugins` section.
"""

from __future__ import annotations

from collections.abc import Callable
from os.path import dirname, isabs, join, lexists

from qn_tracking.plugin import ConfigError, Episode, Experiment, RunInfo, hookimpl, paths
from qn_tracking_parquet import dataset, export
from qn_tracking_parquet.episodes import EpisodeFile

FOLDER = join("exports", "parquet")


class Parquet:
    """Writes the files of one run.

    `folder` has both datasets (default: `exports/parquet`); it is relative to the parent of the
    experiments folder. Raises ConfigError for an invalid option.
    """

    def __init__(self, folder: str | None = None, compression: str = "zstd") -> None:
        self._compression = dataset.check_compression(compression)
        self._given = check_folder(folder)
        self._folder = ""
        self._experiments: str | None = None
        self._file: EpisodeFile
        self._broken: Exception | None = None

    @hookimpl
    def run_start(self, run: RunInfo, warn: Callable[[str], None]) -> None:
        """Open the hidden file, so that errors appear before the first episode."""
        self._experiments, self._warn = run.experiments_dir, warn
        self._folder = folder_of(run.experiments_dir, self._given)
        dataset.sweep(self._folder)
        self._file = EpisodeFile(run.id, self._folder, self._compression)

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        """Add the episode. If the disk is full, a row group fails here."""
        if episode.phase is not None:  # those come from their file, at the end
            return
        try:
            self._file.add(episode)
        except Exception as error:
            self._broken = error
            raise

    @hookimpl
    def run_end(self, experiment: Experiment) -> None:
        """Publish both files.

        After an error they are made from the stored record and its journal instead. A run that was
        refused before its first episode leaves no files.
        """
        good = experiment.error is None and self._broken is None
        try:
            if not good and self._is_stored(experiment.id):
                assert self._experiments is not None
                self._file.discard()
                export.export(self._experiments, experiment.id, self._folder, self._compression)
            elif self._broken is not None:
                raise self._broken
            elif good or self._file.count:
                export.publish_episodes(self._file, experiment, self._folder)
                if self._is_stored(experiment.id):
                    assert self._experiments is not None
                    export.publish_rest(
                        self._experiments, experiment, self._folder, self._compression
                    )
                elif experiment.phases or experiment.series:
                    self._warn("parquet: phases and series need the plugin json_storage")
                export.write_run(experiment, experiment.tags, self._folder, self._compression)
        finally:
            self._file.discard()

    def _is_stored(self, id: str) -> bool:
        """Whether `json_storage`, whose `run_end` is called first, has saved the record."""
        root = self._experiments
        return root is not None and lexists(paths.record(root, id))


def check_folder(folder: object) -> str | None:
    """Return the option if it can be a folder. Raises ConfigError."""
    if folder is None or (type(folder) is str and folder and "\x00" not in folder):
        return folder
    raise ConfigError(f"expected a folder, got {folder!r}", file="plugin parquet", field="folder")


def folder_of(experiments: str | None, given: str | None) -> str:
    """Return the folder of the datasets for a folder of experiments."""
    if given is not None and isabs(given):
        return given
    return join(dirname((experiments or "experiments").rstrip("/")), given or FOLDER)
