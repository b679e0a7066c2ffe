"""Campaigns: declared before the first session starts, and what became of each session."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import dirname, exists, join

from attrs import frozen

from qn_tracking.codec import document, structure
from qn_tracking.errors import StorageError, UnsupportedError, UsageError
from qn_tracking.ids import check_id
from qn_tracking.store import paths, read, unfinished
from qn_tracking.store.write import make_folder, naming, publish
from qn_tracking.submission import Campaign


@frozen(kw_only=True)
class SessionState:
    """What is left of the latest attempt at a session.

    `status` is that of its record, else `running`, `crashed` or `unknown`, or `missing`.
    """

    index: int
    attempt: int
    id: str
    status: str


def path(experiments: str, id: str) -> str:
    """The file of a campaign."""
    return join(experiments, "campaigns", f"{check_id(id)}.json")


def session_id(campaign: str, index: int, attempt: int) -> str:
    """The id of the record of a session."""
    return f"{campaign}.s{index:03d}" + (f".r{attempt}" if attempt else "")


def declare(experiments: str, campaign: Campaign) -> str:
    """Writes the campaign down; durable on return. Raises StorageError."""
    name = path(experiments, campaign.id)
    make_folder(dirname(name))
    publish(name, document(campaign))
    return name


def load(experiments: str, id: str) -> Campaign:
    """A campaign. Raises UsageError if there is none, StorageError if it cannot be read."""
    name = path(experiments, id)
    try:
        data, _ = read.load(name)
    except FileNotFoundError:
        raise UsageError(f"no campaign {id}", hint=_known(experiments)) from None
    doc = read.current(read.parse(data, name), name)
    return structure(doc, Campaign, file=name, error=StorageError)


def _known(experiments: str) -> str:
    folder = join(experiments, "campaigns")
    names = sorted(os.listdir(folder), reverse=True) if exists(folder) else []
    found = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return f"latest: {found[0]}" if found else f"none in {experiments}"


@contextmanager
def locked(experiments: str, id: str) -> Iterator[None]:
    """For the one process that runs a campaign. Raises UnsupportedError if another one does."""
    name = path(experiments, id)
    with naming(name):
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnsupportedError(
                "is being run by another process", file=f"campaign {id}", hint="wait for it"
            ) from None
        yield
    finally:
        os.close(fd)


def states(experiments: str, campaign: Campaign) -> tuple[SessionState, ...]:
    """The latest attempt at every session that was declared."""
    found = []
    for index in range(campaign.sessions):
        attempt = 0
        while _begun(experiments, session_id(campaign.id, index, attempt + 1)):
            attempt += 1
        id = session_id(campaign.id, index, attempt)
        found.append(
            SessionState(index=index, attempt=attempt, id=id, status=status(experiments, id))
        )
    return tuple(found)


def _begun(experiments: str, id: str) -> bool:
    return exists(paths.record(experiments, id)) or exists(paths.run_folder(experiments, id))


def status(experiments: str, id: str) -> str:
    """That of the record of a session, or how it stands without one."""
    record = paths.record(experiments, id)
    if exists(record):
        return read.experiment(record).status
    return unfinished.status_now(experiments, id) or "missing"
