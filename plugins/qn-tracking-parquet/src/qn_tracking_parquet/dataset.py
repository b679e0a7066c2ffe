"""The folder of the two datasets, and the files of an experiment in it.

    FOLDER/runs/environment=…/brain=…/<id>.parquet
    FOLDER/episodes/environment=…/brain=…/<id>.parquet

A file is written in `FOLDER/.partial`, which readers ignore, and renamed when it is complete. Its
writer holds a lock. A file there without a lock belongs to a process that was killed, and the next
writer removes it. Each experiment has one file per dataset.
"""

from __future__ import annotations

import io
import os
import time
from contextlib import suppress
from hashlib import sha256
from os.path import join
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from qn_tracking.plugin import ConfigError, Subject, check_id, lock, storable, write

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSIONS = ("zstd", "snappy", "gzip", "lz4", "brotli", "none")
UNNAMED = "unnamed"
"""The partition of an empty name. Hive's name for null is no partition that pandas can read."""
LONGEST = 200
"""The longest name of a partition in bytes; file systems allow 255."""
_JUST_MADE = 60.0


def partition(subject: Subject) -> str:
    """Return the folder of an experiment below `runs` and `episodes`, from encoded names."""
    return join(f"environment={_segment(subject.environment)}", f"brain={_segment(subject.brain)}")


def _segment(value: str) -> str:
    """Encode a value as Hive, Arrow, DuckDB and Polars do: other characters as %XX.

    A value that is too long for a name keeps its beginning and gets a digest.
    """
    if not value:
        return UNNAMED
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
    """Return the file of an experiment in one of the datasets."""
    return join(folder, table, partition(subject), f"{check_id(id)}.parquet")


def check_compression(name: object) -> str:
    """Return the name if it is a supported compression. Raises ConfigError."""
    if name not in COMPRESSIONS:
        raise ConfigError(
            f"expected one of {', '.join(COMPRESSIONS)}, got {name!r}",
            file="plugin parquet",
            field="compression",
        )
    return str(name)


class Draft:
    """A file that is being written; `publish` makes it visible. Raises StorageError."""

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
        """Write the rows as one row group. Raises StorageError."""
        with write.naming(self.path):
            self._writer.write_table(rows, row_group_size=max(rows.num_rows, 1))

    def publish(self, path: str) -> None:
        """Give the complete, durable file its name; it replaces an existing one."""
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
        """Remove the file, unless it was published."""
        with suppress(OSError):
            os.unlink(self.path)
        self._file.mute()
        self._writer.close()
        with suppress(OSError):
            self._file.close()


class _OwnFile(io.FileIO):
    """A locked file that only the process that opened it can write.

    When a forked copy of the simulation ends, it closes its copy of the Parquet writer, which would
    write its last bytes into the middle of the file.
    """

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        super().__init__(os.open(path, flags, 0o666), "wb")
        self._pid = os.getpid()
        lock(self.fileno())

    def write(self, data: Any, /) -> int:
        """Write all bytes. Raises OSError."""
        if os.getpid() == self._pid:
            write.write_all(self.fileno(), data)
        return len(data)

    def mute(self) -> None:
        """Ignore all further writes of the Parquet writer."""
        self._pid = 0


def sweep(folder: str) -> None:
    """Remove unfinished files of processes that were killed."""
    partial = join(folder, ".partial")
    with suppress(OSError):
        for name in os.listdir(partial):
            with suppress(OSError):
                _remove_if_left(join(partial, name))


def _remove_if_left(path: str) -> None:
    # A new file may not have its lock yet.
    if not path.endswith(".tmp") or time.time() - os.stat(path).st_mtime < _JUST_MADE:
        return
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if lock(fd, wait=False):
            os.unlink(path)
    finally:
        os.close(fd)
