"""Groups of runs: means, intervals, and what may be concluded from them; pure functions.

The run is the unit: every interval and every test is over the values of runs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from attrs import evolve, frozen

from qn_tracking.errors import UsageError, printable
from qn_tracking.inference import interval
from qn_tracking.inference.multiplicity import holm
from qn_tracking.inference.pair import (
    Comparison,
    Verdict,
    compare,
    verdict,
)
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import mean_sd
from qn_tracking.records.limits import WHOLE
from qn_tracking.records.provenance import provenance
from qn_tracking.render.text import counted
from qn_tracking.studies.arms import (
    Side,
    StudyComparison,
    StudyTable,
    compare as compare_arms,
    metric_of,
    table,
)
from qn_tracking.studies.comparison import (
    PRIMARY,
    RATES,
    Difference,
    differences,
    leaves,
    sections,
    several_runs,
    value_of,
    values_of,
)

Doc = Mapping[str, Any]

HIGHER = frozenset((*RATES, "reward"))
"""Metrics of which more is better; of any other only the difference is shown."""
MOST_PAIRS = 10
"""Of more pairs of groups than this only the primary metric is compared."""


@frozen(kw_only=True)
class Sample:
    """A metric over the runs of a group: `low` and `high` are the t-interval of the mean, or,
    where no run differs, Wilson's of the pooled count (`pooled`).
    """

    values: tuple[float, ...]
    mean: float
    low: float | None = None
    high: float | None = None
    pooled: bool = False


@frozen(kw_only=True)
class Pair:
    """A metric of two groups, by their places; `comparison.delta` is second − first.

    `verdict` is None for a metric of which it is not known whether more is better.
    """

    metric: str
    first: int
    second: int
    comparison: Comparison
    adjusted_p: float | None = None
    verdict: Verdict | None = None
    family: int = 1


@frozen(kw_only=True)
class Summary:
    """What groups of runs say, metric by metric."""

    samples: Mapping[str, tuple[Sample | None, ...]]
    pairs: tuple[Pair, ...]


def summarise(groups: Sequence[Sequence[Doc]], higher: frozenset[str] = HIGHER) -> Summary:
    """Means, intervals, and every pair of groups.

    The primary metric was fixed in advance: its family are the pairs of groups. Every other metric
    that may be called better is in one family with all others and all pairs.
    """
    found = [[values_of(doc) for doc in group] for group in groups]
    names = dict.fromkeys(name for group in found for one in group for name in one)
    samples = {
        name: tuple(_sample(name, docs, values) for docs, values in zip(groups, found, strict=True))
        for name in names
    }
    pairs = []
    places = [(i, j) for j in range(len(groups)) for i in range(j)]
    others = [name for name in names if name in higher and name != PRIMARY]
    for name, sides in samples.items():
        family = len(places) * (1 if name == PRIMARY else max(len(others), 1))
        if len(places) > MOST_PAIRS and name != PRIMARY:
            continue
        for i, j in places:
            one, other = sides[i], sides[j]
            if one is None or other is None:
                continue
            tested = name in higher
            result = compare(
                other.values, one.values, family=family, rules=_rules(name), tested=tested
            )
            pairs.append(Pair(metric=name, first=i, second=j, comparison=result, family=family))
    primary = [pair for pair in pairs if pair.metric == PRIMARY]
    adjusted = _adjusted(primary) | _adjusted([pair for pair in pairs if pair.metric != PRIMARY])
    return Summary(
        samples=samples,
        pairs=tuple(
            _with_verdict(pair, adjusted.get(id(pair))) if pair.metric in higher else pair
            for pair in pairs
        ),
    )


def _sample(name: str, docs: Sequence[Doc], found: Sequence[Mapping[str, float]]) -> Sample | None:
    """None unless every run has the metric, and finite."""
    if not all(name in one and isfinite(one[name]) and abs(one[name]) < 1e300 for one in found):
        return None
    values = tuple(one[name] for one in found)
    rates = [value_of(doc, name, value) for doc, value in zip(docs, values, strict=True)]
    trials = [rate.episodes for rate in rates if rate.episodes]
    bounds = interval.mean_interval(values, trials if len(trials) == len(rates) else ())
    return Sample(
        values=values,
        mean=mean_sd(values)[0],
        low=bounds.low if bounds else None,
        high=bounds.high if bounds else None,
        pooled=bounds is not None and bounds.method == "wilson",
    )


def _rules(metric: str) -> Rules:
    """The margin is one of rates."""
    return RULES if metric in RATES else evolve(RULES, margin=0.0)


def _adjusted(family: Sequence[Pair]) -> dict[int, float]:
    """The p values of those that were tested, by the `id` of the pair, after Holm."""
    tested = {id(p): p.comparison.permutation.p for p in family if p.comparison.permutation}
    return dict(zip(tested, holm(list(tested.values())), strict=True))


def _with_verdict(pair: Pair, p: float | None) -> Pair:
    said = verdict(pair.comparison, adjusted_p=p, rules=_rules(pair.metric))
    return evolve(pair, adjusted_p=p, verdict=said)


def split(keys: Iterable[Hashable]) -> list[list[int]]:
    """Places by key, in the order of first appearance."""
    found: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return list(found.values())


def names_of(docs: Sequence[Doc], files: Sequence[str], otherwise: Sequence[str]) -> list[str]:
    """Short names for configurations: their `files` where these differ, else what differs.

    Where that is more than three settings, or does not distinguish them, it is `otherwise`.
    """
    configs = [doc.get("config") or {} for doc in docs]
    if len(set(files)) == len(files) and all(files):
        return list(files)
    rows = differences([leaves(config.get("data") or {}) for config in configs])
    differing = [row for row in rows if not row.same]
    if 0 < len(differing) <= 3:
        shared = len(set(files)) == 1
        names = [
            " ".join(
                ([] if shared else [file])
                + [f"{row.field.rpartition('.')[2]}={row.values[i]}" for row in differing]
            )
            for i, file in enumerate(files)
        ]
        if len(set(names)) == len(names):
            return names
    names = list(otherwise)
    return [n if names.count(n) == 1 else f"{n} #{i + 1}" for i, n in enumerate(names)]


def repeats(docs: Sequence[Doc]) -> list[int]:
    """Places of runs that repeat an earlier one: the same digest, or configuration and seed."""
    out = []
    seen: set[tuple[str, Any, Any]] = set()
    for i, doc in enumerate(docs):
        exact = (doc.get("digests") or {}).get("exact")
        marks: set[tuple[str, Any, Any]] = {("digest", exact, None)} if exact else set()
        if doc.get("seed") is not None:
            marks.add(("seed", (doc.get("config") or {}).get("digest"), doc["seed"]))
        if marks & seen:
            out.append(i)
        seen |= marks
    return out


# ---------------------------------------------------------------------------------------- a report


@frozen(kw_only=True)
class Group:
    """Runs that share a value, as plain data; `mixed_code` if they ran different code."""

    name: str
    runs: tuple[Doc, ...]
    mixed_code: bool = False


@frozen(kw_only=True)
class GroupComparison:
    """Groups of runs, what differs between them, and what may be concluded.

    `comparison` is the one that decides, of `table`: all pairs are one family, by the test that
    the number of runs allows. What `summary` has beside it is conventional. `left_out` are ids with
    the cause. `differences` are of the fields that all runs of a group share.
    """

    by: str
    groups: tuple[Group, ...]
    left_out: tuple[tuple[str, str], ...]
    differences: Mapping[str, tuple[Difference, ...]]
    summary: Summary
    sides: tuple[Side, ...]
    table: StudyTable
    comparison: StudyComparison

    def __repr__(self) -> str:
        groups = ", ".join(
            f"{group.name} ({counted(len(group.runs), 'run')})" for group in self.groups
        )
        said = self.conclusion.replace("\n", "; ")
        return printable(f"<GroupComparison of {groups}: {said}>")

    @property
    def names(self) -> list[str]:
        """Of the groups."""
        return [group.name for group in self.groups]

    @property
    def better(self) -> dict[str, str] | None:
        """The group with the best mean, and the first that it is better than, or None."""
        found = self.comparison
        if found.contest is None:
            return None
        for pair in found.contest.shown:
            if pair.winner == found.contest.leader:
                other = pair.first if pair.winner == pair.second else pair.second
                names = found.arms
                return {
                    "group": names[pair.winner], "than": names[other], "metric": found.metric
                }  # fmt: skip
        return None

    @property
    def conclusion(self) -> str:
        """What may be said of the metric that decides, a line for each pair with the best group."""
        found = self.comparison
        if found.contest is None:
            return f"no conclusion: not every group has {found.metric}"
        return "\n".join(found.sentences)


def compare_groups(
    docs: Sequence[Doc],
    by: str,
    key_of: Callable[[Doc], tuple[Any, ...]],
    names_of: Callable[[Sequence[Doc]], Sequence[str]],
    higher: frozenset[str] = HIGHER,
) -> GroupComparison:
    """Puts runs into groups by a key and compares them; runs that are not whole are left out.

    `names_of` names groups, each known by its first run; `higher` are the
    metrics of which more is better. Raises UsageError for fewer than two groups.
    """
    runs, left_out = _whole_runs(docs)
    keys = [key_of(doc) for doc in runs]
    places = split(map(repr, keys))
    members = [[runs[i] for i in some] for some in places]
    for i, group in enumerate(members):
        again = repeats(group)
        for place in again:
            left_out.append(
                (group[place]["id"], "repeats a run: same numbers, or configuration and seed")
            )
        members[i] = [doc for place, doc in enumerate(group) if place not in again]
    if len(members) < 2:
        cause = f"one group to compare: all have the same {by}"
        raise UsageError(
            cause if members else "no complete runs to compare", hint="--by takes another field"
        )
    names = names_of([group[0] for group in members])
    arms = tuple(
        Side(name=name, docs=tuple(group), declared=len(group))
        for name, group in zip(names, members, strict=True)
    )
    rows = table(arms, metric_of(arms, PRIMARY))
    # What differs inside a group is not a field of the group.
    sides = [_shared(group) for group in members]
    differing = {
        section: tuple(row for row in rows if row.field not in ("seed", "status"))
        for section, rows in sections(sides, [None] * len(sides)).items()
    }
    return GroupComparison(
        by=by,
        groups=tuple(
            Group(name=name, runs=tuple(group), mixed_code=len(set(map(_code, group))) > 1)
            for name, group in zip(names, members, strict=True)
        ),
        left_out=tuple(left_out),
        differences=differing,
        summary=summarise(members, higher=higher),
        sides=arms,
        table=rows,
        comparison=compare_arms(rows),
    )


def _whole_runs(docs: Sequence[Doc]) -> tuple[list[Doc], list[tuple[str, str]]]:
    """Those that are one whole run, and why the others are not."""
    runs, left_out = [], []
    for doc in docs:
        if several_runs(doc):
            left_out.append((doc["id"], "several runs in one record"))
        elif doc.get("status") not in WHOLE:
            left_out.append((doc["id"], f"{doc.get('status')}, not a whole run"))
        else:
            runs.append(doc)
    return runs, left_out


def _code(doc: Doc) -> str:
    """What code a run ran: digests of its packages, else the commit."""
    origin = provenance(doc)
    return repr([package.digest for package in origin.code] or origin.git.commit)


_VARIES = object()


def _shared(group: Sequence[Doc]) -> Doc:
    """The parts of the documents that all runs of a group agree on."""

    def common(values: list[Any]) -> Any:
        if all(isinstance(value, dict) for value in values):
            keys = [key for key in values[0] if all(key in value for value in values)]
            agreed = {key: common([value[key] for value in values]) for key in keys}
            return {key: value for key, value in agreed.items() if value is not _VARIES}
        return values[0] if all(value == values[0] for value in values) else _VARIES

    shared: Doc = common(list(group))
    return shared
