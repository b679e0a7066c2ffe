"""The sink: a run's episodes into a hidden file as they come, both files in their place at its end.

It is on when it is named, by `--plugins parquet` or in a `plugins` section.
"""

from __future__ import annotations

from os.path import dirname, isabs, join, lexists

from qn_tracking.plugin import ConfigError, Episode, Experiment, RunInfo, hookimpl, paths
from qn_tracking_parquet import dataset, export
from qn_tracking_parquet.episodes import EpisodeFile

FOLDER = join("exports", "parquet")


class Parquet:
    """Files of one run.

    `folder` holds both datasets; without it they are in `exports/parquet` beside the folder of the
    experiments, and a relative one is taken from there as well. Raises ConfigError for an option
    that makes no sense.
    """

    def __init__(self, folder: str | None = None, compression: str = "zstd") -> None:
        self._compression = dataset.check_compression(compression)
        self._given = check_folder(folder)
        self._folder = ""
        self._experiments: str | None = None
        self._file: EpisodeFile
        self._broken: Exception | None = None

    @hookimpl
    def run_start(self, run: RunInfo) -> None:
        """Opens the hidden file: what cannot be written is said before the first episode."""
        self._experiments = run.experiments_dir
        self._folder = folder_of(run.experiments_dir, self._given)
        dataset.sweep(self._folder)
        self._file = EpisodeFile(run.id, self._folder, self._compression)

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        """Keeps the episode; a full disk shows here at the end of a row group."""
        try:
            self._file.add(episode)
        except Exception as error:
            self._broken = error
            raise

    @hookimpl
    def run_end(self, experiment: Experiment) -> None:
        """Gives both files their names.

        After an error the stored record decides, which knows by its journal which episodes there
        were; a run that was refused before its first episode leaves nothing.
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
                export.write_run(experiment, experiment.tags, self._folder, self._compression)
        finally:
            self._file.discard()

    def _is_stored(self, id: str) -> bool:
        """Whether `json_storage`, which hears the end first, has saved the record."""
        root = self._experiments
        return root is not None and lexists(paths.record(root, id))


def check_folder(folder: object) -> str | None:
    """The option, if it can be a folder. Raises ConfigError."""
    if folder is None or (type(folder) is str and folder and "\x00" not in folder):
        return folder
    raise ConfigError(f"expected a folder, got {folder!r}", file="plugin parquet", field="folder")


def folder_of(experiments: str | None, given: str | None) -> str:
    """Where the datasets are, of the experiments in a folder."""
    if given is not None and isabs(given):
        return given
    return join(dirname((experiments or "experiments").rstrip("/")), given or FOLDER)
