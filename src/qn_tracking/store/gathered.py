"""Studies that were gathered afterwards: `experiments/studies/<id>/gathered.json`."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import dirname, lexists

from qn_tracking.errors import StorageError, UsageError
from qn_tracking.ids import is_id
from qn_tracking.records.codec import document, structure
from qn_tracking.records.schema import GATHERED
from qn_tracking.records.submission import Gathered
from qn_tracking.store import read, studies
from qn_tracking.store.write import make_folder, publish


def save(experiments: str, study: Gathered) -> str:
    """Writes it down; durable on return. Raises StorageError."""
    name = studies.gathered_path(experiments, study.id)
    make_folder(dirname(name))
    publish(name, document(study))
    return name


def load(experiments: str, text: str) -> Gathered:
    """A gathered study, by its id or its name.

    Raises UsageError if there is none, StorageError for a file that cannot be read or contradicts
    itself.
    """
    name = studies.gathered_path(experiments, text)
    if not lexists(name):
        other = studies.named(experiments, text)
        if other is None or not lexists(studies.gathered_path(experiments, other)):
            raise UsageError(f"no gathered study {text}")
        return load(experiments, other)
    data, _ = read.load(name)
    study = structure(
        GATHERED.current(read.parse(data, name), name), Gathered, file=name, error=StorageError
    )
    for field, cause in _wrong(study, text):
        raise StorageError(cause, file=name, field=field)
    return study


def _wrong(study: Gathered, id: str) -> Iterator[tuple[str, str]]:
    if study.id != id:
        yield "id", f"{study.id!r} is not the name of the study"
    yield from studies.wrong_names([arm.name for arm in study.arms])
    runs = [run for arm in study.arms for run in arm.runs]
    if len(set(runs)) < len(runs):
        yield "arms", "a run is in two of them"
    for run in runs:
        if not is_id(run):
            yield "arms", f"{run[:40]!r} is not an id"


def faults(experiments: str) -> Iterator[StorageError]:
    """What is wrong with the files of all gathered studies."""
    try:
        known = studies.ids(experiments)
    except StorageError:
        return  # said of the studies already
    for id in known:
        try:
            there = lexists(studies.gathered_path(experiments, id))
        except StorageError:
            continue  # no folder: said of the studies already
        if there:
            try:
                load(experiments, id)
            except StorageError as error:
                yield error
