"""A submission put to the test: what is run again, and what the outcome of it says.

Runs are run by a function that is passed in. Those that are finished are kept in a file of
`benchmarks/.verify/`, so that a verification that was interrupted goes on where it was.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import isclose
from os.path import dirname, join
from random import SystemRandom
from typing import Any

import orjson
from attrs import evolve, field, frozen

from qn_tracking import ids
from qn_tracking.benchmark.aggregate import (
    columns,
    digests,
    final_rates,
    lengths,
    rules_of,
)
from qn_tracking.benchmark.metrics import ranked_columns
from qn_tracking.benchmark.protocol import Protocol
from qn_tracking.errors import QnError, UsageError
from qn_tracking.inference.replication import replicate, replication_power
from qn_tracking.inference.run import Rate, final_success, rate
from qn_tracking.records.codec import canonical, document, structure
from qn_tracking.records.model import Digests, Episode
from qn_tracking.records.submission import Checked, Columns, Replicated, Run, Submission
from qn_tracking.store import read
from qn_tracking.store.write import create, make_folder, naming, published

Execute = Callable[[str, Mapping[str, Any], str, int, int], Sequence[Episode]]
"""Runs one run: text and overrides of a configuration, its label, the seed, the episodes."""

FOLDER = ".verify"
FRESH = 10
FIGURES = ranked_columns()
"""What entries are ranked by, beside the outcomes; between machines it may differ by rounding."""
ROUNDING = 1e-6


@frozen(kw_only=True)
class Plan:
    """What is going to be run: places in the submission, and fresh seeds."""

    repeat: tuple[int, ...] = ()
    fresh: tuple[int, ...] = ()

    def __len__(self) -> int:
        """How many runs."""
        return len(self.repeat) + len(self.fresh)


def make_plan(benchmark: Submission, *, repeat: bool, sample: int | None, fresh: int) -> Plan:
    """Runs drawn at random, and seeds that nobody could know: both from the system's entropy.

    Raises UsageError for a sample that is no number of runs.
    """
    n = len(benchmark.runs)
    if sample is not None and not 1 <= sample <= n:
        raise UsageError(f"--sample {sample}: expected 1 to {n}, so many runs there are")
    places = range(n) if sample is None else SystemRandom().sample(range(n), sample)
    taken = {run.seed for run in benchmark.runs}
    seeds: list[int] = []
    while len(seeds) < fresh:
        seed = ids.new_seed()
        if seed not in taken:
            taken.add(seed)
            seeds.append(seed)
    return Plan(repeat=tuple(sorted(places)) if repeat else (), fresh=tuple(seeds))


def cost(benchmark: Submission, runs: int) -> float:
    """CPU seconds of so many runs, as they were recorded; of the clock where they were not."""
    told = [
        one.wall_seconds if one.cpu_seconds is None else one.cpu_seconds for one in benchmark.runs
    ]
    return sum(told) / len(told) * runs


# ------------------------------------------------------------------------------------- working file


@frozen(kw_only=True)
class Kept:
    """A verification that is not over: what it is of, its plan, the runs that are done.

    The seeds are in it: nobody draws again by interrupting.
    """

    schema: int = 1
    key: tuple[str, ...]
    plan: Plan
    done: tuple[Checked, ...] = field(default=())


def kept_path(benchmarks: str, id: str) -> str:
    """The working file of a verification."""
    return join(benchmarks, FOLDER, f"{ids.check_id(id)}.json")


def resume(path: str, key: Sequence[str], plan: Plan) -> Kept:
    """What was begun with the same key, or a beginning. What cannot be read is begun anew."""
    with suppress(QnError, FileNotFoundError):
        data, _ = read.load(path)
        found = structure(read.parse(data, path), Kept, file=path)
        if found.key == tuple(key):
            return found
    return Kept(key=tuple(key), plan=plan)


def keep(path: str, kept: Kept) -> None:
    """Writes the working file anew. Raises StorageError."""
    make_folder(dirname(path))
    with published(path, replace=True) as stream:
        stream.write(document(kept))


def forget(path: str) -> None:
    """Takes the working file away, once a verification is over."""
    with suppress(OSError):
        os.unlink(path)


@contextmanager
def alone(path: str) -> Iterator[None]:
    """Holds a working file for this process. Raises UsageError if another one has it."""
    import fcntl

    make_folder(dirname(path))
    with suppress(OSError):
        # Wherever the benchmarks are kept, this is for no commit.
        create(join(dirname(path), ".gitignore"), b"*\n")
    with naming(path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(f"{path}.lock", flags, 0o666)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError("is being verified by another process", file=path) from None
        yield
    finally:
        os.close(fd)


# ------------------------------------------------------------------------------------------ running


def execute(
    benchmark: Submission,
    kept: Kept,
    run: Execute,
    *,
    protocol: Protocol,
    jobs: int,
    finished: Callable[[Kept], None],
    stopped: Callable[[], bool] = lambda: False,
) -> Kept:
    """Runs what a plan lacks, `jobs` runs side by side; `finished` hears of each that is done.

    Raises what `run` raises, after those that were running are over.
    """
    from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

    over = {(one.index, one.seed) for one in kept.done}
    todo: list[tuple[int | None, int]] = [
        pair
        for pair in (
            *((index, benchmark.runs[index].seed) for index in kept.plan.repeat),
            *((None, seed) for seed in kept.plan.fresh),
        )
        if pair not in over
    ]
    halt = threading.Event()

    def one(pair: tuple[int | None, int]) -> Checked | None:
        if halt.is_set():
            return None
        index, seed = pair
        config = benchmark.config
        episodes = run(benchmark.text, config.overrides, config.label, seed, benchmark.episodes)
        return check(benchmark, index, seed, episodes, protocol)

    failed: BaseException | None = None
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        running = {pool.submit(one, pair) for pair in todo}
        try:
            while running:
                ended, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in ended:
                    # What is done is kept, also beside one that failed.
                    failed = failed or future.exception()
                    found = None if future.exception() else future.result()
                    if found is not None:
                        kept = evolve(kept, done=(*kept.done, found))
                        finished(kept)
                if failed is not None or stopped():
                    halt.set()
        finally:
            halt.set()
    if failed is not None:
        raise failed
    return kept


def check(
    benchmark: Submission,
    index: int | None,
    seed: int,
    episodes: Sequence[Episode],
    protocol: Protocol,
) -> Checked:
    """What a run gave, beside what the submission tells of it."""
    found = columns(episodes)
    made = digests(found)
    if index is None:
        final = final_success([e.success is True for e in episodes], rules=rules_of(protocol))
        return Checked(seed=seed, digests=made, successes=final.successes, episodes=final.episodes)
    agreement, difference = compare(benchmark.runs[index], found, made)
    return Checked(index=index, seed=seed, digests=made, agreement=agreement, difference=difference)


def compare(told: Run, found: Columns, made: Digests) -> tuple[Any, str | None]:
    """`exact`, `outcome` or `none`, and the first episode and field that differ.

    The digest of what is told is made of its episodes here: one that was only claimed is no proof.
    """
    if len(lengths(told.episodes)) != 1:
        return "none", "its columns are not of one length"
    claimed = digests(told.episodes)
    if claimed.exact == made.exact:
        return "exact", None
    where = first_difference(told.episodes, found)
    close = all(_close(told.episodes, found, name) for name in FIGURES)
    return ("outcome" if claimed.outcome == made.outcome and close else "none"), where


def _close(told: Columns, found: Columns, name: str) -> bool:
    """Whether a figure differs by no more than what rounding may grow to."""
    one, other = (
        of.reward if name == "reward" else of.metrics.get(name, ()) for of in (told, found)
    )
    return len(one) == len(other) and all(
        a == b
        or (a is not None and b is not None and isclose(a, b, rel_tol=ROUNDING, abs_tol=ROUNDING))
        for a, b in zip(one, other, strict=True)
    )


def first_difference(told: Columns, found: Columns) -> str | None:
    """`episode 7: success: told True, found False`; None where all is alike."""
    sides = (told, found)
    fields = ["seed", "success", "termination", "steps", "reward"]
    fields += [f"counts.{name}" for name in dict.fromkeys(n for c in sides for n in c.counts)]
    fields += [f"metrics.{name}" for name in dict.fromkeys(n for c in sides for n in c.metrics)]
    n, m = len(told.success), len(found.success)
    for i in range(min(n, m)):
        for name in fields:
            a, b = (_value(side, name, i) for side in sides)
            # As they are written: 0.0 is not -0.0, 1 is not true.
            if canonical(a) != canonical(b):
                return f"episode {i}: {name}: told {_shown(a)}, found {_shown(b)}"
    return None if n == m else f"{n} episodes are told, {m} were found"


def _value(of: Columns, name: str, i: int) -> Any:
    group, _, key = name.partition(".")
    column = getattr(of, group)
    if key:
        column = column.get(key, ())
    return column[i] if i < len(column) else None


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)[:60]


# ------------------------------------------------------------------------------------------ judging


def reasons(benchmark: Submission, done: Sequence[Checked], *, elsewhere: bool) -> tuple[str, ...]:
    """Why runs are not what they were told to be. On the same machine only bits will do."""
    found = []
    for one in sorted((o for o in done if o.index is not None), key=lambda o: o.index or 0):
        if one.agreement == "none" or (one.agreement == "outcome" and not elsewhere):
            found.append(f"runs[{one.index}]: {one.difference}")
    return tuple(found)


def replication(benchmark: Submission, done: Sequence[Checked], protocol: Protocol) -> Replicated:
    """The one-sided rule over the fresh runs, with its false-alarm rate and its power.

    Raises ValueError for runs that the rule does not speak of.
    """
    rules = rules_of(protocol)
    submitted = final_rates(benchmark.runs, rules)
    fresh: list[Rate] = [
        rate(one.successes or 0, one.episodes or 1) for one in done if one.index is None
    ]
    found = replicate(submitted, fresh, rules=rules)
    power = replication_power(submitted, len(fresh), rules=rules)
    return Replicated(
        accepted=found.accepted,
        mean=found.mean,
        fresh_mean=found.fresh_mean,
        bound=found.bound,
        runs=found.runs,
        fresh=found.fresh,
        false_alarm=power.false_alarm,
        best_of_2n=power.best_of_2n,
        best_of_5n=power.best_of_5n,
    )


def key_of(sha256: str, *parts: object) -> tuple[str, ...]:
    """What a working file is of; another submission, code or plan begins anew."""
    return (sha256, *(orjson.dumps(part).decode() for part in parts))
