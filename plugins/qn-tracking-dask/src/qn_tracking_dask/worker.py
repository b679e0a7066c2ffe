"""The code that runs on a worker of the cluster: one run at a time per process."""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from threading import Event, Lock, Thread
from typing import Any

from attrs import evolve
from distributed import Event as ClusterEvent, Worker, get_client, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from qn_tracking.plugin import RemoteRun, run_remotely

TOPIC = "qn-tracking"
"""The topic of the scheduler's events that report the start of a run."""
PAUSE = 1.0
"""Seconds between two checks whether a run is still wanted."""

_TURN = Lock()
"""Runs of one process take turns: random generators and libraries have state per process."""


class Call:
    """A call that is made by unpickling this object.

    If a scheduler or a worker lacks a package and cannot unpickle a message, its connection breaks.
    So they get only bytes, for `pickle.loads` as the task.
    """

    def __init__(self, *parts: Any) -> None:
        """The arguments of `run`."""
        self._parts = parts

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return run, self._parts


def run(
    stop_event: str,
    expected: Mapping[str, str],
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Calls a function in a task of a worker.

    If the function is `run_remotely`, the run ends after its current episode when the cluster's
    event named `stop_event` is set, or when its result is no longer wanted. `expected`
    has the versions of the process that started the study.
    """
    worker = get_worker()
    key = str(worker.get_current_task())
    if function is not run_remotely:
        worker.log_event(TOPIC, {"begun": key})
        return function(*args, **kwargs)
    threads_were_free = _threads_are_free()
    with _watched(worker, key, stop_event) as must_end:
        while not _TURN.acquire(timeout=PAUSE):
            if must_end():
                raise InterruptedError("stopped before it started")
        try:
            worker.log_event(TOPIC, {"begun": key})
            result: RemoteRun = function(*args, **{**kwargs, "stop": must_end})
        finally:
            _TURN.release()
    warnings = [
        f"the worker has {name} {found}, the study was started with {expected.get(name)}"
        for name, found in versions().items()
        if found != expected.get(name)
    ]
    if threads_were_free:
        warnings.append(
            "NumPy was imported on the worker before it was limited to one thread: start the worker"
            " with OMP_NUM_THREADS=1, or without --no-nanny"
        )
    return evolve(result, warnings=(*result.warnings, *warnings)) if warnings else result


@contextmanager
def _watched(worker: Worker, key: str, stop_event: str) -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether a run must end; a thread asks the scheduler."""
    over, end = Event(), Event()

    def ask() -> None:
        event = None
        while not over.wait(PAUSE):
            try:
                task = worker.state.tasks.get(key)
                if task is None or task.state in ("cancelled", "released", "forgotten"):
                    break  # the process that wanted it is gone
                if event is None:
                    event = ClusterEvent(stop_event, client=get_client())
                if event.is_set():
                    break
            except Exception:
                break  # the scheduler is gone
        end.set()

    # The context has the current worker.
    Thread(target=copy_context().run, args=(ask,), name="qn-tracking-watch", daemon=True).start()
    try:
        yield end.is_set
    finally:
        over.set()


def versions() -> dict[str, str]:
    """Return the versions, besides that of the code, that may change the last bit of a result."""
    try:
        numpy = version("numpy")
    except PackageNotFoundError:
        numpy = "none"
    return {"Python": ".".join(platform.python_version_tuple()[:2]), "NumPy": numpy}


@cache
def _threads_are_free() -> bool:
    """Whether NumPy was imported without a limit of threads before the first run."""
    return "numpy" in sys.modules and os.environ.get("OMP_NUM_THREADS") != "1"


class Attendant(WorkerPlugin):
    """Makes the workers of a local cluster ignore Ctrl-C, and with `quiet` hides their log."""

    name = "qn-tracking-attendant"

    def __init__(self, *, quiet: bool) -> None:
        """`quiet` hides the log of the workers."""
        self._quiet = quiet

    def setup(self, worker: Worker) -> None:
        if self._quiet:
            logging.getLogger("distributed").setLevel(logging.CRITICAL)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
