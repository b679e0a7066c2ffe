"""GPUs: what `nvidia-smi`, a part of the driver, says of them; nothing where there is none.

It may take a second, so it runs beside this program, once for each process.
"""

from __future__ import annotations

import os
from functools import cache

from qn_tracking.repository import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PROGRAM = "nvidia-smi"
FACTS = ("name", "driver_version", "memory.total")
USE = ("index", "utilization.gpu", "memory.used")
SECONDS = 5.0
"""How long the facts of a run wait for it; a sample waits `SOON`."""
SOON = 2.0
MOST_BYTES, MOST_ROWS = 1 << 16, 128
"""So much of what it has printed is read: another program may have its name."""
_MIB = 1 << 20
_found: dict[str, list[dict[str, Any]]] = {}


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


def known() -> list[dict[str, Any]] | None:
    """The facts, if they were found out in this process before; none where there is no program."""
    path = _program(os.environ.get("PATH", os.defpath))
    return [] if path is None else _found.get(path)


def facts(said: bytes) -> list[dict[str, Any]]:
    """Name, driver and memory in bytes of each GPU, from what the program has printed."""
    out = []
    for row in rows(said, len(FACTS)):
        memory = int(row[2]) * _MIB if _is_number(row[2]) else None
        out.append({"name": row[0], "driver": row[1], "memory_bytes": memory})
    path = _program(os.environ.get("PATH", os.defpath))
    if path is not None:
        _found[path] = out
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
