"""A verification in progress, kept in `benchmarks/.verify/` so that it can be continued."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from os.path import dirname, join

import orjson
from attrs import field, frozen

from qn_tracking import files, ids
from qn_tracking.errors import QnError, UsageError
from qn_tracking.records.codec import document, structure
from qn_tracking.records.submission import Checked
from qn_tracking.store import read
from qn_tracking.store.write import create, locking, make_folder, naming, published

FOLDER = ".verify"


@frozen(kw_only=True)
class Plan:
    """What to run: runs of the submission by their index, and fresh seeds."""

    repeat: tuple[int, ...] = ()
    fresh: tuple[int, ...] = ()

    def __len__(self) -> int:
        """The number of runs."""
        return len(self.repeat) + len(self.fresh)


@frozen(kw_only=True)
class Checkpoint:
    """A verification that is not complete: its plan and the runs that are done.

    `key` is of what is verified, and by what. The fresh seeds are part of the plan: an interruption
    does not lead to other ones.
    """

    schema: int = 1
    key: tuple[str, ...]
    plan: Plan
    done: tuple[Checked, ...] = field(default=())


def path_of(benchmarks: str, id: str) -> str:
    """The file of the checkpoint of a submission."""
    return join(files.inside(benchmarks, FOLDER), f"{ids.check_id(id)}.json")


def resume(path: str, key: Sequence[str], plan: Plan) -> Checkpoint:
    """The checkpoint with the same key, or a new one; also if it cannot be read."""
    with suppress(QnError, FileNotFoundError):
        data, _ = read.load(path)
        checkpoint = structure(read.parse(data, path), Checkpoint, file=path)
        if checkpoint.key == tuple(key):
            return checkpoint
    return Checkpoint(key=tuple(key), plan=plan)


def save(path: str, checkpoint: Checkpoint) -> None:
    """Writes the file. Raises StorageError."""
    make_folder(dirname(path))
    with published(path, replace=True) as stream:
        stream.write(document(checkpoint))


def remove(path: str) -> None:
    """Removes the file, once a verification is complete."""
    with suppress(OSError):
        os.unlink(path)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Locks a checkpoint for this process. Raises UsageError if another process has it."""
    make_folder(dirname(path))
    with suppress(OSError):
        # It is never committed, in whatever repository the benchmarks are.
        create(join(dirname(path), ".gitignore"), b"*\n")
    with naming(path):
        fd = files.open_file(f"{path}.lock", os.O_RDWR | os.O_CREAT)
    with locking(fd) as mine:
        if not mine:
            raise UsageError("is being verified by another process", file=path)
        yield


def key_of(sha256: str, *parts: object) -> tuple[str, ...]:
    """The key of a checkpoint: of a submission, its code and its plan."""
    return (sha256, *(orjson.dumps(part).decode() for part in parts))
