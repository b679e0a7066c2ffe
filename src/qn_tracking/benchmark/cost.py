"""What the runs of a submission cost, as its table shows it: the price of a score."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qn_tracking.records.submission import Run

SPENT = ("circuits", "shots")
"""What a run uses up: a mean over runs."""
SIZE = ("parameters", "qubits", "depth")
"""What a brain has: the most of any run, since the runs are of one configuration."""


def cost(runs: Sequence[Run]) -> dict[str, Any]:
    """Environment steps, `SPENT` and `SIZE` by name; None for what not every run has counted.

    All but the steps is what the simulation has counted: a claim, until the runs are run again.
    """
    steps = [
        sum(step for step in run.episodes.steps if step is not None)
        for run in runs
        if None not in run.episodes.steps
    ]
    found: dict[str, Any] = {"environment_steps": _mean(steps, len(runs))}
    for name in (*SPENT, *SIZE):
        counted = [run.cost[name] for run in runs if name in run.cost]
        if name in SPENT:
            found[name] = _mean(counted, len(runs))
        else:
            found[name] = max(counted) if len(counted) == len(runs) > 0 else None
    return found


def _mean(numbers: Sequence[int], runs: int) -> float | None:
    return fsum(numbers) / runs if len(numbers) == runs > 0 else None
