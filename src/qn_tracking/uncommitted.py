"""The uncommitted changes that git has printed last, for further runs of this process.

They are printed again only if something has changed on which they depend.
"""

from __future__ import annotations

import os
import time
from stat import S_ISDIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from qn_tracking.repository import Repository

MAX_FILES = 1_000
MAX_KEPT = 1 << 20
RACY_NANOSECONDS = 100_000_000
"""A file that was changed less than this ago may be changed again in the same tick of its clock."""

_last: tuple[tuple[Any, ...], bytes] | None = None


def state(
    repository: Repository, places: Sequence[str], said: bytes, names: Sequence[str]
) -> tuple[Any, ...] | None:
    """What the changes below some `places` depend on; None if they have to be printed anyway.

    That is what `git status` has `said`, and of the files with these `names`, changed and untracked
    ones, when they were last changed, and their size: the text of `git status` is the same if a
    changed file is changed again.
    """
    files = _files(repository.top or "", names) if len(names) <= MAX_FILES else None
    if files is None:
        return None
    return repository.top, repository.commit, *repository.settings, *places, said, *files


def _files(top: str, names: Iterable[str]) -> list[Any] | None:
    recent = time.time_ns() - RACY_NANOSECONDS
    found: list[Any] = []
    for name in names:
        try:
            about = os.lstat(os.path.join(top, name))
        except (FileNotFoundError, NotADirectoryError):
            found.append(None)
            continue
        except OSError:
            return None
        # A folder is a submodule, or a repository of its own: what is in it is not seen here.
        if S_ISDIR(about.st_mode) or max(about.st_mtime_ns, about.st_ctime_ns) > recent:
            return None
        found.append((about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino))
    return found


def printed(state: tuple[Any, ...] | None) -> bytes | None:
    """What git has printed in this state, if it was the last one."""
    last = _last
    return last[1] if last is not None and last[0] == state else None


def keep(state: tuple[Any, ...] | None, said: bytes) -> None:
    """Keeps what git has printed, after this state was seen."""
    global _last
    if state is not None and len(said) <= MAX_KEPT:
        _last = state, said
