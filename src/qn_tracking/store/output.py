"""What a run has printed: `output.txt` in its folder, without secrets, and of a long text its begin
and its end.
"""

from __future__ import annotations

import os
import re
from os.path import join
from typing import BinaryIO

from qn_tracking.errors import UnsupportedError
from qn_tracking.redact import redact_text
from qn_tracking.store import paths, read
from qn_tracking.store.write import create, naming, published, write_all

NAME = "output.txt"
MOST = 2 << 20
"""Bytes of the output that are kept: the first half of them, and the last."""
LONGEST = 1 << 16
"""Bytes of a line that are waited for."""


def path(experiments: str, id: str) -> str:
    """Where it is kept."""
    return join(paths.run_folder(experiments, id), NAME)


def load(experiments: str, id: str) -> bytes:
    """What a run has printed so far. Raises UnsupportedError if nothing is kept, StorageError."""
    file = path(experiments, id)
    try:
        return read.load(file)[0]
    except FileNotFoundError:
        hint = "track(capture_output=True) and qn-run --capture-output keep it"
        raise UnsupportedError("no output is kept here", file=file, hint=hint) from None


def text(data: bytes) -> str:
    """What was printed, without what a terminal would take for colours and movements."""
    return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", data.decode("utf-8", "replace"))


def keep(source: str, place: str) -> None:
    """Writes the new file `place` from what a program has printed into `source`. Raises OSError."""
    with open(source, "rb") as stream:
        create(place, _clean(_ends(stream, os.fstat(stream.fileno()).st_size)))


def _ends(stream: BinaryIO, total: int) -> bytes:
    """The begin and the end of a file that stands for `total` bytes."""
    stream.seek(0)
    if total <= MOST:
        return stream.read()
    begin = stream.read(MOST // 2)
    stream.seek(-(MOST // 2), os.SEEK_END)
    return begin + b"\n[%d bytes are left out]\n" % (total - MOST) + stream.read()


def _clean(data: bytes) -> bytes:
    return redact_text(data.decode("utf-8", "replace")).encode()


def _visible(line: bytes) -> bytes:
    """A line as it stays on a terminal: of a progress bar its last state."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


class Channel:
    """Bytes that come in pieces, as whole lines."""

    def __init__(self) -> None:
        self._begun = b""

    def lines(self, data: bytes) -> bytes:
        """The lines that are whole by now; of one that does not end, what is whole of it."""
        whole, end, rest = (self._begun + data).rpartition(b"\n")
        if b"\r" in rest:
            rest = _visible(rest) + b"\r" * rest.endswith(b"\r")
        cut = max(rest.rfind(b" ") + 1, LONGEST // 2) if len(rest) > LONGEST else 0
        self._begun = rest[cut:]
        if b"\r" in whole:
            whole = b"\n".join(map(_visible, whole.split(b"\n")))
        return whole + end + rest[:cut]

    def rest(self) -> bytes:
        """The line that was not ended."""
        rest, self._begun = self._begun, b""
        return _visible(rest)


class Output:
    """The file while it grows. Every method raises StorageError."""

    def __init__(self, path: str) -> None:
        self._path, self._total = path, 0
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with naming(path):
            self._stream = open(os.open(path, flags, 0o666), "r+b", buffering=0)  # noqa: SIM115

    def add(self, lines: bytes) -> None:
        """Adds whole lines, without their secrets."""
        if not lines:
            return
        data = _clean(lines)
        with naming(self._path):
            write_all(self._stream.fileno(), data)
            self._total += len(data)
            if self._stream.tell() > 2 * MOST:
                self._replace(_ends(self._stream, self._total))

    def close(self) -> None:
        """Makes it as short as it has to be. Secrets of several lines are found only now."""
        with naming(self._path):
            self._replace(_clean(_ends(self._stream, self._total)))
        self._stream.close()

    def _replace(self, data: bytes) -> None:
        with published(self._path, replace=True) as new:
            new.write(data)
        self._stream.close()
        self._stream = open(self._path, "r+b", buffering=0)  # noqa: SIM115
        self._stream.seek(0, os.SEEK_END)
