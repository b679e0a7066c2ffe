"""What the runs of a submission say together; every figure comes from their columns alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import wraps
from math import fsum
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from qn_tracking.benchmark.metrics import METRICS, PRIMARY, Metric, final_rate, flags, mean
from qn_tracking.inference import interval, run as of_run
from qn_tracking.inference.rules import Rules
from qn_tracking.inference.sample import mean_sd
from qn_tracking.records.codec import plain
from qn_tracking.records.model import Digests, Episode
from qn_tracking.records.stats import outcome_line
from qn_tracking.records.submission import (
    Columns,
    Estimate,
    GuardedEstimate,
    Run,
    ThresholdShare,
)

if TYPE_CHECKING:
    from qn_tracking.benchmark.protocol import Protocol


T = TypeVar("T")

SPENT = ("circuits", "shots")
"""What a run uses up: a mean over runs."""
SIZE = ("parameters", "qubits", "depth")
"""What a brain has: the most of any run, since the runs are of one configuration."""


def rules_of(protocol: Protocol) -> Rules:
    """The constants of the statistics, as a version of the protocol has them."""
    return Rules(
        inference=protocol.inference,
        margin=protocol.margin,
        min_runs=protocol.minimum_to_compare,
        alpha=protocol.alpha,
        final_least=protocol.final_episodes,
        final_share=protocol.final_fraction,
        threshold=protocol.time_threshold,
        threshold_window=protocol.time_window,
        plateau_episodes=protocol.plateau_minimum_episodes,
        plateau_margin=protocol.plateau_delta,
    )


def columns(episodes: Sequence[Episode]) -> Columns:
    """Episodes as columns; what an episode lacks is None."""
    counts = dict.fromkeys(key for episode in episodes for key in episode.counts)
    metrics = dict.fromkeys(key for episode in episodes for key in episode.metrics)
    return Columns(
        seed=tuple(e.seed for e in episodes),
        success=tuple(e.success for e in episodes),
        termination=tuple(e.termination for e in episodes),
        steps=tuple(e.steps for e in episodes),
        reward=tuple(e.reward for e in episodes),
        counts={key: tuple(e.counts.get(key) for e in episodes) for key in counts},
        metrics={key: tuple(e.metrics.get(key) for e in episodes) for key in metrics},
    )


def lengths(of: Columns) -> set[int]:
    """The lengths of all columns: one, in a sound run."""
    plain = (of.seed, of.success, of.termination, of.steps, of.reward)
    return {len(c) for c in (*plain, *of.counts.values(), *of.metrics.values())}


def episodes(of: Columns) -> list[Episode]:
    """Columns of one length as episodes."""
    return [Episode(**fields) for fields in _rows(of)]


def _rows(of: Columns) -> Iterator[dict[str, Any]]:
    """The fields of each episode: those that the exact digest is of."""
    plain = zip(of.seed, of.success, of.termination, of.steps, of.reward, strict=True)
    for i, (seed, success, termination, steps, reward) in enumerate(plain):
        yield {
            "index": i,
            "seed": seed,
            "success": success,
            "termination": termination,
            "steps": steps,
            "reward": reward,
            "counts": {key: n for key, c in of.counts.items() if (n := c[i]) is not None},
            "metrics": {key: m for key, c in of.metrics.items() if (m := c[i]) is not None},
        }


def digests(of: Columns) -> Digests:
    """The digests of a run, recomputed from its columns of finite numbers."""
    from hashlib import sha256

    exact, outcome = sha256(), sha256()
    for i, row in enumerate(_rows(of)):
        exact.update(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) + b"\n")
        line = outcome_line(i, row["success"], row["termination"], row["steps"], row["counts"])
        outcome.update(line + b"\n")
    return Digests(exact=exact.hexdigest(), outcome=outcome.hexdigest())


def _kept(function: Callable[[Sequence[Run], Any], T]) -> Callable[[Sequence[Run], Any], T]:
    """Keeps the last answer: a validator and the board ask the same of one submission."""
    last: list[tuple[Sequence[Run], Any, T]] = []

    @wraps(function)
    def asked(runs: Sequence[Run], rules: Any) -> T:
        by = (rules, {**METRICS})
        for known, known_by, found in last:
            if known is runs and known_by == by:
                return deepcopy(found)
        found = function(runs, rules)
        if type(runs) is tuple:  # nothing in it changes
            last[:] = [(runs, by, deepcopy(found))]
        return found

    return asked


def final_rates(runs: Sequence[Run], rules: Rules) -> list[of_run.Rate]:
    """The final success rate of each run, with its counts."""
    return [final_rate(one, rules) for one in runs]


@_kept
def values(runs: Sequence[Run], rules: Rules) -> dict[str, tuple[float, ...]]:
    """One number a run, for each metric that every run has."""
    columns = {
        name: tuple(metric.of_run(one, rules) for one in runs) for name, metric in METRICS.items()
    }
    return {
        name: tuple(value for value in column if value is not None)
        for name, column in columns.items()
        if column and None not in column
    }


@_kept
def aggregate(runs: Sequence[Run], protocol: Protocol) -> dict[str, Any]:
    """The figures of a submission by name, as JSON data: an estimate of each metric, and totals.

    None where a run lacks a metric: a mean over the others would be of something else. Raises
    ValueError for runs without episodes.
    """
    rules = rules_of(protocol)
    found = values(runs, rules)
    guarded = rules.inference == "guarded"
    of_metric = _guarded if guarded else _estimate
    estimates = {
        name: of_metric(metric, found[name], runs, rules) if name in found else None
        for name, metric in METRICS.items()
    }
    times = of_run.restricted_mean(
        [of_run.time_to_threshold(flags(one), rules=rules) for one in runs]
    )
    return {
        "runs": len(runs),
        "episodes": sum(len(one.episodes.success) for one in runs),
        **{name: plain(one) for name, one in estimates.items()},
        "time_to_threshold": times.mean if times else None,
        "reached_threshold": times.fraction if times else None,
        **({"threshold_share": plain(_share(found[PRIMARY], rules))} if guarded else {}),
        "stability": of_run.net_sd(final_rates(runs, rules)),
        "plateau": _plateau(runs, rules),
        "wall_seconds": mean(tuple(one.wall_seconds for one in runs)),
        "cpu_seconds": mean(tuple(one.cpu_seconds for one in runs)),
        "peak_memory_bytes": max(
            (one.peak_memory_bytes for one in runs if one.peak_memory_bytes), default=None
        ),
        "steps_per_second": mean(tuple(one.steps_per_second for one in runs)),
        **_cost(runs),
    }


def _plateau(runs: Sequence[Run], rules: Rules) -> str | None:
    from qn_tracking.inference.plateau import plateau

    curves = [flags(one) for one in runs]
    return plateau(curves, rules=rules).state if len({len(one) for one in curves}) == 1 else None


def _estimate(
    metric: Metric, known: Sequence[float], runs: Sequence[Run], rules: Rules
) -> Estimate:
    center, sd = mean_sd(known)
    trials = [metric.trials(one, rules) for one in runs] if metric.trials else ()
    found = interval.mean_interval(known, trials)
    if found and metric.trials:
        found = found.clip(*(metric.range or (0.0, 1.0)))
    return Estimate(
        n=len(known),
        mean=center,
        sd=sd if len(known) > 1 else None,
        low=found.low if found else None,
        high=found.high if found else None,
        pooled=found is not None and found.method == "wilson",
        iqm=interval.iqm(known, rules=rules),
        worst=of_run.cvar(known, rules=rules),
    )


def _guarded(
    metric: Metric, known: Sequence[float], runs: Sequence[Run], rules: Rules
) -> GuardedEstimate:
    from qn_tracking.inference.bounded import gaffke, iqm_interval

    center, sd = mean_sd(known)
    student = interval.t_interval(known, confidence=rules.confidence)
    honest = middle = None
    if metric.range:
        honest = gaffke(known, bounds=metric.range, rules=rules)
        middle = iqm_interval(known, bounds=metric.range, rules=rules)
    shown = honest or student
    return GuardedEstimate(
        n=len(known),
        mean=center,
        sd=sd if len(known) > 1 else None,
        low=shown.low if shown else None,
        high=shown.high if shown else None,
        method=shown.method if shown else None,
        iqm=interval.iqm(known, rules=rules),
        iqm_low=middle.low if middle else None,
        iqm_high=middle.high if middle else None,
        worst=of_run.cvar(known, rules=rules),
        t_low=student.low if student else None,
        t_high=student.high if student else None,
    )


def _share(final: Sequence[float], rules: Rules) -> ThresholdShare:
    """How many runs work, of the primary metric; the tolerance is that of a sum of shares."""
    from qn_tracking.inference.proportion import clopper_pearson

    reached = sum(value >= rules.threshold - 1e-9 for value in final)
    low, high = clopper_pearson(reached, len(final), rules.confidence)
    return ThresholdShare(
        threshold=rules.threshold,
        reached=reached,
        runs=len(final),
        share=reached / len(final),
        low=low,
        high=high,
    )


def _cost(runs: Sequence[Run]) -> dict[str, Any]:
    """Environment steps, `SPENT` and `SIZE` by name; None for what not every run has counted.

    All but the steps is what the simulation has counted: a claim, until the runs are run again.
    """
    steps = [
        sum(step for step in run.episodes.steps if step is not None)
        for run in runs
        if None not in run.episodes.steps
    ]
    found: dict[str, Any] = {"environment_steps": _mean_of_all(steps, len(runs))}
    for name in (*SPENT, *SIZE):
        counted = [run.cost[name] for run in runs if name in run.cost]
        if name in SPENT:
            found[name] = _mean_of_all(counted, len(runs))
        else:
            found[name] = max(counted) if len(counted) == len(runs) > 0 else None
    return found


def _mean_of_all(numbers: Sequence[int], runs: int) -> float | None:
    return fsum(numbers) / runs if len(numbers) == runs > 0 else None
