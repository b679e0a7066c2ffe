"""Temporary folders of this program, which a later process removes if this one is killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import join

from qn_tracking.files import lock

PREFIX = "qn-tracking-"


@contextmanager
def private_folder() -> Iterator[str]:
    """A folder that no other user can read, locked by this process; removed afterwards."""
    place = os.path.realpath(tempfile.mkdtemp(prefix=PREFIX))
    fd = os.open(join(place, "lock"), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        lock(fd)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(fd)


def in_use(place: str) -> bool:
    """Whether the process that made a private folder may still run: it holds the lock."""
    try:
        fd = os.open(join(place, "lock"), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not lock(fd, wait=False)
    except OSError:
        return True
    finally:
        os.close(fd)
