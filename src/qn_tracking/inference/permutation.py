"""The permutation test of the studentised difference of two samples.

Janssen 1997; Chung, Romano 2013: with Welch's t as the statistic it is exact where both sides have
one distribution, and right in the limit where only their means agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, comb, frexp

from attrs import frozen

from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import Array, checked

TIE = 1e-12
CELLS = 1 << 20  # numbers shuffled at once


@frozen(kw_only=True)
class Permutation:
    """A two-sided p: exact over all arrangements, or over so many drawn with the seed.

    `smallest` is the smallest p that samples of these sizes can attain.
    """

    p: float
    exact: bool
    arrangements: int
    seed: int | None
    smallest: float


def smallest_p(n: int, m: int, *, draws: int | None = None) -> float:
    """The smallest p that n against m runs can attain, in `draws` arrangements or in all.

    Two of one size are as far apart the other way round, so 3 against 3 cannot go below 2/20. 1
    for fewer than two on a side: there is no test.
    """
    if min(n, m) < 2:
        return 1.0
    exact = (2 if n == m else 1) / comb(n + m, n)
    return exact if draws is None else max(exact, 1 / (draws + 1))


def draws_for(n: int, m: int, *, family: int = 1, rules: Rules = RULES) -> int | None:
    """How many arrangements are drawn: None where all are looked at.

    At least 20·family/alpha: with fewer the first step of Holm could hardly be passed.
    """
    if comb(n + m, n) <= rules.exact_limit:
        return None
    return max(rules.resamples, ceil(rules.draws * family / rules.alpha - 1e-9))


def permutation_test(
    x: Sequence[float],
    y: Sequence[float],
    *,
    family: int = 1,
    seed: int = 0,
    rules: Rules = RULES,
) -> Permutation:
    """Two-sided: the share of arrangements whose |t| of Welch is at least the observed one.

    All arrangements if there are at most 200,000; else a sample for a family of so many
    comparisons, with p = (1 + as extreme)/(1 + drawn). A tie is within 1e-12 of d²s₀² = d₀²s², on
    values standardised together: without a quotient, since both sides may have no variance; then
    equal means have p = 1. Raises ValueError for fewer than two values a side, or not finite ones.
    """
    import numpy as np

    x, y = checked(x, "x"), checked(y, "y")
    if min(len(x), len(y)) < 2:
        raise ValueError("expected at least two values on both sides")
    draws = draws_for(len(x), len(y), family=family, rules=rules)
    few, many = sorted((x, y), key=len)
    pooled = np.array([*few, *many])
    z = np.ldexp(pooled, -frexp(float(np.abs(pooled).max()))[1])
    z -= z.mean()
    if pooled.min() < pooled.max():
        z /= z.std()
    size = len(few)
    observed = _difference(*_sums(z[None, :size]), z, size)
    order = np.sort(z)  # so that x against y draws what y against x does
    if draws is None:
        found = [_difference(*_subset_sums(order, size), z, size)]
        total = comb(len(z), size)
    else:
        rng = np.random.default_rng(seed)
        rows = max(1, CELLS // len(z))
        found = []
        for done in range(0, draws, rows):
            block = np.tile(order, (min(rows, draws - done), 1))
            shuffled = rng.permuted(block, axis=1, out=block)
            found.append(_difference(*_sums(shuffled[:, :size]), z, size))
        total = draws
    (d0,), (s0,) = observed
    extreme = sum(int(np.count_nonzero(d * s0 - d0 * s >= -TIE)) for d, s in found)
    p = extreme / total if draws is None else (extreme + 1) / (total + 1)
    return Permutation(
        p=p,
        exact=draws is None,
        arrangements=total,
        seed=None if draws is None else seed,
        smallest=smallest_p(len(x), len(y), draws=draws),
    )


def _sums(rows: Array) -> tuple[Array, Array]:
    """Of each row, the sum and the sum of squares."""
    return rows.sum(axis=1), (rows * rows).sum(axis=1)


def _subset_sums(z: Array, size: int) -> tuple[Array, Array]:
    """Of each subset of that size, the sum and the sum of squares; no subset is ever listed."""
    import numpy as np

    both = np.stack((z, z * z))
    by_size = [np.zeros((2, 1)), *(np.empty((2, 0)) for _ in range(size))]
    for i in range(len(z)):
        left = len(z) - 1 - i
        for k in range(min(size, i + 1), max(0, size - left - 1), -1):
            with_it = by_size[k - 1] + both[:, i : i + 1]
            by_size[k] = np.concatenate((by_size[k], with_it), axis=1)
    return by_size[size][0], by_size[size][1]


def _difference(sums: Array, squares: Array, z: Array, size: int) -> tuple[Array, Array]:
    """The squared difference of the means, and its squared standard error, of each arrangement."""
    rest = len(z) - size
    sums2, squares2 = z.sum() - sums, (z * z).sum() - squares
    d = sums / size - sums2 / rest
    error = (squares - sums * sums / size) / (size * (size - 1))
    error += (squares2 - sums2 * sums2 / rest) / (rest * (rest - 1))
    return d * d, error
