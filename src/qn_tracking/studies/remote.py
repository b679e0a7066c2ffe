"""Runs of a study on an executor that a plugin made, for instance on other machines.

A worker runs the simulation and writes nothing: it returns the episodes and facts about itself. The
process that declared the study makes the record of each run that arrives, with the same recorder
and the same sinks as for a local run, and with the times that the worker measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from functools import cache, partial
from typing import Any

from attrs import evolve, field, frozen

from qn_tracking import ids
from qn_tracking.errors import PluginError, QnError, describe
from qn_tracking.importing import WithoutScript
from qn_tracking.records.facts import METADATA
from qn_tracking.records.model import EMPTY, Episode, ErrorInfo, RunInfo, Subject
from qn_tracking.tracking.ending import error_info
from qn_tracking.tracking.facts import FACTS_TIMEOUT
from qn_tracking.tracking.hookspecs import hookimpl
from qn_tracking.tracking.installed import entry_points
from qn_tracking.tracking.manager import make_manager, make_simulation
from qn_tracking.tracking.pool import Outcome, Task, ended, preset_metadata, recorder_of
from qn_tracking.tracking.recorder import NO_SUBJECT, Recorder
from qn_tracking.tracking.runner import pin_numeric_threads, run_simulation
from qn_tracking.tracking.warned import warn_on_stderr

NOT_HERE = ("progress", "resources")
"""Sinks that are left out: the study draws one bar for all runs, and this machine runs none."""
EPISODE = (
    *("success", "termination", "steps", "reward"),
    *("seed", "counts", "metrics", "timing", "phase"),
)
"""The keyword arguments that make an episode."""


@frozen(kw_only=True)
class RemoteRun:
    """The result of a run on a worker: its episodes, its status and its times.

    `began` is in seconds since 1970, `seconds` what it took. `facts` are those of the `metadata`
    plugin where it ran: code, packages, system and resources; `cost` is what the
    simulation has counted.
    """

    id: str
    status: str
    subject: Subject = NO_SUBJECT
    began: float = 0.0
    seconds: float = 0.0
    episodes: tuple[Mapping[str, Any], ...] = ()
    exact: str | None = None
    error: ErrorInfo | None = None
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(factory=dict)
    cost: Mapping[str, int] = field(factory=dict)


class _Collector:
    """Collects the episodes as the keyword arguments that made them."""

    def __init__(self) -> None:
        self.episodes: list[Mapping[str, Any]] = []

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        self.episodes.append({name: getattr(episode, name) for name in EPISODE})


class _MeasuredClock:
    """The clock of a run on a worker: it shows what was measured there."""

    def __init__(self, run: RemoteRun) -> None:
        self._began = run.began
        self.seconds = 0.0

    def time(self) -> float:
        return self._began + self.seconds

    def perf_counter(self) -> float:
        return self.seconds


def run_remotely(task: Task, stop: Callable[[], bool] = lambda: False) -> RemoteRun:
    """Runs a task in this process, the worker, and writes nothing. An error of the run is returned.

    `stop` is asked after each episode.
    """
    pin_numeric_threads()
    warnings: list[str] = []
    collector = _Collector()
    began = time.time()

    def failed(error: BaseException) -> RemoteRun:
        return RemoteRun(id=task.id, status="failed", began=began, error=error_info(error))

    try:
        manager = make_manager((), blocked=_installed(task.blocked), config=task.config)
        simulation = make_simulation(task.config, manager)
        subject = simulation.subject
        from qn_tracking.builtin.metadata import Metadata

        metadata = Metadata()
        metadata.preset(_what_runs_here(subject))
        manager.register(metadata, name=METADATA)
        manager.register(collector, name="collector")
        recorder = Recorder(
            task.config,
            manager=manager,
            subject=subject,
            seed=task.seed,
            episodes=task.episodes,
            command=(),
            id=task.id,
            study=task.membership,
            warn=warnings.append,
            name_slow=False,
        )
    except (Exception, SystemExit) as error:
        return failed(error)
    try:
        run_simulation(simulation, recorder, episodes=task.episodes, seed=task.seed, stop=stop)
    except (Exception, SystemExit) as error:
        if recorder.experiment is None:
            return failed(error)
    experiment = recorder.experiment
    assert experiment is not None
    return RemoteRun(
        id=task.id,
        status=experiment.status,
        subject=subject,
        began=began,
        seconds=experiment.wall_seconds or 0.0,
        episodes=tuple(collector.episodes),
        exact=experiment.digests.exact if experiment.digests else None,
        error=experiment.error,
        warnings=tuple(warnings),
        cost=dict(experiment.cost),
        facts={**_what_runs_here(subject), "resources": experiment.facts[METADATA]["resources"]},
    )


def _installed(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the plugins that are blocked which there are here: sinks need not be."""
    known = entry_points() if names else ()
    return tuple(name for name in names if name in known)


@cache
def _what_runs_here(subject: Subject) -> Mapping[str, Any]:
    """Code, packages and system of this worker.

    Read once, when the code is imported: a process runs that code until it ends, whatever becomes
    of the files.
    """
    from qn_tracking.builtin.metadata import take_snapshot
    from qn_tracking.config import from_mapping

    about = RunInfo(
        id=ids.new_id(), started=ids.utc(time.time()), config=from_mapping({}), subject=subject
    )
    found = take_snapshot(about, FACTS_TIMEOUT)
    if found["code"] is None:  # raised, so that the next run asks again
        raise PluginError("what code this worker runs could not be read", field=METADATA)
    return {key: value for key, value in found.items() if key not in ("git", "warnings")}


def record_run(task: Task, run: RemoteRun, here: Mapping[str, Any], jobs: int | None) -> Outcome:
    """Makes the record of a run on a worker; `here` are the facts of this process.

    What git says is this process's, what runs, and on what, the worker's. A worker that runs other
    code than is installed here has done something else: its run fails.
    """
    warnings: list[str] = []

    outcome = partial(ended, task, warnings)

    if not run.facts:
        return outcome("failed", _error_text(run))
    other = _other_code(here, run.facts)
    if other:
        return outcome(
            "failed",
            f"the worker runs other code of {other} (install the same there, and restart it)",
        )
    snapshot = {**here, **{k: v for k, v in run.facts.items() if k != "resources"}}
    plugins = {name: given for name, given in task.plugins.items() if name not in NOT_HERE}
    clock = _MeasuredClock(run)
    try:
        # Those that make simulations were needed there.
        manager = make_manager(plugins, blocked=task.blocked)
        preset_metadata(manager, snapshot, jobs, run.facts["resources"])
        recorder = recorder_of(task, manager, run.subject, warnings.append, clock)
        recorder.start()
        for episode in run.episodes:
            timing = dict(episode["timing"])
            clock.seconds = timing.pop("at")
            recorder.episode(**{**episode, "timing": timing})
        recorder.cost = run.cost
        for text in run.warnings:
            if text not in recorder.warnings:  # this recorder finds some by itself
                recorder.warn(text)
        clock.seconds = run.seconds
        experiment = recorder.end(run.status, run.error)
        assert experiment is not None
        assert experiment.digests is not None
        if run.exact != experiment.digests.exact:
            raise PluginError("the episodes did not arrive as they left", field="digests.exact")
    except QnError as error:
        return outcome("failed", str(error), error.exit_code)
    except (Exception, SystemExit) as error:
        return outcome("failed", f"{type(error).__name__}: {error}")
    if run.error is not None:
        return outcome("failed", _error_text(run))
    return outcome(experiment.status)


def _for_worker(task: Task) -> Task:
    """The task without what a worker has no use for, and what may be secret: options of sinks."""
    settings = {key: value for key, value in task.config.settings.items() if key != "plugins"}
    config = evolve(task.config, settings=settings, text="")
    return evolve(task, config=config, plugins=EMPTY, tags=EMPTY, notes=None, command=())


def _error_text(run: RemoteRun) -> str | None:
    return None if run.error is None else f"{run.error.type}: {run.error.message}"


def _other_code(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """The packages whose digest is another there, for a message."""
    mine = {one["name"]: one.get("digest") for one in here.get("code") or ()}
    its = {one["name"]: one.get("digest") for one in there.get("code") or ()}
    return ", ".join(name for name in sorted({*mine, *its}) if mine.get(name) != its.get(name))


def _submitted(
    executor: Executor, task: Task, running: Mapping[Future[RemoteRun], Task]
) -> Future[RemoteRun]:
    """Hands a task to the executor. Raises PluginError for what is no Future of its own."""
    with WithoutScript():  # a pool may start its processes now
        future = executor.submit(run_remotely, _for_worker(task))
    if not isinstance(future, Future):
        raise PluginError(f"submit returned {_brief(future)}, expected a Future")
    if future in running:
        raise PluginError("submit returned the Future of another run")
    return future


def _brief(value: object) -> str:
    return f"run {value.id}" if isinstance(value, RemoteRun) else type(value).__name__


def run_tasks(
    tasks: Sequence[Task],
    executor: Executor,
    jobs: int | None,
    *,
    runs: int,
    here: Callable[[Task], Mapping[str, Any]],
    tick: Callable[[Sequence[int]], bool],
    warn: Callable[[str], None] = warn_on_stderr,
) -> list[Outcome]:
    """Runs runs on an executor, at most `jobs` at a time, and writes them down as they arrive.

    `tick` is called several times a second with what is done, two numbers for each of the
    `runs` of the study: episodes, and those that succeeded. Once it returns True, no other
    run is begun, and those under way end after their episode, if the executor has `interrupt`.
    What the executor cannot run is `missing`: the study can be resumed.
    """
    outcomes: dict[int, Outcome] = {}
    done = [0] * (2 * runs)
    waiting = list(tasks)
    running: dict[Future[RemoteRun], Task] = {}
    arrived: list[tuple[Task, Future[RemoteRun]]] = []
    stopping = False

    def lost(task: Task, error: BaseException) -> None:
        outcomes[task.membership.index] = Outcome(
            index=task.membership.index, id=task.id, status="missing", error=describe(error)
        )

    def take(task: Task, future: Future[RemoteRun]) -> None:
        if future.cancelled():
            if not stopping:
                lost(task, CancelledError("cancelled by the executor"))
            return
        if (raised := future.exception()) is not None:
            lost(task, raised)
            return
        run: object = future.result()
        if not isinstance(run, RemoteRun) or run.id != task.id:
            lost(task, PluginError(f"what came back is not this run: {_brief(run)}"))
            return
        place = task.membership.index
        outcomes[place] = record_run(task, run, here(task), jobs)
        own = [one for one in run.episodes if one["phase"] is None]
        done[2 * place] = len(own)
        done[2 * place + 1] = sum(bool(one["success"]) for one in own)

    while waiting or running or arrived:
        while waiting and (jobs is None or len(running) < jobs):
            task = waiting.pop(0)
            if task.pruned():
                continue
            try:
                running[_submitted(executor, task, running)] = task
            except (Exception, SystemExit) as error:
                lost(task, error)  # the scheduler is gone
        for task in running.values():  # what runs here is known before anything has come back
            here(task)
        # The workers are at the next ones meanwhile.
        for task, future in arrived:
            take(task, future)
        ended, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
        # A future that was cancelled without notifying its waiters never ends.
        ended |= {future for future in running if future.cancelled()}
        arrived = [(running.pop(future), future) for future in ended]
        if tick(done) and not stopping:
            stopping = True
            waiting.clear()
            for future in running:
                future.cancel()
            interrupt = getattr(executor, "interrupt", None)
            if interrupt is not None:
                try:
                    interrupt()
                except (Exception, SystemExit) as error:
                    warn(f"the executor cannot stop its runs: {describe(error)}")
    return [outcomes[task.membership.index] for task in tasks if task.membership.index in outcomes]
