"""The episodes of a run, as they come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from os.path import lexists

from qn_tracking.errors import UnsupportedError
from qn_tracking.records.limits import RUNNING
from qn_tracking.records.model import Episode
from qn_tracking.store import paths
from qn_tracking.store.read import Lines, ending
from qn_tracking.store.unfinished import status_now

PAUSE = 0.2
"""Seconds between two looks at a journal."""


def episodes(
    experiments: str, id: str, *, last: int, follow: bool, warn: Callable[[str], None]
) -> Iterator[Episode | None]:
    """The last episodes (0: all), and with `follow` those that come, until the run is over.

    None stands for a pause. Raises UnsupportedError if the episodes are not here.
    """
    journal = paths.journal(experiments, id)
    if not lexists(journal) and not _running(experiments, id):
        raise UnsupportedError(
            "the episodes are not here", file=journal, hint="run folders are not in git"
        )
    return _episodes(experiments, id, journal, last, follow, warn)


def _running(experiments: str, id: str) -> bool:
    if lexists(paths.record(experiments, id)):
        return False
    return status_now(experiments, id) == RUNNING


def _episodes(
    experiments: str,
    id: str,
    journal: str,
    last: int,
    follow: bool,
    warn: Callable[[str], None],
) -> Iterator[Episode | None]:
    torn = 0
    offset, count = ending(journal, last) if last and lexists(journal) else (0, 0)
    first: deque[Episode] | None = deque(maxlen=last or None)
    while True:
        # Asked before the reading: what was written until the end of the run has been read.
        over = not follow or not _running(experiments, id)
        if lexists(journal):
            lines = Lines(journal, offset, count)
            for episode in lines:
                if first is None:
                    yield episode
                else:
                    first.append(episode)
            offset, count, torn = lines.committed, lines.count, lines.torn
            if first is not None:
                yield from first
                first = None
        if over:
            break
        yield None
        time.sleep(PAUSE)
    if torn and not _running(experiments, id):
        warn(f"{journal}: a torn last line of {torn} bytes is left out")
