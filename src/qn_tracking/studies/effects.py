"""What each factor that was swept does by itself: its main effects, over the levels of all others.

For every seed the metric is averaged over the arms of a level. Two levels then differ seed by seed,
whatever the other factors do to both (Montgomery, Design and Analysis of Experiments, 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any

from attrs import frozen

from qn_tracking.inference.bands import estimate
from qn_tracking.inference.guard import guarded_paired
from qn_tracking.studies.arms import ArmRow
from qn_tracking.studies.comparison import RATES
from qn_tracking.studies.sweep import short_fields, text_of

Values = Mapping[str, Any]


@frozen(kw_only=True)
class Effect:
    """How much the metric is higher at a level of a factor than at its first one, over `seeds`.

    `low` and `high` are of 95%; None where the seeds say nothing of it. No verdict follows from it:
    a study has one test, which was declared.
    """

    factor: str
    level: str
    against: str
    delta: float
    low: float | None
    high: float | None
    seeds: int


def main_effects(
    rows: Sequence[ArmRow], values: Mapping[str, Values], metric: str
) -> tuple[Effect, ...]:
    """The main effects of all factors; `values` are those of each arm, by its name.

    Empty for fewer than two factors, and for arms that are not all combinations: an effect of one
    factor could be that of another. Seeds that not every arm has finished are left out.
    """
    arms = [(values[row.name], row) for row in rows if row.name in values]
    fields = list(dict.fromkeys(field for some, _ in arms for field in some))
    if len(fields) < 2 or len(arms) < len(rows) or not all(row.seeded for _, row in arms):
        return ()
    levels = {field: list(dict.fromkeys(_key(some, field) for some, _ in arms)) for field in fields}
    cells = {tuple(_key(some, field) for field in fields) for some, _ in arms}
    whole = 1
    for some in levels.values():
        whole *= len(some)
    seeds = set.intersection(*(set(row.values) for _, row in arms)) if arms else set()
    if len(cells) < whole or len(cells) < len(arms) or not seeds:
        return ()
    out = []
    names = short_fields(fields)
    for field in fields:
        first, *others = levels[field]
        base = _at(arms, field, first, sorted(seeds))
        for level in others:
            here = _at(arms, field, level, sorted(seeds))
            low, high = _interval(here, base, metric)
            delta = fsum(a - b for a, b in zip(here, base, strict=True)) / len(base)
            out.append(
                Effect(
                    factor=names[field],
                    level=level,
                    against=first,
                    delta=delta,
                    low=low,
                    high=high,
                    seeds=len(base),
                )
            )
    return tuple(out)


def _key(values: Values, field: str) -> str:
    return text_of(values[field]) if field in values else ""


def _at(
    arms: Sequence[tuple[Values, ArmRow]], field: str, level: str, seeds: Sequence[Any]
) -> list[float]:
    """The mean over the arms of a level, for each seed."""
    mine = [row for values, row in arms if _key(values, field) == level]
    return [fsum(row.values[seed] for row in mine) / len(mine) for seed in seeds]


def _interval(
    here: Sequence[float], base: Sequence[float], metric: str
) -> tuple[float | None, float | None]:
    if len(base) < 2:
        return None, None
    if metric in RATES:
        found = guarded_paired(here, base)
        return found.low, found.high
    differences = estimate([a - b for a, b in zip(here, base, strict=True)])
    return differences.low, differences.high
