"""Studies: declared before the first run starts, and what became of each run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import dirname, exists, join

from attrs import frozen

from qn_tracking import files
from qn_tracking.errors import StorageError, UnsupportedError, UsageError
from qn_tracking.ids import check_id
from qn_tracking.records.codec import document, structure
from qn_tracking.records.schema import STUDY
from qn_tracking.records.submission import Study
from qn_tracking.store import documents, paths, read
from qn_tracking.store.write import make_folder, naming, publish


@frozen(kw_only=True)
class RunState:
    """What is left of the latest attempt at a run.

    `status` is that of its record, else `running`, `crashed` or `unknown`, or `missing`.
    """

    index: int
    attempt: int
    id: str
    status: str


def path(experiments: str, id: str) -> str:
    """The file of a study; those declared before schema 2 are in a folder of that time."""
    name = join(experiments, "studies", check_id(id), "study.json")
    before = join(experiments, "campaigns", f"{id}.json")
    return before if not exists(name) and exists(before) else name


def run_id(study: str, index: int, attempt: int) -> str:
    """The id of the record of a run."""
    return f"{study}.s{index:03d}" + (f".r{attempt}" if attempt else "")


def declare(experiments: str, study: Study) -> str:
    """Writes the study down; durable on return. Raises StorageError."""
    name = path(experiments, study.id)
    make_folder(dirname(dirname(name)))
    make_folder(dirname(name))
    publish(name, document(study))
    return name


def load(experiments: str, id: str) -> Study:
    """A study. Raises UsageError if there is none, StorageError if it cannot be read."""
    name = path(experiments, id)
    try:
        data, _ = read.load(name)
    except FileNotFoundError:
        raise UsageError(f"no study {id}", hint=_known(experiments)) from None
    doc = STUDY.current(read.parse(data, name), name)
    return structure(doc, Study, file=name, error=StorageError)


def _known(experiments: str) -> str:
    folder = join(experiments, "studies")
    found = max(os.listdir(folder), default=None) if exists(folder) else None
    return f"latest: {found}" if found else f"none in {experiments}"


@contextmanager
def locked(experiments: str, id: str) -> Iterator[None]:
    """For the one process that runs a study. Raises UnsupportedError if another one does."""
    name = path(experiments, id)
    with naming(name):
        fd = os.open(name, os.O_RDWR | os.O_CLOEXEC)  # NFS locks no other
    try:
        try:
            files.lock(fd, wait=False)
        except BlockingIOError:
            raise UnsupportedError(
                "is being run by another process", file=f"study {id}", hint="wait for it"
            ) from None
        yield
    finally:
        os.close(fd)


def states(experiments: str, study: Study) -> tuple[RunState, ...]:
    """The latest attempt at every run that was declared."""
    found = []
    for index in range(study.runs):
        attempt = 0
        while _begun(experiments, run_id(study.id, index, attempt + 1)):
            attempt += 1
        id = run_id(study.id, index, attempt)
        found.append(RunState(index=index, attempt=attempt, id=id, status=status(experiments, id)))
    return tuple(found)


def _begun(experiments: str, id: str) -> bool:
    return exists(paths.record(experiments, id)) or exists(paths.run_folder(experiments, id))


def status(experiments: str, id: str) -> str:
    """That of the record of a run, or of a run without one."""
    return documents.status(experiments, id) or "missing"
