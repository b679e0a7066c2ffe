"""Families of comparisons: which pairs are asked about, and their p values together.

The family is what was asked. Against a baseline: every other arm with it, k − 1 comparisons.
Without one: all pairs, also where only some are shown. To test the best arm against the others as
k − 1 comparisons would ignore that it was picked for being best.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

Correction = Literal["holm", "benjamini-hochberg"]


def family(arms: int, baseline: int | None = None) -> tuple[tuple[int, int], ...]:
    """The comparisons of a study, as places (first, second); second is the baseline, if any.

    Raises ValueError for fewer than two arms, or a baseline that is no place of one.
    """
    if arms < 2:
        raise ValueError("expected at least two arms")
    if baseline is None:
        return tuple(combinations(range(arms), 2))
    if not 0 <= baseline < arms:
        raise ValueError(f"baseline: expected 0 to {arms - 1}, got {baseline!r}")
    return tuple((arm, baseline) for arm in range(arms) if arm != baseline)


def adjust(pvalues: Sequence[float], correction: Correction = "holm") -> tuple[float, ...]:
    """The adjusted p values, in the given order. Raises ValueError for one not in 0 … 1."""
    return _ADJUST[correction](pvalues)


def holm(pvalues: Sequence[float]) -> tuple[float, ...]:
    """Adjusted so that any wrong verdict in the family is rare (Holm 1979), in the given order.

    Raises ValueError for one that is not in 0 … 1.
    """
    out = [1.0] * len(pvalues)
    highest = 0.0
    for done, i in enumerate(_ascending(pvalues)):
        highest = max(highest, (len(pvalues) - done) * pvalues[i])
        out[i] = min(1.0, float(highest))
    return tuple(out)


def benjamini_hochberg(pvalues: Sequence[float]) -> tuple[float, ...]:
    """Adjusted so that of the verdicts few are wrong, not none (Benjamini, Hochberg 1995).

    Raises ValueError for one that is not in 0 … 1.
    """
    out = [1.0] * len(pvalues)
    lowest = 1.0
    for i, place in reversed(list(zip(_ascending(pvalues), range(1, len(out) + 1), strict=True))):
        lowest = min(lowest, pvalues[i] * (len(pvalues) / place))
        out[i] = float(lowest)
    return tuple(out)


def _ascending(pvalues: Sequence[float]) -> list[int]:
    if not all(0 <= p <= 1 for p in pvalues):
        raise ValueError("p values: expected 0 to 1")
    return sorted(range(len(pvalues)), key=pvalues.__getitem__)


_ADJUST = {"holm": holm, "benjamini-hochberg": benjamini_hochberg}
