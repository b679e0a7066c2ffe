"""Whether a run of one arm usually beats a run of the other: a question about order alone.

The permutation form of Brunner and Munzel's test (2000; Neubert, Brunner 2007): right in the limit
whatever the two spreads are. Only ranks count, so no range of the metric has to be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb

from attrs import frozen

from qn_tracking.inference.pair import probability_of_improvement
from qn_tracking.inference.permutation import CELLS, Permutation, draws_for, smallest_p
from qn_tracking.inference.proportion import normal_quantile
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import Array, checked

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
    found, beyond = _distribution(n, ties, draws, seed)
    least = _statistics(inside, ties)[0] * (1 - NEAR)
    extreme = int(beyond[np.searchsorted(found, least)])
    return Permutation(
        p=extreme / int(beyond[0]) if draws is None else (extreme + 1) / (draws + 1),
        exact=draws is None,
        arrangements=comb(n + m, n) if draws is None else draws,
        seed=None if draws is None else seed,
        smallest=smallest_p(n, m, draws=draws),
    )


def cells(samples: Sequence[tuple[Sequence[float], Sequence[float]]]) -> int:
    """How many numbers the tests of these pairs, one family, have to shuffle: 50 ns each.

    Where all arrangements are looked at there are none. Pairs of one size with the same ties share
    them.
    """
    from collections import Counter

    found = set()
    for x, y in samples:
        draws = draws_for(len(x), len(y), family=len(samples))
        if draws is not None:
            counts = Counter((*x, *y))
            found.add((min(len(x), len(y)), draws, tuple(counts[v] for v in sorted(counts))))
    return sum(draws * sum(ties) for _, draws, ties in found)


@lru_cache(maxsize=32)
def _distribution(
    n: int, ties: tuple[int, ...], draws: int | None, seed: int
) -> tuple[Array, Array]:
    """The statistics of all or of so many arrangements, ascending; and how many arrangements have
    each one or a greater one, then 0.

    They depend on the sizes and on which ranks are tied, not on the values: pairs of arms of one
    size share them.
    """
    import numpy as np

    found, counts = _all(n, ties) if draws is None else _drawn(n, ties, draws, seed)
    order = np.argsort(found, kind="stable")
    beyond = np.append(np.cumsum(counts[order][::-1])[::-1], 0)
    found = found[order]
    for one in (found, beyond):
        one.setflags(write=False)
    return found, beyond


def _drawn(n: int, ties: tuple[int, ...], draws: int, seed: int) -> tuple[Array, Array]:
    """The statistics of so many arrangements, and 1 for each."""
    import numpy as np

    size = sum(ties)
    rng = np.random.default_rng(seed)
    rows = max(1, CELLS // size)
    out = []
    for done in range(0, draws, rows):
        inside = np.zeros((min(rows, draws - done), size), dtype=bool)
        inside[:, :n] = True
        rng.permuted(inside, axis=1, out=inside)
        out.append(_statistics(inside, ties))
    return np.concatenate(out), np.ones(draws, dtype=np.int64)


def _all(n: int, ties: tuple[int, ...]) -> tuple[Array, Array]:
    """The statistics of all arrangements, and how many arrangements each stands for.

    An arrangement is how many of each stretch of equal values are of the first sample: where many
    are tied there are few. Those of the first stretches become those of one stretch more.
    """
    import numpy as np

    m = sum(ties) - n
    first, counts = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    sums = np.zeros((3, 1))  # of x, of its squares, of the squares of y: as in `_statistics`
    start = 0
    for tied in ties:
        end = start + tied
        parts = []
        for inside in range(tied + 1):
            after = first + inside
            kept = (after <= n) & (after + sum(ties) - end >= n)
            y = (first[kept] + after[kept]).astype(float)
            x = start + end - y
            more = np.stack((inside * x, inside * x * x, (tied - inside) * y * y))
            parts.append((after[kept], counts[kept] * comb(tied, inside), sums[:, kept] + more))
        first, counts, sums = (np.concatenate(some, axis=-1) for some in zip(*parts, strict=True))
        start = end
    of_x, squares_x, squares_y = sums
    return _statistic(n, m, of_x, squares_x, 2 * n * m - of_x, squares_y), counts


def _statistics(inside: Array, ties: tuple[int, ...]) -> Array:
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
    sums = x.sum(axis=1), (x * x).sum(axis=1), y.sum(axis=1), (y * y).sum(axis=1)
    return _statistic(n, m, *sums)


def _statistic(n: int, m: int, sx: Array, xx: Array, sy: Array, yy: Array) -> Array:
    """From the sums of both samples and of their squares, all of them whole numbers."""
    import numpy as np

    error = (m - 1) * (n * xx - sx * sx) + (n - 1) * (m * yy - sy * sy)
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
    found, _ = _distribution(runs, ties, draws, 0)
    allowed = int(alpha * (len(found) + bool(draws)) - 1e-9) - bool(draws)
    if allowed < 1:
        return 0.0
    values = np.random.default_rng(0).standard_normal((SIMULATED, 2 * runs))
    values[:, :runs] += effect
    inside = np.argsort(values, axis=1) < runs
    # The largest `allowed` of all arrangements, without those that are tied with the next.
    limit = found[-allowed - 1] * (1 + NEAR) if allowed < len(found) else -1.0
    return float(np.mean(_statistics(inside, ties) > limit))
