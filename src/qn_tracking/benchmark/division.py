"""The division of a submission: derived from its task, budget and seeds, never declared.

Closed is the protocol's task, unchanged but for brain and learning, with its budget; closed entries
are ranked against each other. All others are open: listed, with what differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking import ids
from qn_tracking.benchmark.task import differences, task_digest

if TYPE_CHECKING:
    from qn_tracking.benchmark.protocol import Protocol
    from qn_tracking.records.submission import Submission

CHOSEN = "seeds chosen, not derived from the task"
MOST = 10_000
"""So many runs of a study are tried as the origin of a seed."""


@frozen(kw_only=True)
class Division:
    """`differs` says what keeps it out of the closed division; nothing, if it is closed."""

    differs: tuple[str, ...] = ()

    @property
    def closed(self) -> bool:
        """Whether it is ranked."""
        return not self.differs

    @property
    def name(self) -> str:
        """`closed` or `open`."""
        return "closed" if self.closed else "open"

    def __str__(self) -> str:
        """`closed`, or `open: ` and what differs."""
        return self.name if self.closed else f"open: {'; '.join(self.differs)}"


def division(
    protocol: Protocol,
    environment: str,
    task: Mapping[str, Any] | None,
    *,
    episodes: int | None = None,
    runs: int | None = None,
    declared: int | None = None,
    derived: bool = True,
) -> Division | None:
    """The division of a task with a budget; None under a protocol that has no closed tasks.

    `declared` is how many runs the study had: those that are not there may have been left out.
    `derived` is whether the seeds derive from the task. A number that is None is as it should be.
    """
    if not protocol.tasks:
        return None
    closed = protocol.tasks.get(environment)
    if closed is None:
        return Division(differs=(f"the protocol has no task for {environment}",))
    if task is None:
        return Division(differs=("the provider of the simulation names no task",))
    found: list[str] = []
    if task_digest(task) != closed.digest:
        found += differences(task, closed.task)
    if episodes not in (None, closed.episodes):
        found.append(f"episodes: {episodes}, the budget is {closed.episodes}")
    if runs is not None and runs < closed.runs:
        found.append(f"runs: {runs}, the budget is at least {closed.runs}")
    if declared is not None and runs is not None and runs < declared:
        found.append(f"runs: {runs:,} of the {declared:,} that were declared")
    if not derived:
        found.append(CHOSEN)
    return Division(differs=tuple(found))


def division_of(submission: Submission, protocol: Protocol) -> Division | None:
    """The division of a submission by its protocol; None if that has no closed tasks."""
    task = submission.task
    return division(
        protocol,
        submission.category.environment,
        task,
        episodes=submission.episodes,
        runs=len(submission.runs),
        declared=submission.study.runs if submission.study else None,
        derived=task is not None and not strange(submission, task_digest(task)),
    )


def strange(submission: Submission, digest: str) -> list[int]:
    """The indexes of the runs whose seeds the study does not derive from a digest."""
    study = submission.study
    if study is None:
        return list(range(len(submission.runs)))
    seeds = {ids.run_seed(digest, study.seed, i) for i in range(min(study.runs, MOST))}
    return [i for i, run in enumerate(submission.runs) if run.seed not in seeds]


def undeclared(submission: Submission, protocol: Protocol) -> list[int]:
    """The indexes of the runs whose seeds are none that the study may have declared.

    Where seeds derive from the task, a study that was declared without one may be submitted; its
    seeds derive from its configuration, and it is open.
    """
    origins: Iterable[str] = [] if submission.config.digest is None else [submission.config.digest]
    if protocol.seeds == "task" and submission.task is not None:
        origins = [task_digest(submission.task), *origins]
    if submission.program is not None and submission.program.seeds is not None:
        origins = [submission.program.seeds]
    return min((strange(submission, digest) for digest in origins), key=len, default=[])
