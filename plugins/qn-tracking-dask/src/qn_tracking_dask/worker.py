"""What runs on a worker of the cluster: one run at a time in its process."""

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

from qn_tracking.plugin import Played, play

TOPIC = "qn-tracking"
"""The events of the scheduler by which runs say that they have begun."""
PAUSE = 1.0
"""Seconds between two questions whether a run is still wanted."""

_TURN = Lock()
"""Global generators, and what a library keeps, belong to the process: runs take turns in it."""


class Call:
    """A call that is made where this is unpickled.

    A message that a scheduler or a worker cannot unpickle, for want of a package, breaks its
    connection. So all that they get is bytes, for `pickle.loads` as the task.
    """

    def __init__(self, *parts: Any) -> None:
        """The arguments of `run`."""
        self._parts = parts

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return run, self._parts


def run(
    told: str,
    here: Mapping[str, str],
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Calls a function in a task of a worker.

    If it is `elsewhere.play`, the run ends after its episode once the cluster's event `told`
    is set, or nobody wants its result any more. `here` are the versions of whoever submitted it.
    """
    worker = get_worker()
    key = str(worker.get_current_task())
    if function is not play:
        worker.log_event(TOPIC, {"begun": key})
        return function(*args, **kwargs)
    threads_were_free = _threads_are_free()
    with _asking(worker, key, told) as must_end:
        while not _TURN.acquire(timeout=PAUSE):
            if must_end():
                raise InterruptedError("told to end before it began")
        try:
            worker.log_event(TOPIC, {"begun": key})
            played: Played = function(*args, **{**kwargs, "stop": must_end})
        finally:
            _TURN.release()
    warnings = [
        f"the worker has {name} {there}, whoever started the study {here.get(name)}"
        for name, there in versions().items()
        if there != here.get(name)
    ]
    if threads_were_free:
        warnings.append(
            "NumPy was imported on the worker before it was held to one thread: start the worker"
            " with OMP_NUM_THREADS=1, or without --no-nanny"
        )
    return evolve(played, warnings=(*played.warnings, *warnings)) if warnings else played


@contextmanager
def _asking(worker: Worker, key: str, told: str) -> Iterator[Callable[[], bool]]:
    """Finds out, in a thread since the answer is on the network, whether a run must end."""
    over, end = Event(), Event()

    def ask() -> None:
        event = None
        while not over.wait(PAUSE):
            try:
                task = worker.state.tasks.get(key)
                if task is None or task.state in ("cancelled", "released", "forgotten"):
                    break  # whoever wanted it has gone, or has been killed
                if event is None:
                    event = ClusterEvent(told, client=get_client())
                if event.is_set():
                    break
            except Exception:
                break  # the scheduler has gone, and who wants this with it
        end.set()

    # The context tells which worker this is.
    Thread(target=copy_context().run, args=(ask,), name="qn-tracking-asking", daemon=True).start()
    try:
        yield end.is_set
    finally:
        over.set()


def versions() -> dict[str, str]:
    """What the last bit of a result may depend on, but the code."""
    try:
        numpy = version("numpy")
    except PackageNotFoundError:
        numpy = "none"
    return {"Python": ".".join(platform.python_version_tuple()[:2]), "NumPy": numpy}


@cache
def _threads_are_free() -> bool:
    """Whether NumPy was there with as many threads as it likes, before the first run."""
    return "numpy" in sys.modules and os.environ.get("OMP_NUM_THREADS") != "1"


class Attendant(WorkerPlugin):
    """Keeps the Ctrl-C of a terminal from the workers of a cluster that was started there, and what
    they log from the terminal, if it is to be `quiet`.
    """

    name = "qn-tracking-attendant"

    def __init__(self, *, quiet: bool) -> None:
        """For the workers of one cluster."""
        self._quiet = quiet

    def setup(self, worker: Worker) -> None:
        if self._quiet:
            logging.getLogger("distributed").setLevel(logging.CRITICAL)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
