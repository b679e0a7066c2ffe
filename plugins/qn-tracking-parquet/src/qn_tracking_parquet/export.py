"""Writes a stored experiment to the files of the two datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from os.path import join, lexists
from typing import Any

from attrs import frozen

from qn_tracking.plugin import Episode, Experiment, labels, paths, phases, read, series
from qn_tracking_parquet import dataset, tables
from qn_tracking_parquet.episodes import BLOCK, BLOCKS, EpisodeFile


@frozen(kw_only=True)
class Exported:
    """The outcome for an experiment; `episodes` is None if its journal is not available."""

    id: str
    path: str
    episodes: int | None


def export(experiments: str, id: str, folder: str, compression: str) -> Exported:
    """Write the files of an experiment, or replace them.

    Raises StorageError if the record or the journal cannot be read, or if they do not match;
    FileNotFoundError if there is no record.
    """
    experiment = read.experiment(paths.record(experiments, id))
    added = labels.read(experiments, id)
    tags = labels.merged(dict(experiment.tags), added)
    journal = join(paths.run_folder(experiments, id), "episodes.jsonl")
    count = None
    if lexists(journal):
        lines = read.Lines(journal)
        count = _episodes(experiment, lines, folder, compression)
    publish_rest(experiments, experiment, folder, compression)
    path = write_run(experiment, tags, folder, compression)
    return Exported(id=id, path=path, episodes=count)


def _episodes(
    experiment: Experiment, episodes: Iterable[Episode], folder: str, compression: str
) -> int:
    file = EpisodeFile(experiment.id, folder, compression)
    try:
        for episode in episodes:
            file.add(episode)
        read.check_count(experiment, file.count)
        publish_episodes(file, experiment, folder)
    finally:
        file.discard()
    return file.count


def publish_episodes(file: EpisodeFile, experiment: Experiment, folder: str) -> None:
    """Publish the episodes. This comes before the run, so that every visible run has episodes."""
    file.publish(dataset.place(folder, "episodes", experiment.subject, experiment.id))


def publish_rest(experiments: str, experiment: Experiment, folder: str, compression: str) -> None:
    """Publish what not every run has, in datasets `phases`, `series` and `artifacts`.

    Raises StorageError if a file cannot be read or written.
    """
    run_folder = paths.run_folder(experiments, experiment.id)
    found: dict[str, Iterator[Any]] = {}
    if (lines := phases.lines(run_folder)) is not None:
        episodes = iter(lines)
        blocks = iter(lambda: list(islice(episodes, BLOCK * BLOCKS)), [])
        found["phases"] = (tables.phases(experiment.id, block) for block in blocks)
    if lexists(join(run_folder, series.NAME)):
        found["series"] = iter([tables.series(experiment.id, series.points(run_folder))])
    if experiment.artifacts:
        found["artifacts"] = iter([tables.artifacts(experiment)])
    for name, parts in found.items():
        first = next(parts, None)
        if first is None:
            continue
        draft = dataset.Draft(folder, first.schema, compression)
        try:
            for part in chain((first,), parts):
                draft.write(part)
            draft.publish(dataset.place(folder, name, experiment.subject, experiment.id))
        finally:
            draft.discard()


def write_run(
    experiment: Experiment, tags: Mapping[str, str], folder: str, compression: str
) -> str:
    """Write the row of a run; return its file. Raises StorageError."""
    path = dataset.place(folder, "runs", experiment.subject, experiment.id)
    draft = dataset.Draft(folder, tables.runs_schema(), compression)
    try:
        draft.write(tables.run(experiment, tags))
        draft.publish(path)
    finally:
        draft.discard()
    return path
