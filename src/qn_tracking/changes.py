"""The uncommitted changes of a repository as the last run of this process has read them.

What a further run reads is the same as long as git's status, the settings and every changed file
are: then `git diff` need not run again.
"""

from __future__ import annotations

import os
import time
from os.path import basename, join
from stat import S_ISDIR

from qn_tracking.repository import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

YOUNG = 2_000_000_000
"""Nanoseconds for which a file may change again without its times showing it."""
MOST = 8 << 20
"""Bytes of a patch that is kept."""


class Changes:
    """The state of a repository in which a patch was read: equal if the patch would be, too."""

    def __init__(self, about: object, said: bytes, status: Status, top: str) -> None:
        """`about` is what else the patch depends on: repository, settings, and the command.

        To be made before the patch is read, or else a change meanwhile would be missed.
        """
        self._state = about, said
        self._files = _stamps(status, top)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Changes):
            return NotImplemented
        certain = self._files is not None
        return certain and (self._state, self._files) == (other._state, other._files)

    __hash__ = None  # type: ignore[assignment]


class _Last:
    """What the last run of this process has read: the repository, its changes, and the patch."""

    top: str | None = None
    read: tuple[Changes, bytes] | None = None


def known(top: str) -> bool:
    """Whether a run of this process has read this repository before; from now on it has."""
    if _Last.top == top:
        return True
    _Last.top, _Last.read = top, None
    return False


def patch_of(changes: Changes) -> bytes | None:
    """The patch of the last run if these are the same changes."""
    read = _Last.read
    return read[1] if read is not None and read[0] == changes else None


def keep(changes: Changes, patch: bytes) -> None:
    """Keeps the patch for the next run."""
    if len(patch) <= MOST:
        _Last.read = changes, patch


def _stamps(status: Status, top: str) -> list[Any] | None:
    """What shows that a file was written; None where that is not certain."""
    if status.submodules:
        return None
    found: list[Any] = []
    now = time.time_ns()
    # What git says of an untracked file is its name, and attributes decide how a patch reads.
    attributes = [name for name in status.untracked if basename(name) == ".gitattributes"]
    for name in (*status.changed, *attributes):
        try:
            one = os.lstat(join(top, name))
        except FileNotFoundError:
            found.append(None)
            continue
        except OSError:
            return None
        if S_ISDIR(one.st_mode) or now - max(one.st_mtime_ns, one.st_ctime_ns) < YOUNG:
            return None
        found.append((one.st_mtime_ns, one.st_ctime_ns, one.st_size, one.st_ino, one.st_mode))
    return found
