"""Executes the unfinished runs of a study, in processes of this machine or on an executor."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from qn_tracking.errors import PluginError, describe
from qn_tracking.importing import WithoutScript
from qn_tracking.records.limits import PRUNED
from qn_tracking.records.model import Membership, PluginUse, RunInfo
from qn_tracking.records.submission import Study
from qn_tracking.store import paths, read, studies
from qn_tracking.store.studies import RunState
from qn_tracking.store.unfinished import unseen
from qn_tracking.studies.plan import Plan
from qn_tracking.tracking import pool
from qn_tracking.tracking.emit import slow
from qn_tracking.tracking.facts import FACTS_TIMEOUT
from qn_tracking.tracking.manager import make_executor

if TYPE_CHECKING:
    from concurrent.futures import Executor

Warn = Callable[[str], None]
PROGRESS_SECONDS, PROGRESS_SHARE = 0.1, 20
"""Progress is shown again after so many seconds, or so many times as long as it took to show."""
SHOWN_ARMS = 12
"""Of more arms than this the line of progress names none."""
NAMED = 10
"""Of more runs than this that ended by one error, only the first ones are named."""


@frozen(kw_only=True)
class ArmProgress:
    """How far an arm is, as `StudyProgress`."""

    name: str
    finished: int
    episodes: int
    successes: int

    def __str__(self) -> str:
        """`learning_rate=0.1 3 61%`."""
        rate = f" {self.successes / self.episodes:.0%}" if self.episodes else ""
        return f"{self.name} {self.finished}{rate}"


@frozen(kw_only=True)
class StudyProgress:
    """How far a study is. `episodes` and `successes` are those since it was started or resumed.

    `total` is None where a script decides how many there will be; `since` are the runs that
    have finished since then.
    """

    study: str
    runs: int
    finished: int
    episodes: int
    total: int | None
    successes: int
    seconds: float
    since: int = 0
    arms: tuple[ArmProgress, ...] = ()

    def __str__(self) -> str:
        """One line: `runs 3/10  episodes 1500/5000  success 61%  2m05s left`, then a few arms."""
        from qn_tracking.render.progress import time_left

        of_all = "" if self.total is None else f"/{self.total}"
        parts = [f"runs {self.finished}/{self.runs}", f"episodes {self.episodes}{of_all}"]
        if self.episodes:
            parts.append(f"success {self.successes / self.episodes:.0%}")
            if self.total is not None:
                parts.append(time_left(self.seconds, self.episodes, self.total) or "")
        if self.total is None and self.since:
            to_do = self.runs - self.finished + self.since
            parts.append(time_left(self.seconds, self.since, to_do) or "")
        if 1 < len(self.arms) <= SHOWN_ARMS:
            parts.append("| " + ", ".join(map(str, self.arms)))
        return "  ".join(parts)


@frozen(kw_only=True)
class StudyOutcome:
    """What became of a study: the latest attempt at every run, and what this execution did.

    `stopped`: it was asked to stop. `storage_failed`: a record, or a part of one, was not written.
    """

    runs: tuple[RunState, ...]
    seconds: float
    stopped: bool
    storage_failed: bool

    @property
    def finished(self) -> int:
        """How many runs are completed."""
        return sum(state.status == "completed" for state in self.runs)


@frozen(kw_only=True)
class StudySummary:
    """The runs of a study so far: how many of each status, final success rates, slow plugins."""

    counts: Mapping[str, int]
    final: tuple[float, ...]
    slow: tuple[tuple[str, float], ...]


def execute(
    study: Study,
    plans: Sequence[Plan],
    executor: Executor | None,
    *,
    jobs: int | None,
    progress: Callable[[StudyProgress], None],
    stop: Callable[[], bool],
    warn: Warn,
) -> StudyOutcome:
    """Runs what is not finished, with a plan for each arm; returns once all of it has ended.

    `progress` and `stop` are called several times a second; once `stop` returns True, runs end
    after their episode. On KeyboardInterrupt they are ended at once; nothing is lost. Raises
    UnsupportedError if another process runs the study.
    """
    experiments = plans[0].experiments_dir
    began = time.perf_counter()
    due, stopped = 0.0, False
    with studies.locked(experiments, study.id):
        states = studies.states(experiments, study)
        tasks = _tasks(study, plans, states, warn)
        before = [state.index for state in states if state.status == "completed"]

        latest: Sequence[int] = [0] * (2 * study.every_run)

        def tick(done: Sequence[int]) -> bool:
            nonlocal due, stopped, latest
            latest, seconds = done, time.perf_counter() - began
            if seconds >= due:  # it counts all runs: of many, not at each that ends
                progress(progress_of(study, before, done, seconds))
                over = time.perf_counter() - began
                due = over + min(PROGRESS_SECONDS, PROGRESS_SHARE * (over - seconds))
            stopped = stopped or stop()
            return stopped

        tick(latest)
        outcomes = _run(study, plans, tasks, executor, jobs, tick, warn)
        progress(progress_of(study, before, latest, time.perf_counter() - began))
        stopped = stopped or stop()
    _report(outcomes, [text for plan in plans for text in plan.warnings], warn)
    return StudyOutcome(
        runs=studies.states(experiments, study),
        seconds=time.perf_counter() - began,
        stopped=stopped,
        storage_failed=any(outcome.exit_code == 3 for outcome in outcomes),
    )


def summarize(experiments: str, states: Sequence[RunState]) -> StudySummary:
    """The summary of the runs in these states. Raises StorageError for a record that is damaged."""
    counts: dict[str, int] = {}
    rates: list[float] = []
    uses: dict[str, float] = {}
    seconds = 0.0
    for state in states:  # one after the other: a study may have more records than fit in memory
        counts[state.status] = counts.get(state.status, 0) + 1
        if state.status != "completed":
            continue
        one = read.experiment(paths.record(experiments, state.id))
        rate = one.results.final_success_rate
        rates += [] if rate is None else [rate]
        seconds += one.wall_seconds or 0.0
        for use in one.plugins:
            uses[use.name] = uses.get(use.name, 0.0) + use.seconds
    shares = slow((PluginUse(name=name, seconds=spent) for name, spent in uses.items()), seconds)
    return StudySummary(counts=dict(sorted(counts.items())), final=tuple(rates), slow=tuple(shares))


@contextmanager
def opened(
    spec: str | None, jobs: int | None, blocked: Sequence[str], warn: Warn
) -> Iterator[Executor | None]:
    """The executor that `SCHEME://…` names; None for the processes of this machine.

    Raises PluginError for one that cannot be made.
    """
    if spec in (None, "local"):
        yield None
        return
    with WithoutScript():
        executor = make_executor(spec, jobs, blocked=blocked)
    plugin = f"plugin executor.{spec.partition('://')[0]}"
    for name in ("submit", "shutdown"):
        if not callable(getattr(executor, name, None)):
            cause = f"made no executor: {type(executor).__name__} has no {name}"
            raise PluginError(cause, file=plugin, field="make_executor")

    def shutdown(**how: bool) -> None:
        try:
            executor.shutdown(**how)
        except (Exception, SystemExit) as error:  # the records are written already
            warn(f"{plugin}: shutdown: {describe(error)}")

    try:
        yield executor
    except BaseException:
        shutdown(wait=False, cancel_futures=True)
        raise
    shutdown()


def progress_of(
    study: Study, before: Sequence[int], done: Sequence[int], seconds: float, since: int = 0
) -> StudyProgress:
    """How far it is: the runs that are finished, episodes and successes of each run in `done`."""
    count, planned, first = len(study.arms), study.episodes, study.runs
    episodes, successes = done[::2], done[1::2]
    finished = [0] * len(study.every_arm)
    for index in before:
        finished[study.place_of(index)] += 1

    def own(values: Sequence[int], place: int) -> Sequence[int]:
        """Those of the runs of an arm."""
        if place < count:
            return values[place:first:count]
        start = first + (place - count) * len(study.seeds)
        return values[start : start + len(study.seeds)]

    arms = tuple(
        ArmProgress(
            name=arm.name,
            finished=finished[i]
            + (0 if planned is None else sum(n >= planned for n in own(episodes, i))),
            episodes=sum(own(episodes, i)),
            successes=sum(own(successes, i)),
        )
        for i, arm in enumerate(study.every_arm)
    )
    return StudyProgress(
        study=study.id,
        runs=study.every_run,
        finished=sum(arm.finished for arm in arms),
        episodes=sum(arm.episodes for arm in arms),
        total=None if planned is None else (study.every_run - len(before)) * planned,
        successes=sum(arm.successes for arm in arms),
        seconds=seconds,
        since=since,
        arms=arms,
    )


def _tasks(
    study: Study, plans: Sequence[Plan], states: Sequence[RunState], warn: Warn
) -> list[pool.Task]:
    """The runs that are not finished, without those that another process runs now."""
    tasks = []
    assert study.episodes is not None  # only a script decides by itself
    for index, attempt in unfinished(states, plans[0].experiments_dir, warn):
        place = study.place_of(index)
        plan = plans[place]
        tasks.append(
            pool.Task(
                id=studies.run_id(study.id, index, attempt),
                config=plan.config,
                episodes=study.episodes,
                seed=study.seed_of(index),
                plugins=plan.requests,
                blocked=study.blocked,
                experiments_dir=plan.experiments_dir,
                tags=study.tags,
                notes=study.notes,
                command=study.command,
                membership=Membership(id=study.id, index=index, attempt=attempt),
                pruning=studies.pruning(plan.experiments_dir, study, place),
            )
        )
    return tasks


def unfinished(
    states: Sequence[RunState], experiments: str, warn: Warn
) -> Iterator[tuple[int, int]]:
    """The runs to execute, each with the number of its next attempt.

    Not those that another process runs now.
    """
    for state in states:
        if state.status in ("completed", PRUNED):
            continue
        if state.status == "running":
            warn(f"run {state.index} is being run by another process")
            continue
        # One of another host has ended: that process held the lock on the study.
        if state.status == "unknown" and unseen(experiments, state.id):
            hint = f"if it is not: qn-exp recover --force {state.id}"
            warn(f"run {state.index} may be running: its file system has no locks ({hint})")
            continue
        yield state.index, state.attempt + (state.status != "missing")


def _run(
    study: Study,
    plans: Sequence[Plan],
    tasks: list[pool.Task],
    executor: Executor | None,
    jobs: int | None,
    tick: Callable[[Sequence[int]], bool],
    warn: Warn,
) -> list[pool.Outcome]:
    if not tasks:
        return []
    snapshots: dict[Any, Mapping[str, Any]] = {}

    def here(task: pool.Task) -> Mapping[str, Any]:
        """Read once for all arms of one folder and of the same packages."""
        plan = plans[study.place_of(task.membership.index)]
        key = (plan.config.path, plan.simulation.subject.packages)
        if key not in snapshots:
            snapshots[key] = _snapshot(study, plan)
        return snapshots[key]

    if executor is not None:
        from qn_tracking.studies import remote

        return remote.run_tasks(
            tasks,
            executor,
            jobs,
            runs=study.every_run,
            here=here,
            tick=tick,
            warn=warn,
        )
    jobs = jobs or 1
    pool.warm_up()
    return pool.run_tasks(
        [evolve(task, snapshot=here(task), jobs=jobs) for task in tasks],
        jobs,
        runs=study.every_run,
        tick=tick,
        retry=partial(_again, plans[0].experiments_dir, _first_ones(warn)),
    )


def _first_ones(warn: Warn) -> Warn:
    """Passes on three warnings about workers that ended early, then one about all others."""
    left = 3

    def passed_on(text: str) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            warn(text)
        elif left == -1:
            warn("the workers of more runs died or were stopped; each once more, by itself")

    return passed_on


def _again(experiments: str, warn: Warn, task: pool.Task) -> pool.Task | None:
    """The task of a run whose worker ended early, once more; None if its record is complete."""
    status = studies.status(experiments, task.id)
    if status == "completed":
        return None
    member = evolve(task.membership, attempt=task.membership.attempt + 1)
    id = studies.run_id(member.id, member.index, member.attempt)
    ended = "was stopped" if status == "interrupted" else "died"
    warn(f"run {member.index}: its worker {ended}; once more, by itself")
    return evolve(task, id=id, membership=member)


def _snapshot(study: Study, plan: Plan) -> Mapping[str, Any]:
    """What the metadata plugin says of this process and its repository, read once for all runs."""
    from qn_tracking.builtin.metadata import take_snapshot

    about = RunInfo(
        id=study.id,
        started=study.created,
        config=plan.config,
        subject=plan.simulation.subject,
        experiments_dir=os.path.abspath(plan.experiments_dir),
    )
    return take_snapshot(about, FACTS_TIMEOUT)


def those(indices: Sequence[int]) -> str:
    """`run 3`, or `runs 3, 4 and 5`; of many only the first ones."""
    if len(indices) == 1:
        return f"run {indices[0]}"
    more = len(indices) - NAMED
    named = [*map(str, indices[: NAMED if more > 1 else len(indices)])]
    last = f"{more:,} more" if more > 1 else named.pop()
    return f"runs {', '.join(named)} and {last}"


def _report(outcomes: Sequence[pool.Outcome], known: Sequence[str], warn: Warn) -> None:
    """Warns of each warning once, and of each failure with the runs that it ended."""
    ended: dict[str, list[int]] = {}
    for outcome in outcomes:
        if outcome.error:
            ended.setdefault(outcome.error, []).append(outcome.index)
    for text in dict.fromkeys(chain.from_iterable(outcome.warnings for outcome in outcomes)):
        if text not in known:
            warn(text)
    for error, indices in ended.items():
        warn(f"{those(indices)}: {error}")
