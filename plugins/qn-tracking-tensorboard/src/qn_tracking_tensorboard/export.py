"""Writes the event files of a stored experiment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from heapq import merge
from os.path import join, lexists

from attrs import frozen

from qn_tracking.plugin import Episode, Logged, paths, phases, read, series, write
from qn_tracking_tensorboard.content import Writer


@frozen(kw_only=True)
class Exported:
    """The outcome for an experiment; `episodes` is None if its journal is not available."""

    id: str
    path: str
    episodes: int | None


def export(experiments: str, id: str, folder: str) -> Exported:
    """Write the files of an experiment, or replace them.

    Raises StorageError if the record or a file of the run cannot be read, or if they do not match;
    FileNotFoundError if there is no record.
    """
    experiment = read.experiment(paths.record(experiments, id))
    run = paths.run_folder(experiments, id)
    journal = join(run, "episodes.jsonl")
    lines = read.Lines(journal) if lexists(journal) else None
    target = join(folder, id)
    partial = join(folder, f".{id}.{os.urandom(4).hex()}.tmp")
    try:
        writer = Writer(partial, experiment.started)
        # In the order of time, as TensorBoard takes a step back for a restart.
        parts: list[Iterable[Episode | Logged]]
        parts = [lines or (), phases.lines(run) or (), series.calls(run)]
        for one in merge(*parts, key=_at):
            writer.add(one)
        writer.close()
        if lines is not None:
            read.check_count(experiment, lines.count)
        with write.naming(target):
            if lexists(target):
                write.move(target, f"{partial}.old")
            os.rename(partial, target)
            write.sync_folder(folder)
    finally:
        for left in (partial, f"{partial}.old"):
            shutil.rmtree(left, ignore_errors=True)
    return Exported(id=id, path=target, episodes=None if lines is None else lines.count)


def _at(one: Episode | Logged) -> float:
    return one.at if isinstance(one, Logged) else one.timing.get("at", 0.0)


def event_files(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every folder with event files, and these in the order of their names."""
    from qn_tracking_tensorboard.events import PREFIX

    for place, folders, names in os.walk(folder):
        folders.sort()
        found = sorted(join(place, name) for name in names if name.startswith(PREFIX))
        if found:
            yield place, found
