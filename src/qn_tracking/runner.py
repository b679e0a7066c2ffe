"""Runs a session of a simulation: its episodes, one after the other, into a recorder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from qn_tracking.model import Experiment, Simulation
from qn_tracking.recorder import Recorder

HANG_SECONDS = 10.0
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def pin_numeric_threads() -> None:
    """One thread for each numeric library that is imported from now on.

    How a sum is split among threads changes its last bit, and small matrices are slower in many.
    """
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))


def run_session(
    simulation: Simulation,
    recorder: Recorder,
    *,
    runs: int,
    seed: int,
    stop: Callable[[], bool] = lambda: False,
) -> Experiment:
    """Runs the episodes of one session; `stop` is asked after each.

    What the simulation raises passes, after the record of what there was is sealed. Raises the
    failure of a plugin at the start or at the end.
    """
    for text in simulation.warnings:
        recorder.warn(text)
    with recorder, _watchdog(recorder):
        episodes = simulation.episodes(runs, seed)
        for episode in episodes:
            recorder.episode(**episode)
            if stop():
                recorder.end("interrupted")
                break
        close = getattr(episodes, "close", None)
        if close is not None:
            close()
    assert recorder.experiment is not None
    return recorder.experiment


@contextmanager
def _watchdog(recorder: Recorder) -> Iterator[None]:
    """Names a plugin that has not come back from a hook, once."""
    from threading import Event, Thread

    over = Event()

    def watch() -> None:
        named: set[str] = set()
        while not over.wait(1.0):
            busy = recorder.busy
            if busy is not None and busy[1] > HANG_SECONDS and busy[0] not in named:
                named.add(busy[0])
                recorder.warn(f"plugin {busy[0]} has been busy for {busy[1]:.0f} s")

    thread = Thread(target=watch, name="qn-tracking-watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(2.0)
