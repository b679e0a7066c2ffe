"""Executes many runs side by side, in processes of this machine: those of a study.

Runs of a study share nothing, so that their results do not depend on how many run side by side, nor
on which worker.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking.errors import QnError
from qn_tracking.importing import WithoutScript, safe_path, unsafe_again
from qn_tracking.records.limits import INTERRUPTED, PRUNED
from qn_tracking.records.model import Config, Episode, Membership, Subject
from qn_tracking.tracking.hookspecs import hookimpl
from qn_tracking.tracking.manager import make_manager, make_simulation
from qn_tracking.tracking.recorder import Clock, Recorder
from qn_tracking.tracking.runner import pin_numeric_threads, run_simulation

if TYPE_CHECKING:
    from concurrent.futures import Future
    from multiprocessing.process import BaseProcess
    from multiprocessing.synchronize import Event

    from pluggy import PluginManager

STOP_SECONDS = 1.0
"""A signal to all processes of a job reaches this one so much later than a worker, at most."""


@frozen(kw_only=True)
class Task:
    """A run as a worker gets it. It is not wanted any more once there is the file `pruning`."""

    id: str
    config: Config
    episodes: int
    seed: int
    plugins: Mapping[str, Mapping[str, Any]]
    blocked: tuple[str, ...]
    experiments_dir: str
    tags: Mapping[str, str]
    notes: str | None
    command: tuple[str, ...]
    membership: Membership
    snapshot: Mapping[str, Any] | None = None
    jobs: int | None = None
    pruning: str | None = None

    def pruned(self) -> bool:
        """Whether no further episode of it is wanted."""
        return self.pruning is not None and os.path.lexists(self.pruning)


@frozen(kw_only=True)
class Outcome:
    """What became of a run: the `status` of its record, `failed` with an error, or `pruned`.

    `exit_code` is that of a program that ended by this error.
    """

    index: int
    id: str
    status: str
    error: str | None = None
    exit_code: int = 1
    warnings: tuple[str, ...] = ()


def ended(
    task: Task, warnings: Sequence[str], status: str, error: str | None = None, exit_code: int = 1
) -> Outcome:
    """What became of the run of a task."""
    return Outcome(
        index=task.membership.index,
        id=task.id,
        status=status,
        error=error,
        exit_code=exit_code,
        warnings=tuple(warnings),
    )


def recorder_of(
    task: Task,
    manager: PluginManager,
    subject: Subject,
    warn: Callable[[str], None],
    clock: Clock = time,
) -> Recorder:
    """The recorder of the run of a task, wherever it ran."""
    return Recorder(
        task.config,
        manager=manager,
        subject=subject,
        seed=task.seed,
        episodes=task.episodes,
        tags=task.tags,
        notes=task.notes,
        experiments_dir=task.experiments_dir,
        command=task.command,
        id=task.id,
        study=task.membership,
        clock=clock,
        warn=warn,
        name_slow=False,  # the summary of the study names them
    )


class _Worker:
    """What a worker process shares with its parent: a flag to stop, and how far each run is.

    `done` holds two numbers for each run: episodes, and those that succeeded.
    """

    stop: Event | None = None
    done: Any = None
    orphan = False
    busy = False

    @classmethod
    def must_stop(cls) -> bool:
        """Whether this run is to end after its episode."""
        return cls.orphan or (cls.stop is not None and cls.stop.is_set())


def start_worker(stop: Event, done: Any) -> None:
    """Prepares a worker process: the parent handles signals and sets `stop`.

    But for SIGTERM, which ends the run after its episode: a pool sends it when a worker has died,
    and a scheduler.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: setattr(_Worker, "orphan", True))
    pin_numeric_threads()
    _Worker.stop, _Worker.done = stop, done
    from threading import Thread

    Thread(target=_outlive, name="qn-tracking-parent", daemon=True).start()


def _outlive() -> None:
    """Ends this worker when its parent was killed, which then cannot set `stop`."""
    from multiprocessing import parent_process
    from time import sleep

    parent = parent_process()
    assert parent is not None
    parent.join()
    _Worker.orphan = True
    while _Worker.busy:
        sleep(0.05)
    os._exit(1)


class _Count:
    """Reports the progress of this run to the parent."""

    def __init__(self, index: int) -> None:
        self._place = 2 * index

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        if episode.phase is not None:
            return
        done = _Worker.done
        done[self._place] = episode.index + 1
        if episode.success:
            done[self._place + 1] += 1


def run_task(task: Task) -> Outcome:
    """Runs one run in this process and stores its record; an error of the run is returned."""
    warnings: list[str] = []

    outcome = partial(ended, task, warnings)

    if _Worker.must_stop():
        return outcome("missing")
    if task.pruned():
        return outcome(PRUNED)
    _Worker.busy = True
    try:
        # The study draws one bar for all runs.
        plugins = {name: given for name, given in task.plugins.items() if name != "progress"}
        manager = make_manager(plugins, blocked=task.blocked, config=task.config)
        if task.snapshot is not None:
            preset_metadata(manager, task.snapshot, task.jobs)
        if _Worker.done is not None:
            manager.register(_Count(task.membership.index), name="study")
        simulation = make_simulation(task.config, manager)
        recorder = recorder_of(task, manager, simulation.subject, warnings.append)
        experiment = run_simulation(
            simulation,
            recorder,
            episodes=task.episodes,
            seed=task.seed,
            stop=lambda: _Worker.must_stop() or task.pruned(),
        )
    except QnError as error:
        return outcome("failed", str(error), error.exit_code)
    except (Exception, SystemExit) as error:
        return outcome("failed", f"{type(error).__name__}: {error}")
    finally:
        _Worker.busy = False
    pruned = experiment.status == INTERRUPTED and task.pruned()
    return outcome(PRUNED if pruned else experiment.status)


def run_tasks(
    tasks: Sequence[Task],
    jobs: int,
    *,
    runs: int,
    tick: Callable[[Sequence[int]], bool],
    retry: Callable[[Task], Task | None],
) -> list[Outcome]:
    """Executes runs in local processes, `jobs` at the same time.

    `tick` is called several times a second with the state of `_Worker.done`; once it returns True,
    runs end after their episode, and no other is begun. A run whose worker died, or was
    stopped by another process, is tried once more, by itself, as the task that `retry` makes of it
    (None if it was finished after all); dead again, it is `crashed`.
    """
    outcomes: dict[int, Outcome] = {}
    first = _on_pool(tasks, jobs, runs, tick, outcomes)
    for task in first:
        if tick([0] * (2 * runs)):
            break
        # One by one: a process that dies now caused it itself.
        again = retry(task)
        if again is None or not _on_pool([again], 1, runs, tick, outcomes):
            continue
        index = task.membership.index
        if index not in outcomes or outcomes[index].id != again.id:
            outcomes[index] = ended(again, (), "crashed", "the worker died, twice")
    return [outcomes[task.membership.index] for task in tasks if task.membership.index in outcomes]


def warm_up() -> None:
    """Starts what workers are forked from, so that its imports run while others wait for git."""
    from multiprocessing import forkserver, get_context

    get_context("forkserver").set_forkserver_preload(
        ["qn_tracking.tracking.forkserver", "qn_tracking.tracking.pool", "numpy", "cattrs"]
    )
    safe_path()
    try:
        forkserver.ensure_running()
    finally:
        unsafe_again()


def _on_pool(
    tasks: Sequence[Task],
    jobs: int,
    runs: int,
    tick: Callable[[Sequence[int]], bool],
    outcomes: dict[int, Outcome],
) -> list[Task]:
    """Runs tasks on one pool after another; returns those during which a worker died, or was
    stopped alone.
    """
    from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children, get_context

    # Not fork: a plugin may have started threads in this process.
    context = get_context("forkserver")
    warm_up()
    stop = context.Event()
    done = context.RawArray("q", 2 * runs)
    suspects: list[Task] = []
    waiting = list(tasks)
    others = set(active_children())
    while waiting:
        pool = ProcessPoolExecutor(
            min(jobs, len(waiting)), context, initializer=start_worker, initargs=(stop, done)
        )
        with pool:
            try:
                # No more at a time than there are workers, so that those that ran when one died are
                # known, and no other is a suspect.
                running: dict[Future[Outcome], Task] = {}
                broken = False
                while (waiting or running) and not (broken and not running):
                    while waiting and len(running) < jobs and not broken:
                        task = waiting.pop(0)
                        try:
                            with WithoutScript():
                                running[pool.submit(run_task, task)] = task
                        except BrokenProcessPool:
                            waiting.insert(0, task)
                            broken = True
                    over, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
                    for future in over:
                        task = running.pop(future)
                        try:
                            outcome = future.result()
                        except BrokenProcessPool:
                            suspects.append(task)
                            broken = True
                            continue
                        outcomes[task.membership.index] = outcome
                        if outcome.status in ("interrupted", "missing") and not stop.is_set():
                            # This worker takes no other run.
                            broken = True
                            (suspects if outcome.status == "interrupted" else waiting).append(task)
                    if tick(done):
                        stop.set()
                        waiting.clear()
            except BaseException:  # above all KeyboardInterrupt: else the pool waits for them
                _kill(others)
                raise
        if broken and not stop.is_set() and _stops(lambda: tick(done)):
            waiting.clear()
    return suspects


def _stops(asked: Callable[[], bool]) -> bool:
    """Whether the runs are to stop, now or as soon as a signal has reached this process as well."""
    end = time.monotonic() + STOP_SECONDS
    while not asked():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _kill(others: set[BaseProcess]) -> None:
    """Ends the child processes of this process at once, but for the others.

    Nothing is lost: the journal of a run is complete after every line.
    """
    from multiprocessing import active_children

    for child in set(active_children()) - others:
        child.kill()


def preset_metadata(
    manager: PluginManager,
    snapshot: Mapping[str, Any],
    jobs: int | None,
    resources: Mapping[str, Any] | None = None,
) -> None:
    """Gives the metadata plugin of a run what was read before, if the plugin is on."""
    metadata = manager.get_plugin("metadata")
    if metadata is not None:
        metadata.preset(snapshot, jobs, resources)
