"""The sink that samples processor, memory and GPUs while a run goes on.

The values are no results: they depend on the clock and the machine. So they are in a file beside
that of the series, their summaries are facts, and no digest covers either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from os.path import isdir, join, lexists
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from qn_tracking.errors import ConfigError, QnError, describe
from qn_tracking.records.codec import plain
from qn_tracking.records.model import Episode, RunInfo
from qn_tracking.records.series import SeriesTally, logged
from qn_tracking.store import paths, series
from qn_tracking.store.journal import Lines, logged_line
from qn_tracking.tracking.hookspecs import hookimpl

if TYPE_CHECKING:
    from qn_tracking.records.batch import Batch

PREFIX = "resources/"
"""Begins the names of these series."""
LEAST, MOST = 0.05, 3600.0
PATIENCE = 3.0
"""Seconds that the end of a run waits for a sample that is being taken."""


class Resources:
    """Samples the resources of one run in a thread, every so many seconds, and at its end.

    Raises ConfigError for an invalid option.
    """

    starts_after_storage = True
    """Its file is in the folder of the run."""

    def __init__(self, every: float = 10.0) -> None:
        if type(every) not in (int, float) or not LEAST <= every <= MOST:
            cause = f"expected seconds from {LEAST:g} to {MOST:g}, got {every!r}"
            raise ConfigError(cause, file="plugin resources", field="every")
        self._every = float(every)
        self._over = Event()
        self._thread: Thread | None = None
        self._tally = SeriesTally()
        self._file: Lines | None = None
        self._step = self._episode = 0
        self._began = 0.0
        self._warn: Callable[[str], None]

    @hookimpl
    def run_start(self, run: RunInfo, warn: Callable[[str], None]) -> None:
        """Opens the file, where a run is stored, and starts the thread."""
        self._warn, self._began = warn, time.perf_counter()
        folder = ""
        if run.experiments_dir is not None:
            folder = paths.run_folder(run.experiments_dir, run.id)
        if run.lives:
            self._episode = run.lives[-1].episodes
            self._began -= run.lives[-1].seconds
        if isdir(folder):
            self._open(folder)
        self._thread = Thread(target=self._watch, name="qn-tracking-resources", daemon=True)
        self._thread.start()

    def _open(self, folder: str) -> None:
        path = join(folder, series.RESOURCES)
        more = lexists(path)
        self._file = Lines(path, more=more)
        if more:  # of a run that is resumed
            self._file.cut()
            for one in series.calls(folder, series.RESOURCES):
                self._tally.add(one)
                self._step = one.step + 1

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        """Notes which episode is going on."""
        if episode.phase is None:
            self._episode = episode.index + 1

    @hookimpl
    def episodes_end(self, episodes: Batch) -> None:
        """Notes which episode is going on."""
        if episodes.phase is None:
            self._episode = episodes.first + len(episodes)

    @hookimpl
    def run_facts(self) -> Mapping[str, Any] | None:
        """The summaries; the thread has ended."""
        if not self._stopped():
            return None
        return {"every": self._every, "series": plain(self._tally.summaries())}

    @hookimpl
    def run_end(self) -> None:
        self._stopped()

    def _stopped(self) -> bool:
        """Ends the thread; False if it does not end, and what it sampled is not to be touched."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)
            if self._thread.is_alive():
                return False
        self._thread = None
        return True

    # ---------------------------------------------------------------------------------- the thread

    def _watch(self) -> None:
        try:
            import psutil

            process = psutil.Process()
            for of in (psutil, process):
                of.cpu_percent()  # each value is since the last call
            while not self._over.wait(self._every):
                self._take({**_of_machine(psutil, process), **_of_gpus()})
            self._take(_of_machine(psutil, process))
        except Exception as error:  # no reason to end a run
            self._warn(f"resources: {describe(error)}; they are not sampled any more")
        finally:
            if self._file is not None:
                self._file.close()

    def _take(self, values: Mapping[str, float]) -> None:
        named = {f"{PREFIX}{name}": value for name, value in values.items()}
        at = time.perf_counter() - self._began
        one = logged(self._step, self._episode, at, named)
        self._step += 1
        self._tally.add(one)
        if self._file is not None:
            try:
                self._file.commit(logged_line(one))
            except QnError as error:
                self._warn(f"{error}; only summaries of the resources are kept")
                self._file.close()
                self._file = None


def _of_machine(psutil: Any, process: Any) -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {
        "cpu_percent": process.cpu_percent(),
        "memory_bytes": float(process.memory_info().rss),
        "system_cpu_percent": psutil.cpu_percent(),
        "system_memory_bytes": float(memory.total - memory.available),
    }


def _of_gpus() -> dict[str, float]:
    from qn_tracking import devices

    command = devices.start(devices.USE)
    if command is None:
        return {}
    try:
        return devices.use(command.result(time.monotonic() + devices.SOON))
    except Exception:  # without a driver, or too slow: the next time may be better
        return {}
