"""GPUs: what `nvidia-smi`, a part of the driver, says of them; nothing where there is none.

It may take seconds, so it runs beside this program, once for each process. A run that ends before
it has answered does not wait long for it, and a later run of the process has the answer.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from functools import cache

from qn_tracking.repository import Command, GitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Facts = list[dict[str, Any]]

PROGRAM = "nvidia-smi"
FACTS = ("name", "driver_version", "memory.total")
USE = ("index", "utilization.gpu", "memory.used")
SECONDS = 5.0
"""How long after it was asked for the facts it is given up."""
PATIENCE = 0.5
"""How long the end of a run waits for the facts; a sample waits `SOON`."""
SOON = 2.0
UNKNOWN = "unknown"
"""What stands for the facts where it has not answered."""
MOST_BYTES, MOST_ROWS = 1 << 16, 128
"""So much of what it has printed is read: another program may have its name."""
_MIB = 1 << 20
_found: dict[str, Facts | str] = {}
_asked: dict[str, tuple[float, Command]] = {}
"""By the path of the program: until when it may answer, and how it was asked for the facts."""
_lock = threading.Lock()


def start(fields: Sequence[str], out: int | None = None) -> Command | None:
    """The program that asks for these fields, started; None where it is not installed."""
    path = _program(os.environ.get("PATH", os.defpath))
    if path is None:
        return None
    arguments = [f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        return Command(arguments, os.environ, out, path)
    except OSError:
        return None


@cache
def _program(path: str) -> str | None:
    # As `shutil.which`, whose import takes longer than all that is done here.
    places = (os.path.join(folder, PROGRAM) for folder in path.split(os.pathsep))
    return next((one for one in places if os.access(one, os.X_OK) and os.path.isfile(one)), None)


def known() -> Facts | str | None:
    """The facts, if they were found out in this process before; none where there is no program."""
    path = _program(os.environ.get("PATH", os.defpath))
    return [] if path is None else _found.get(path)


def ask(out: Callable[[], int | None] = lambda: None) -> bool:
    """Asks for the facts, once in a process; False if the program does not start.

    `out` opens the file that is to have what it prints. Raises OSError of that.
    """
    path = _program(os.environ.get("PATH", os.defpath))
    if path is None:
        return False
    with _lock:
        if path in _asked:
            return True
        command = start(FACTS, out())
        if command is None:
            return False
        _asked[path] = time.monotonic() + SECONDS, command
        return True


def answer(seconds: float = PATIENCE) -> Facts | str:
    """The facts that were asked for, or `UNKNOWN` if they do not come within so many seconds."""
    path = _program(os.environ.get("PATH", os.defpath))
    if path is None:
        return []
    with _lock:
        if path in _found:
            return _found[path]
        if path not in _asked:  # forked since
            return UNKNOWN
        end, command = _asked[path]
        if not command.over(min(end, time.monotonic() + seconds)):
            if time.monotonic() < end:
                return UNKNOWN
            command.stop()
            _found[path] = UNKNOWN
        else:
            try:
                _found[path] = facts(command.result(end))
            except (GitError, OSError):  # there is a program, and no driver
                _found[path] = []
        del _asked[path]
        return _found[path]


@atexit.register
def _stop() -> None:
    """A driver that hangs must not outlive the process."""
    for _, command in _asked.values():
        command.stop()


def _forked() -> None:
    """In a new process: what was asked for is of the other one."""
    global _lock
    _lock = threading.Lock()
    _asked.clear()


os.register_at_fork(after_in_child=_forked)


def facts(said: bytes) -> Facts:
    """Name, driver and memory in bytes of each GPU, from what the program has printed."""
    out = []
    for row in rows(said, len(FACTS)):
        memory = int(row[2]) * _MIB if _is_number(row[2]) else None
        out.append({"name": row[0], "driver": row[1], "memory_bytes": memory})
    return out


def use(said: bytes) -> dict[str, float]:
    """Shares in use of computation (percent) and memory (bytes), as values of series."""
    out = {}
    for index, busy, memory in rows(said, len(USE)):
        if not _is_number(index):
            continue
        for name, text, unit in (("percent", busy, 1), ("memory_bytes", memory, _MIB)):
            if _is_number(text):  # else it says that it does not know
                out[f"gpu{index}/{name}"] = float(int(text) * unit)
    return out


def rows(said: bytes, count: int) -> list[list[str]]:
    """The first lines with so many values."""
    lines = said[:MOST_BYTES].decode("utf-8", "replace").splitlines()
    split = [[value.strip() for value in line.split(",")] for line in lines]
    return [row for row in split if len(row) == count][:MOST_ROWS]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
