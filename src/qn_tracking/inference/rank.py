"""Ranks as intervals: the places that an entry may hold, as far as comparisons separate them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from attrs import frozen

from qn_tracking.inference.multiplicity import holm
from qn_tracking.inference.pair import Comparison, verdict
from qn_tracking.inference.rules import RULES, Rules

Pairs = Callable[[str, str], Comparison]


@frozen(kw_only=True)
class Rank:
    """From `low`, one after the entries that are better, to `high`, before those that are worse."""

    id: str
    low: int
    high: int
    better: tuple[str, ...]
    worse: tuple[str, ...]


def rank_intervals(ids: Sequence[str], pairs: Pairs, *, rules: Rules = RULES) -> tuple[Rank, ...]:
    """The rank of each entry, in the given order.

    `pairs` gives the comparison of two entries, first − second; it is called once a pair, in the
    order of `ids`. For each entry Holm over its n−1 comparisons; a pair without a test has p = 1.
    An interval always holds the entry's rank by mean, as who is better has the higher mean. Raises
    ValueError for an id twice. Mogstad, Romano, Shaikh, Wilhelm 2024.
    """
    if len(set(ids)) < len(ids):
        raise ValueError("expected each id once")
    found = {(one, other): pairs(one, other) for one, other in combinations(ids, 2)}
    out = []
    for one in ids:
        others = [id for id in ids if id != one]
        signs = [1 if (one, other) in found else -1 for other in others]
        rows = [found.get((one, other)) or found[other, one] for other in others]
        better: list[str] = []
        worse: list[str] = []
        adjusted = holm([pair.permutation.p if pair.permutation else 1.0 for pair in rows])
        for pair, other, sign, p in zip(rows, others, signs, adjusted, strict=True):
            if p < rules.alpha and verdict(pair, adjusted_p=p, rules=rules).better:
                (worse if pair.delta * sign > 0 else better).append(other)
        out.append(
            Rank(
                id=one,
                low=1 + len(better),
                high=len(ids) - len(worse),
                better=tuple(better),
                worse=tuple(worse),
            )
        )
    return tuple(out)
