"""What the runs of a submission say together; every figure comes from their columns alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import TYPE_CHECKING

import orjson
from attrs import evolve

from qn_tracking.inference import interval, run as of_run
from qn_tracking.inference.rules import Rules
from qn_tracking.inference.sample import mean_sd
from qn_tracking.records.model import Digests, Episode
from qn_tracking.records.submission import Aggregates, Columns, Estimate, Run

if TYPE_CHECKING:
    from qn_tracking.benchmark.protocol import Protocol

EFFICIENCIES = ("path_efficiency", "distance_efficiency")
"""Metrics of an episode, in 0 … 1, that say how direct its way was; the first one there counts."""


def rules_of(protocol: Protocol) -> Rules:
    """The constants of the statistics, as a version of the protocol has them."""
    return Rules(
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


def digests(of: Columns) -> Digests:
    """The digests of a run, recomputed from its columns of finite numbers."""
    from hashlib import sha256

    exact, outcome = sha256(), sha256()
    for i, success in enumerate(of.success):
        counts = {k: c[i] for k, c in of.counts.items() if c[i] is not None}
        metrics = {k: c[i] for k, c in of.metrics.items() if c[i] is not None}
        fields = {
            "counts": counts,
            "index": i,
            "metrics": metrics,
            "reward": of.reward[i],
            "seed": of.seed[i],
            "steps": of.steps[i],
            "success": success,
            "termination": of.termination[i],
        }
        exact.update(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS) + b"\n")
        told = [i, success, of.termination[i], of.steps[i], counts]
        outcome.update(orjson.dumps(told, option=orjson.OPT_SORT_KEYS) + b"\n")
    return Digests(exact=exact.hexdigest(), outcome=outcome.hexdigest())


def flags(of: Run) -> list[bool]:
    """Success of each episode; one that does not know counts as a failure."""
    return [success is True for success in of.episodes.success]


def final_rates(runs: Sequence[Run], rules: Rules) -> list[of_run.Rate]:
    """The primary metric: the final success rate of each run."""
    return [of_run.final_success(flags(one), rules=rules) for one in runs]


def aggregate(runs: Sequence[Run], protocol: Protocol) -> Aggregates:
    """All claims of a submission. Raises ValueError for runs without episodes."""
    rules = rules_of(protocol)
    final = final_rates(runs, rules)
    whole = [of_run.rate(sum(flags(one)), len(flags(one))) for one in runs]
    times = of_run.restricted_mean(
        [of_run.time_to_threshold(flags(one), rules=rules) for one in runs]
    )
    return Aggregates(
        runs=len(runs),
        episodes=sum(len(one.episodes.success) for one in runs),
        success_rate=_of_rates(final, rules),
        sample_efficiency=_of_rates(whole, rules),
        path_efficiency=_estimate([_efficiency(one) for one in runs], rules),
        reward=_estimate([_mean(one.episodes.reward) for one in runs], rules),
        steps=_estimate([_mean(one.episodes.steps) for one in runs], rules),
        time_to_threshold=times.mean if times else None,
        reached_threshold=times.fraction if times else None,
        stability=of_run.net_sd(final),
        plateau=_plateau(runs, rules),
        wall_seconds=fsum(one.wall_seconds for one in runs) / len(runs),
        cpu_seconds=_mean([one.cpu_seconds for one in runs]),
        peak_memory_bytes=max(
            (one.peak_memory_bytes for one in runs if one.peak_memory_bytes), default=None
        ),
        steps_per_second=_mean([one.steps_per_second for one in runs]),
    )


def _plateau(runs: Sequence[Run], rules: Rules) -> str | None:
    from qn_tracking.inference.plateau import plateau

    curves = [flags(one) for one in runs]
    return plateau(curves, rules=rules).state if len({len(one) for one in curves}) == 1 else None


def _efficiency(one: Run) -> float | None:
    for name in EFFICIENCIES:
        if name in one.episodes.metrics:
            return of_run.distance_efficiency(flags(one), one.episodes.metrics[name])
    return None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if known else None


def _of_rates(rates: Sequence[of_run.Rate], rules: Rules) -> Estimate:
    found = _estimate([rate.value for rate in rates], rules)
    assert found is not None
    if found.low is not None and found.high is not None:
        return evolve(found, low=max(0.0, found.low), high=min(1.0, found.high))
    pooled = interval.wilson(
        sum(rate.successes for rate in rates), sum(rate.episodes for rate in rates)
    )
    return evolve(found, low=pooled.low, high=pooled.high, pooled=True)


def _estimate(values: Sequence[float | None], rules: Rules) -> Estimate | None:
    """None where a run lacks the metric: a mean over the others would be of something else."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None
    mean, sd = mean_sd(known)
    found = interval.t_interval(known) if len(known) > 1 else None
    return Estimate(
        n=len(known),
        mean=mean,
        sd=sd if len(known) > 1 else None,
        low=found.low if found else None,
        high=found.high if found else None,
        iqm=interval.iqm(known, rules=rules).value,
        worst=of_run.cvar(known, rules=rules),
    )
