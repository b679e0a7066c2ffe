"""The episode journal: one line an episode, one write a line.

A line is a JSON object: the episode's exact fields, its timing, and last `crc`, the CRC-32 of the
bytes before `,"crc"`. It is committed only if its newline is there. A process that is killed loses
nothing; a machine that loses power, at most the last seconds.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from functools import partial
from os.path import basename, dirname
from time import monotonic
from typing import TYPE_CHECKING, Any
from zlib import crc32

import orjson

from qn_tracking.errors import UsageError
from qn_tracking.files import lock, lock_soon, open_file, os_error
from qn_tracking.records.codec import document, plain
from qn_tracking.records.model import Episode, Logged, RunInfo
from qn_tracking.records.schema import RUN
from qn_tracking.store.write import naming, published, write_all

if TYPE_CHECKING:
    from qn_tracking.records.batch import Batch

SYNC_SECONDS = 5.0
_CHUNK = 1 << 20


def run_file(run: RunInfo, *, locks: bool = True) -> bytes:
    """The text of `run.json`: what is known before the first episode, and which process runs it.

    Without `locks` on its file system, whether the process still does cannot be seen.
    """
    process: dict[str, Any] = {"host": os.uname().nodename, "pid": os.getpid()}
    if not locks:
        process["locks"] = False
    return document({"schema": RUN.version, **plain(run), **process})


def line(episode: Episode) -> bytes:
    """The journal's line of an episode, newline included."""
    # The loop of a simulation waits for this: adding takes half the time of one format.
    body = episode.exact[:-1] + b',"timing":' + orjson.dumps(episode.timing)
    return body + b',"crc":"%08x"}\n' % crc32(body)


def batch_lines(batch: Batch) -> list[bytes]:
    """The journal's lines of many episodes."""
    if batch.timing:
        return [line(episode) for episode in batch]
    timing = b',"timing":%b' % orjson.dumps({"at": batch.at})
    bodies = [exact[:-1] + timing for exact in batch.exact]
    return [b'%b,"crc":"%08x"}\n' % (body, crc32(body)) for body in bodies]


def logged_line(metrics: Logged) -> bytes:
    """The line of a call of `log` in the file of the series, newline included."""
    body = b'%b,"at":%b' % (metrics.exact[:-1], orjson.dumps(metrics.at))
    return b'%b,"crc":"%08x"}\n' % (body, crc32(body))


class Lines:
    """A file to which whole lines are added, each by one write: a new one, or with `more` one that
    is there, of which `cut` has to take what a kill has torn.
    """

    def __init__(self, path: str, *, more: bool = False) -> None:
        self.path = path
        with naming(path):
            flags = os.O_RDWR | os.O_APPEND
            if more:
                self._fd = open_file(path, flags)
            else:
                flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                self._fd = os.open(path, flags, 0o666)
            self.size = os.fstat(self._fd).st_size
            """Bytes that are committed."""
        self._synced = monotonic()

    def cut(self) -> None:
        """Removes what follows the last newline. Raises StorageError."""
        with naming(self.path):
            end, at = self.size, -1
            while end and at < 0:
                begin = max(0, end - _CHUNK)
                at = os.pread(self._fd, end - begin, begin).rfind(b"\n")
                end = begin
            whole = end + at + 1
            if whole != self.size:
                os.ftruncate(self._fd, whole)
            self.size = whole

    def commit(self, data: bytes) -> None:
        """Adds a line. Raises StorageError; what did not fit is cut off again."""
        try:
            written = os.write(self._fd, data)
            if written != len(data):  # how a full disk begins; the next write says why
                write_all(self._fd, data[written:])
            self.size += len(data)
            now = monotonic()
            if now - self._synced > SYNC_SECONDS:
                self._synced = now
                os.fdatasync(self._fd)
        except OSError as error:
            if error.errno is None:  # of a signal handler: a TimeoutError is one, too
                raise
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise os_error(self.path, error) from None

    def settle(self, data: bytes, before: int) -> None:
        """Commits a line during which an interrupt arrived, at `before` bytes."""
        with naming(self.path):
            self.size = before + len(data)
            if os.fstat(self._fd).st_size < self.size:
                os.ftruncate(self._fd, before)
                self.size = before
                self.commit(data)

    def sync(self) -> None:
        """Makes every line so far durable."""
        with naming(self.path):
            os.fsync(self._fd)

    @property
    def is_in_place(self) -> bool:
        """Whether its file still has its name: the folder may have been removed."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            return False

    def save_as(self, path: str) -> None:
        """Writes what is committed to another file, which must not exist yet; durable on return."""
        with published(path) as stream:
            for begin in range(0, self.size, _CHUNK):
                stream.write(os.pread(self._fd, min(_CHUNK, self.size - begin), begin))
        self.path = path

    def close(self) -> None:
        """Ends the lock, if there is one; once only."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)


class Journal(Lines):
    """The journal of a running run; its lock shows that the writer is alive, if it is `locked`."""

    def __init__(self, path: str, *, more: bool = False) -> None:
        super().__init__(path, more=more)
        try:
            # No other process writes to a new one; a listing that looks holds it for an instant.
            self.locked = lock_soon(self._fd) if more else lock(self._fd)
        except BlockingIOError:
            self.close()
            raise UsageError("is still running", file=basename(dirname(path))) from None
        except OSError as error:
            self.close()
            raise os_error(path, error) from None
        # A forked copy shares the lock: it lets go, or a crash of this process would go unseen.
        os.register_at_fork(after_in_child=partial(_let_go, weakref.ref(self)))


def _let_go(reference: weakref.ref[Journal]) -> None:
    journal = reference()
    if journal is not None:
        journal.close()
