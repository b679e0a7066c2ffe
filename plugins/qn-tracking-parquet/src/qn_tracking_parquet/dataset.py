"""The folder of the two datasets: which file an experiment is, and when it is there.

    FOLDER/runs/environment=…/brain=…/<id>.parquet
    FOLDER/episodes/environment=…/brain=…/<id>.parquet

A file is written under another name in `FOLDER/.partial`, where no reader looks, and renamed when
it is whole. The same experiment is the same file. Its writer holds a lock for as long as it lives:
what is left there without one is of a process that was killed, and the next writer removes it.
"""

from __future__ import annotations

import fcntl
import io
import os
import time
from contextlib import suppress
from hashlib import sha256
from os.path import join
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from qn_tracking.plugin import ConfigError, Subject, check_id, storable, write

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSIONS = ("zstd", "snappy", "gzip", "lz4", "brotli", "none")
NOTHING = "__HIVE_DEFAULT_PARTITION__"
"""What stands for null in the name of a partition, in Hive and all that read as it does."""
LONGEST = 200
"""Bytes of the name of a partition; file systems end at 255."""
_JUST_MADE = 60.0


def partition(subject: Subject) -> str:
    """The folder of an experiment below `runs` and `episodes`; its parts cannot lead elsewhere."""
    return join(f"environment={_segment(subject.environment)}", f"brain={_segment(subject.brain)}")


def _segment(value: str) -> str:
    """A value as Hive, Arrow, DuckDB and Polars encode it: what is no plain character as %XX.

    One that is too long for a name keeps its beginning, and a digest of the whole.
    """
    if not value:
        return NOTHING
    value = storable(value)
    text = quote(value, safe="")
    if len(text) > LONGEST:
        mark = f"~{sha256(value.encode()).hexdigest()[:16]}"
        head = value[:LONGEST]
        while len(quote(head, safe="")) > LONGEST - len(mark):
            head = head[:-1]
        return quote(head, safe="") + mark
    return text


def place(folder: str, table: str, subject: Subject, id: str) -> str:
    """The file of an experiment in one of the tables."""
    return join(folder, table, partition(subject), f"{check_id(id)}.parquet")


def check_compression(name: object) -> str:
    """The name, if files can be compressed so. Raises ConfigError."""
    if name not in COMPRESSIONS:
        raise ConfigError(
            f"expected one of {', '.join(COMPRESSIONS)}, got {name!r}",
            file="plugin parquet",
            field="compression",
        )
    return str(name)


class Draft:
    """A file that is being written; only `publish` lets anybody see it. Raises StorageError."""

    def __init__(self, folder: str, schema: pa.Schema, compression: str) -> None:
        import pyarrow.parquet

        partial = join(folder, ".partial")
        write.make_folder(partial)
        self.path = join(partial, f"{os.urandom(8).hex()}.tmp")
        with write.naming(self.path):
            self._file = _OwnFile(self.path)
        self._writer: Any = pyarrow.parquet.ParquetWriter(
            self._file, schema, compression=compression
        )

    def write(self, rows: pa.Table) -> None:
        """Adds the rows, as one group of their own. Raises StorageError."""
        with write.naming(self.path):
            self._writer.write_table(rows, row_group_size=max(rows.num_rows, 1))

    def publish(self, path: str) -> None:
        """Gives the file its name, whole and durable, in place of one that has it already."""
        try:
            with write.naming(self.path):
                self._writer.close()
                os.fsync(self._file.fileno())
            above = os.path.dirname(path)
            write.make_folder(above)
            with write.naming(path):
                os.replace(self.path, path)
                write.sync_folder(above)
        finally:
            self.discard()

    def discard(self) -> None:
        """Removes what was written, unless it was published."""
        with suppress(OSError):
            os.unlink(self.path)
        self._file.mute()
        self._writer.close()
        with suppress(OSError):
            self._file.close()


class _OwnFile(io.FileIO):
    """Locked, and written to by the process that opened it and no other.

    A forked copy of the simulation that ends closes its copy of the Parquet writer, too, which
    would write its last bytes into the middle of ours.
    """

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        super().__init__(os.open(path, flags, 0o666), "wb")
        self._pid = os.getpid()
        fcntl.flock(self.fileno(), fcntl.LOCK_EX)

    def write(self, data: Any, /) -> int:
        """Every byte. Raises OSError."""
        if os.getpid() == self._pid:
            write.write_all(self.fileno(), data)
        return len(data)

    def mute(self) -> None:
        """From now on nothing is written, whatever a Parquet writer still has to say."""
        self._pid = 0


def sweep(folder: str) -> None:
    """Removes what a process that was killed left unfinished; what is in use stays."""
    partial = join(folder, ".partial")
    with suppress(OSError):
        for name in os.listdir(partial):
            with suppress(OSError):
                _remove_if_left(join(partial, name))


def _remove_if_left(path: str) -> None:
    # One that was made this instant may not have its lock yet.
    if not path.endswith(".tmp") or time.time() - os.stat(path).st_mtime < _JUST_MADE:
        return
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(fd)
