"""Ranks as intervals: the places that an entry may hold, as far as comparisons separate them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from qn_tracking.inference.pair import Comparison, holm, verdict
from qn_tracking.inference.rules import RULES, Rules

Pairs = Callable[[str, str], Comparison] | Mapping[tuple[str, str], Comparison]


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

    `pairs` gives the comparison of two entries, first − second: a function that is called once a
    pair, in the order of `ids`, or a mapping that holds each pair one way round. For each entry
    Holm over its n−1 comparisons; a pair without a test has p = 1. An interval always holds the
    entry's rank by mean, as who is better has the higher mean. Raises ValueError for an id twice,
    KeyError for a pair that the mapping lacks. Mogstad, Romano, Shaikh, Wilhelm 2024.
    """
    if len(set(ids)) < len(ids):
        raise ValueError("expected each id once")
    rows: list[list[Comparison]] = [[] for _ in ids]
    others: list[list[str]] = [[] for _ in ids]
    signs: list[list[int]] = [[] for _ in ids]
    for i, one in enumerate(ids):
        for j in range(i + 1, len(ids)):
            sign, pair = _look(pairs, one, ids[j])
            rows[i].append(pair)
            rows[j].append(pair)
            others[i].append(ids[j])
            others[j].append(one)
            signs[i].append(sign)
            signs[j].append(-sign)
    out = []
    for i, one in enumerate(ids):
        better: list[str] = []
        worse: list[str] = []
        adjusted = holm([pair.permutation.p if pair.permutation else 1.0 for pair in rows[i]])
        for pair, other, sign, p in zip(rows[i], others[i], signs[i], adjusted, strict=True):
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


def _look(pairs: Pairs, one: str, other: str) -> tuple[int, Comparison]:
    """The comparison, and 1, or −1 where it is stored the other way round."""
    if not isinstance(pairs, Mapping):
        return 1, pairs(one, other)
    found = pairs.get((one, other))
    return (1, found) if found is not None else (-1, pairs[other, one])
