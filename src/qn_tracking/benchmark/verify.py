"""A submission run again: which runs, what came out, and what follows from it.

A function that is passed in runs the runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from random import SystemRandom
from typing import Any

from attrs import asdict, evolve, field, fields, frozen

from qn_tracking import ids
from qn_tracking.benchmark.aggregate import (
    columns,
    digests,
    episodes,
    final_rates,
    lengths,
    rules_of,
)
from qn_tracking.benchmark.checkpoint import Checkpoint, Plan
from qn_tracking.benchmark.metrics import ranked_columns
from qn_tracking.benchmark.protocol import Protocol
from qn_tracking.errors import UsageError
from qn_tracking.inference.replication import replicate, replication_power
from qn_tracking.inference.run import Rate, final_success, rate
from qn_tracking.records import divergence
from qn_tracking.records.divergence import close
from qn_tracking.records.model import Digests, Episode, FrozenDict
from qn_tracking.records.submission import Checked, Columns, Replicated, Run, Submission


@frozen(kw_only=True)
class Rerun:
    """A run that was run again: its episodes, its CPU seconds as the run measured them, and its
    cost as its simulation counted it.
    """

    episodes: Sequence[Episode]
    cpu_seconds: float | None = None
    cost: Mapping[str, int] = field(factory=FrozenDict)


Execute = Callable[[int], Rerun]
"""Runs the configuration of a submission with a seed."""

FRESH = 10
FIGURES = ranked_columns()
"""What entries are ranked by, beside the outcomes; between machines it may differ by rounding."""


def fresh_runs(submission: Submission, asked: int | None, protocol: Protocol) -> int:
    """How many runs with fresh seeds; under guarded inference at least those that were submitted.

    Raises UsageError if fewer were asked for than the rule is defined for.
    """
    least = len(submission.runs) if protocol.inference == "guarded" else 1
    if asked is None:
        return max(FRESH, least)
    if asked < least:
        raise UsageError(
            f"-m {asked}: expected at least {least}, as many as were submitted",
            hint=f"protocol version {protocol.version}",
        )
    return asked


def make_plan(submission: Submission, *, repeat: bool, sample: int | None, fresh: int) -> Plan:
    """A plan with runs and fresh seeds drawn at random, from the system's entropy.

    Raises UsageError for a sample that is larger than the submission.
    """
    n = len(submission.runs)
    if sample is not None and not 1 <= sample <= n:
        raise UsageError(f"--sample {sample}: expected 1 to {n}, the number of runs")
    places = range(n) if sample is None else SystemRandom().sample(range(n), sample)
    taken = {run.seed for run in submission.runs}
    seeds: list[int] = []
    while len(seeds) < fresh:
        seed = ids.new_seed()
        if seed not in taken:
            taken.add(seed)
            seeds.append(seed)
    return Plan(repeat=tuple(sorted(places)) if repeat else (), fresh=tuple(seeds))


def cost(submission: Submission, runs: int) -> float:
    """CPU seconds of a number of runs, as they were recorded; of the clock where they were not."""
    seconds = [
        one.wall_seconds if one.cpu_seconds is None else one.cpu_seconds for one in submission.runs
    ]
    return sum(seconds) / len(seconds) * runs


# ------------------------------------------------------------------------------------------ running


def execute(
    submission: Submission,
    checkpoint: Checkpoint,
    run: Execute,
    *,
    protocol: Protocol,
    jobs: int,
    finished: Callable[[Checkpoint], None],
    stop: Callable[[], bool] = lambda: False,
    cancel: Callable[[], None] = lambda: None,
) -> Checkpoint:
    """Runs what a checkpoint lacks, `jobs` runs side by side; `finished` gets each new state.

    Once `stop` returns True, no further run begins. Raises what `run` raises, after the runs in
    progress have ended; any other exception, such as a KeyboardInterrupt, calls `cancel`, which
    ends them.
    """
    from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

    complete = {(one.index, one.seed) for one in checkpoint.done}
    pairs: list[tuple[int | None, int]] = [
        *((index, submission.runs[index].seed) for index in checkpoint.plan.repeat),
        *((None, seed) for seed in checkpoint.plan.fresh),
    ]
    halt = threading.Event()

    def one(pair: tuple[int | None, int]) -> Checked | None:
        index, seed = pair
        if halt.is_set():
            return None
        made = run(seed)
        found = check(submission, index, seed, made.episodes, protocol)
        return evolve(found, cpu_seconds=made.cpu_seconds, cost=made.cost)

    failed: BaseException | None = None
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        running = {pool.submit(one, pair) for pair in pairs if pair not in complete}
        try:
            while running:
                ended, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in ended:
                    # A run that is done is kept, also beside one that failed.
                    failed = failed or future.exception()
                    checked = None if future.exception() else future.result()
                    if checked is not None:
                        checkpoint = evolve(checkpoint, done=(*checkpoint.done, checked))
                        finished(checkpoint)
                if failed is not None or stop():
                    halt.set()
        except BaseException:
            cancel()
            raise
        finally:
            halt.set()
    if failed is not None:
        raise failed
    return checkpoint


def check(
    submission: Submission,
    index: int | None,
    seed: int,
    episodes: Sequence[Episode],
    protocol: Protocol,
) -> Checked:
    """The result of a run beside that of the submission; `index` is None for a fresh seed."""
    rerun = columns(episodes)
    made = digests(rerun)
    if index is None:
        final = final_success([e.success for e in episodes], rules=rules_of(protocol))
        return Checked(seed=seed, digests=made, successes=final.successes, episodes=final.episodes)
    agreement, difference = compare(submission.runs[index], rerun, made)
    return Checked(index=index, seed=seed, digests=made, agreement=agreement, difference=difference)


def compare(run: Run, rerun: Columns, made: Digests) -> tuple[Any, str | None]:
    """`exact`, `outcome` or `none`, and the first episode and field that differ.

    The digest of the submitted run is computed from its episodes: the stored one proves nothing.
    """
    if len(lengths(run.episodes)) != 1:
        return "none", "its columns are not of one length"
    claimed = digests(run.episodes)
    if claimed.exact == made.exact:
        return "exact", None
    where = first_difference(run.episodes, rerun)
    alike = all(_close(run.episodes, rerun, name) for name in FIGURES)
    return ("outcome" if claimed.outcome == made.outcome and alike else "none"), where


def _close(submitted: Columns, rerun: Columns, name: str) -> bool:
    """Whether a figure differs by rounding only, grown over an episode."""
    one, other = (
        of.reward if name == "reward" else of.metrics.get(name, ()) for of in (submitted, rerun)
    )
    return len(one) == len(other) and all(map(close, one, other))


def first_difference(submitted: Columns, rerun: Columns) -> str | None:
    """`episode 7: success: submitted True, now False`; None if all is equal."""
    found = divergence.first_difference(episodes(submitted), episodes(rerun))
    if found is None:
        return None
    if found.field == "episode":
        return f"{len(submitted.seed)} episodes were submitted, {len(rerun.seed)} came out"
    values = f"submitted {_shown(found.first)}, now {_shown(found.second)}"
    return f"episode {found.episode}: {found.field}: {values}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)[:60]


def reasons(
    submission: Submission, done: Sequence[Checked], *, another_machine: bool
) -> tuple[str, ...]:
    """Why runs do not agree. On the same machine every bit must be equal."""
    found = []
    for one in sorted((o for o in done if o.index is not None), key=lambda o: o.index or 0):
        if (other := cost_difference(submission, one)) is not None:
            found.append(f"runs[{one.index}].cost.{other}")
        if one.agreement == "none" or (one.agreement == "outcome" and not another_machine):
            found.append(f"runs[{one.index}]: {one.difference}")
    return tuple(found)


def cost_difference(submission: Submission, one: Checked) -> str | None:
    """`parameters: submitted 5, now 60`: the first number that a run has counted otherwise.

    None for a run that counted nothing, as those of older verifications.
    """
    assert one.index is not None
    for name, claimed in submission.runs[one.index].cost.items():
        if one.cost and claimed != one.cost.get(name):
            return f"{name}: submitted {claimed:,}, now {_shown(one.cost.get(name))}"
    return None


def replication(submission: Submission, done: Sequence[Checked], protocol: Protocol) -> Replicated:
    """The one-sided rule over the fresh runs, with its false-alarm rate and its power.

    Raises ValueError for runs that the rule is not defined for.
    """
    rules = rules_of(protocol)
    submitted = final_rates(submission.runs, rules)
    fresh: list[Rate] = [
        rate(one.successes or 0, one.episodes or 1) for one in done if one.index is None
    ]
    result = replicate(submitted, fresh, rules=rules)
    power = replication_power(submitted, len(fresh), rules=rules)
    figures = {**asdict(result), **asdict(power)}
    return Replicated(**{one.name: figures[one.name] for one in fields(Replicated)})
