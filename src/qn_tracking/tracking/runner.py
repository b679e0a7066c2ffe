"""Executes runs of a simulation: one in this process, or many in processes of this machine.

A run is one learning run with one seed. Runs of a study share nothing, so that their
results do not depend on how many run side by side, nor on which worker.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from attrs import frozen

from qn_tracking.errors import QnError, UnsupportedError, describe, short
from qn_tracking.importing import safe_path, unsafe_again
from qn_tracking.records.codec import scalar
from qn_tracking.records.limits import INTERRUPTED, PRUNED
from qn_tracking.records.model import (
    MAX_INT,
    Config,
    Episode,
    EpisodeFields,
    Evaluated,
    Experiment,
    Membership,
    Simulation,
    Subject,
)
from qn_tracking.tracking.evaluation import EVALUATION, evaluation_of
from qn_tracking.tracking.hookspecs import hookimpl
from qn_tracking.tracking.manager import make_manager, make_simulation
from qn_tracking.tracking.recorder import Clock, Recorder

if TYPE_CHECKING:
    from concurrent.futures import Future
    from multiprocessing.process import BaseProcess
    from multiprocessing.synchronize import Event

    from pluggy import PluginManager

HANG_SECONDS = 10.0
STOP_SECONDS = 1.0
"""A signal to all processes of a job reaches this one so much later than a worker, at most."""
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


def run_simulation(
    simulation: Simulation,
    recorder: Recorder,
    *,
    episodes: int,
    seed: int,
    stop: Callable[[], bool] = lambda: False,
) -> Experiment:
    """Runs the episodes of one run; `stop` is asked after each.

    If the configuration has settings of an `evaluation`, episodes of that phase come in between.
    What the simulation raises passes, after the record of what there was is sealed. Raises the
    failure of a plugin at the start or at the end.

    A simulation does not keep its state: of a run that is resumed, the episodes that it has are run
    again before it starts, and compared. Raises UnsupportedError if one differs.
    """
    for text in simulation.warnings:
        recorder.warn(text)
    produced = _produced(simulation, episodes, seed, *evaluation_of(recorder.run.config))
    if recorder.run.lives:
        with _no_exit():
            _repeat(produced, recorder, stop)
    with _watchdog(recorder), recorder, _no_exit():
        for episode, last in produced:
            recorder.episode(**episode)
            if not last and stop():
                recorder.end("interrupted")
                break
        recorder.cost = _counted(simulation, recorder)
        produced.close()
    if recorder.experiment is None:  # a forked copy of the simulation has come back
        raise SystemExit(0)
    return recorder.experiment


def _produced(
    simulation: Simulation, episodes: int, seed: int, every: int, count: int
) -> Generator[tuple[EpisodeFields, bool]]:
    """Each episode of a run, those of its evaluations among them, and whether it is the last."""
    produced, done = simulation.episodes(episodes, seed), 0
    try:
        for episode in produced:
            own = episode.get("phase") is None
            done += own
            if done > episodes:
                raise RuntimeError(f"the simulation went on after {episodes} episodes")
            evaluates = bool(every) and own and done % every == 0
            yield episode, done == episodes and not evaluates
            shown = cast("Evaluated", simulation).evaluate(count) if evaluates else ()
            for n, one in enumerate(shown, 1):
                one["phase"] = EVALUATION
                yield one, done == episodes and n == count
        if done < episodes:
            raise RuntimeError(f"the simulation ended after {done} of {episodes} episodes")
    finally:
        close = getattr(produced, "close", None)
        if close is not None:
            close()


@contextmanager
def _no_exit() -> Iterator[None]:
    """It is no simulation's to end the program."""
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"sys.exit({error.code!r}) in the simulation") from error


class _Latest:
    """The episode that was recorded last."""

    episode: Episode

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        self.episode = episode


def _repeat(
    produced: Iterator[tuple[EpisodeFields, bool]], recorder: Recorder, stop: Callable[[], bool]
) -> None:
    """Runs again what a run has, which is left as it is. Raises UnsupportedError if it differs."""
    from qn_tracking.store import lives, paths

    run, manager, latest = recorder.run, make_manager(), _Latest()
    assert run.experiments_dir is not None
    manager.register(latest, name="latest")
    scratch = Recorder(
        run.config, manager=manager, seed=run.seed, warn=lambda text: None, name_slow=False
    )
    with scratch:
        for before in lives.episodes(paths.run_folder(run.experiments_dir, run.id)):
            fields, _ = next(produced, (EpisodeFields(), True))
            scratch.episode(**fields)
            if latest.episode.exact != before.exact:
                raise _other(run.id, before, latest.episode)
            if stop():
                raise KeyboardInterrupt


def _other(id: str, before: Episode, now: Episode) -> UnsupportedError:
    from qn_tracking.records.divergence import first_difference

    found = first_difference([before], [now])
    field, was, became = "phase", before.phase, now.phase
    if found is not None:
        field, was, became = found.field, found.first, found.second
    return UnsupportedError(
        f"recorded {short(repr(was), 40)}, but run again it is {short(repr(became), 40)}",
        file=id,
        field=f"episode {before.index}: {field}",
        hint="by another code, or another machine: it cannot go on here",
    )


def cost_of(simulation: Simulation) -> Mapping[str, int]:
    """What a simulation has counted of the run that is over: numbers by name, 0 or more.

    Raises TypeError for anything else.
    """
    counted = getattr(simulation, "cost", None)
    found = {} if counted is None else {k: scalar(v) for k, v in dict(counted()).items()}
    for name, number in found.items():
        if type(name) is not str or type(number) is not int or not 0 <= number < MAX_INT:
            raise TypeError(f"cost: expected whole numbers, got {name!r}: {number!r}")
    return found


def _counted(simulation: Simulation, recorder: Recorder) -> Mapping[str, int]:
    """What a simulation has counted; nothing, and a warning, if it cannot: the episodes count."""
    try:
        return cost_of(simulation)
    except Exception as error:
        recorder.warn(f"the cost of this run is not stored: {describe(error)}")
        return {}


@contextmanager
def _watchdog(recorder: Recorder) -> Iterator[None]:
    """Warns once of a plugin whose hook does not return."""
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


# --------------------------------------------------------------------------------------- studies


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
        ["qn_tracking.tracking.forkserver", "qn_tracking.tracking.runner", "numpy", "cattrs"]
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
