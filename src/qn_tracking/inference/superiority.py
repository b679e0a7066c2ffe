"""Whether a run of one arm usually beats a run of the other: a question about order alone.

The permutation form of Brunner and Munzel's test (2000; Neubert, Brunner 2007): right in the limit
whatever the two spreads are. Only ranks count, so no range of the metric has to be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, combinations
from math import comb
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking.inference.pair import probability_of_improvement
from qn_tracking.inference.permutation import CELLS, Permutation, draws_for, smallest_p
from qn_tracking.inference.proportion import normal_quantile
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import checked

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIMULATED = 4_000
NEAR = 1e-9
"""Two statistics that differ by less than this share of them are a tie."""


@frozen(kw_only=True)
class Improvement:
    """How likely a run of the first arm is above one of the second, ties one half."""

    value: float
    low: float
    high: float
    confidence: float


def improvement(x: Sequence[float], y: Sequence[float], *, rules: Rules = RULES) -> Improvement:
    """The probability of improvement and its score interval (Newcombe 2006, method 5).

    Within 0 … 1, and of some width also where every run of one side is above the other.
    """
    value, n, m = probability_of_improvement(x, y), len(x), len(y)
    z = normal_quantile((1 + rules.confidence) / 2)

    def inside(p: float) -> bool:
        more = 1 + ((n + m) / 2 - 1) * ((1 - p) / (2 - p) + p / (1 + p))
        return (value - p) ** 2 <= z * z * p * (1 - p) * more / (n * m)

    def limit(end: float) -> float:
        out, kept = end, value
        for _ in range(60):
            middle = (out + kept) / 2
            out, kept = (out, middle) if inside(middle) else (middle, kept)
        return end if value == end else out

    return Improvement(value=value, low=limit(0.0), high=limit(1.0), confidence=rules.confidence)


def brunner_munzel(
    x: Sequence[float],
    y: Sequence[float],
    *,
    family: int = 1,
    seed: int = 0,
    rules: Rules = RULES,
) -> Permutation:
    """Two-sided: the share of arrangements whose statistic is at least the observed one.

    All arrangements if there are at most 200,000; else a sample for a family of so many
    comparisons, with p = (1 + as extreme)/(1 + drawn). Complete separation is the most extreme
    arrangement; values that are all equal have p = 1. Raises ValueError for fewer than two values
    a side, or not finite ones.
    """
    import numpy as np

    few, many = sorted((checked(x, "x"), checked(y, "y")), key=len)
    n, m = len(few), len(many)
    if n < 2:
        raise ValueError("expected at least two values on both sides")
    draws = draws_for(n, m, family=family, rules=rules)
    values, counts = np.unique([*few, *many], return_counts=True)
    at = np.searchsorted(values, few)
    ties = tuple(counts.tolist())
    if ties[::-1] < ties:  # so that a falling order draws what the rising one does
        ties, at = ties[::-1], len(values) - 1 - at
    ends = np.cumsum(ties)
    inside = np.zeros((1, n + m), dtype=bool)
    for value, count in zip(*np.unique(at, return_counts=True), strict=True):
        inside[0, ends[value] - count : ends[value]] = True
    found = _distribution(n, ties, draws, seed)
    least = _statistics(inside, ties)[0] * (1 - NEAR)
    extreme = len(found) - int(np.searchsorted(found, least))
    return Permutation(
        p=extreme / len(found) if draws is None else (extreme + 1) / (draws + 1),
        exact=draws is None,
        arrangements=comb(n + m, n) if draws is None else draws,
        seed=None if draws is None else seed,
        smallest=smallest_p(n, m, draws=draws),
    )


@lru_cache(maxsize=32)
def _distribution(n: int, ties: tuple[int, ...], draws: int | None, seed: int) -> NDArray[Any]:
    """The statistics of all or of so many arrangements, ascending.

    They depend on the sizes and on which ranks are tied, not on the values: pairs of arms of one
    size share them.
    """
    import numpy as np

    size = sum(ties)
    rng = np.random.default_rng(seed)
    # Of two samples of one size each arrangement has its mirror: the first value stays in one.
    fixed = 1 if draws is None and size == 2 * n else 0
    total = comb(size - fixed, n - fixed) if draws is None else draws
    chosen = combinations(range(fixed, size), n - fixed)
    rows = max(1, CELLS // size)
    out = []
    for done in range(0, total, rows):
        count = min(rows, total - done)
        inside = np.zeros((count, size), dtype=bool)
        if draws is None:
            flat = chain.from_iterable(next(chosen) for _ in range(count))
            places = np.fromiter(flat, dtype=np.intp, count=count * (n - fixed))
            np.put_along_axis(inside, places.reshape(count, n - fixed), True, axis=1)
            inside[:, :fixed] = True
        else:
            inside[:, :n] = True
            rng.permuted(inside, axis=1, out=inside)
        out.append(_statistics(inside, ties))
    found = np.sort(np.concatenate(out))
    found.setflags(write=False)
    return found


def _statistics(inside: NDArray[Any], ties: tuple[int, ...]) -> NDArray[Any]:
    """The square of Brunner and Munzel's statistic of each row, up to a factor.

    A row says which of the sorted values are of the first sample. `ties` are the lengths of the
    stretches of equal values. Without any variance it is infinite, or 0 for equal sides.
    """
    import numpy as np

    ends = np.repeat(np.cumsum(ties), ties)
    starts = ends - np.repeat(ties, ties)
    before = np.zeros((len(inside), inside.shape[1] + 1))
    np.cumsum(inside, axis=1, out=before[:, 1:])
    # Twice how many of the other sample are below each value, ties one half.
    of_first = before[:, starts] + before[:, ends]
    x = np.where(inside, (starts + ends) - of_first, 0.0)
    y = np.where(inside, 0.0, of_first)
    n = int(inside[0].sum())
    m = inside.shape[1] - n
    sx, sy = x.sum(axis=1), y.sum(axis=1)
    squares = n * (x * x).sum(axis=1) - sx * sx, m * (y * y).sum(axis=1) - sy * sy
    error = (m - 1) * squares[0] + (n - 1) * squares[1]
    difference = (sx - n * m) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / error)


def normal_power(effect: float, runs: int, alpha: float, *, rules: Rules = RULES) -> float:
    """How often p is below alpha for normal values that many standard deviations apart.

    Simulated, always from one seed, so that more effect never shows less.
    """
    import numpy as np

    ties = (1,) * (2 * runs)
    draws = draws_for(runs, runs, rules=rules)
    found = _distribution(runs, ties, draws, 0)
    allowed = int(alpha * (len(found) + bool(draws)) - 1e-9) - bool(draws)
    if allowed < 1:
        return 0.0
    values = np.random.default_rng(0).standard_normal((SIMULATED, 2 * runs))
    values[:, :runs] += effect
    inside = np.argsort(values, axis=1) < runs
    # The largest `allowed` of all arrangements, without those that are tied with the next.
    limit = found[-allowed - 1] * (1 + NEAR) if allowed < len(found) else -1.0
    return float(np.mean(_statistics(inside, ties) > limit))
