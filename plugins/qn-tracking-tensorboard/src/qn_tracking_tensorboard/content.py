"""What of a run goes into which event file, under which tag."""

from __future__ import annotations

from collections.abc import Callable
from os.path import join
from urllib.parse import quote

from qn_tracking.plugin import Episode, Logged, StorageError, microseconds
from qn_tracking_tensorboard.events import EventFile

EPISODE = "episode/"
SERIES = "series/"
"""Before the name of a series that would be taken for a number of episodes."""
LONGEST = 100


class Writer:
    """The event files of a run: one of its own, and one in a folder for each other phase.

    TensorBoard shows a phase as a run beside the main one, with the same tags. Numbers of episodes
    are `episode/NAME`, at the index of the episode; those of a phase are at the number of episodes
    of the main phase before them. Series have their own names and steps. Raises StorageError.
    """

    def __init__(self, folder: str, started: str) -> None:
        self._folder, self._started = folder, seconds(started)
        self._files: dict[str | None, EventFile] = {}
        self._file(None)

    def _file(self, phase: str | None) -> EventFile:
        if phase not in self._files:
            name = "" if phase is None else quote(phase, safe=" ")[:LONGEST].strip(".") or "phase"
            self._files[phase] = EventFile(join(self._folder, name), self._started)
        return self._files[phase]

    def add(self, one: Episode | Logged) -> None:
        """Add an episode, or what was logged between episodes."""
        if isinstance(one, Logged):
            values = {
                f"{SERIES}{name}" if name.startswith((EPISODE, SERIES)) else name: value
                for name, value in one.values.items()
            }
            self._file(None).scalars(values, one.step, self._started + one.at)
            return
        own = {"success": one.success, "steps": one.steps, "reward": one.reward}
        values = {name: float(value) for name, value in own.items() if value is not None}
        for group in (one.counts, one.metrics):
            # A number of the program never replaces these.
            values |= {
                f"metrics.{key}" if key in own else key: float(v) for key, v in group.items()
            }
        step = one.index if one.after is None else one.after
        at = self._started + one.timing.get("at", 0.0)
        tagged = {f"{EPISODE}{name}": value for name, value in values.items()}
        self._file(one.phase).scalars(tagged, step, at)

    def flush(self) -> None:
        """Make everything so far visible to TensorBoard."""
        self._each(EventFile.flush)

    def close(self) -> None:
        """Close the files; it may be called again."""
        self._each(EventFile.close)

    def _each(self, do: Callable[[EventFile], None]) -> None:
        failed: StorageError | None = None
        for file in self._files.values():
            try:
                do(file)
            except StorageError as error:
                failed = error
        if failed is not None:
            raise failed


def seconds(time: str) -> float:
    """Return a time of a record in seconds since 1970; 0 for an invalid one."""
    try:
        return microseconds(time) / 1_000_000
    except (ValueError, OverflowError):
        return 0.0
