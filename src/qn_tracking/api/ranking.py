"""Groups of runs, ranked by the mean of a metric, each within a part of the experiments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from qn_tracking.errors import UsageError
from qn_tracking.records.limits import NOT_FINITE, WHOLE, not_finite
from qn_tracking.studies.arms import ArmRow, Side, StudyComparison, StudyTable, compare, table
from qn_tracking.studies.comparison import lower_is_better
from qn_tracking.studies.groups import repeats, split

if TYPE_CHECKING:
    from qn_tracking.api.folder import Folder
    from qn_tracking.store.filters import Filters
    from qn_tracking.store.index import Index

ALL = "all"
"""One part, with everything in it."""
MOST = 40
"""Of more groups than this in one part no two are compared."""
SHORT = {"avg_reward": "reward", "avg_steps": "steps"}


@frozen(kw_only=True)
class Part:
    """Groups that are ranked against each other, the best first.

    `verdict` says whether the first is better than the second. `ranks` has the rank of a group
    from its best to its worst: all pairs of the part are one family.
    """

    name: str
    rows: tuple[ArmRow, ...]
    ids: Mapping[str, tuple[str, ...]]
    comparison: StudyComparison
    ranks: Mapping[str, tuple[int, int]]
    verdict: str


@frozen(kw_only=True)
class Ranking:
    """The parts, by name. `without_metric` counts runs that lack the metric, `not_finite` maps the
    ids of runs whose metric is NaN or infinite to that value, `repeats` are ids of runs that repeat
    another one: none of these counts.
    """

    metric: str
    by: str
    within: str
    lower_is_better: bool
    parts: tuple[Part, ...]
    without_metric: int
    not_finite: Mapping[str, str]
    repeats: tuple[str, ...]

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, place: int) -> Part:
        return self.parts[place]


def rank(
    store: Folder,
    metric: str,
    filters: Filters,
    *,
    ids: Sequence[str] = (),
    by: str = "config",
    within: str = "category",
    lowest: bool | None = None,
    min_episodes: int = 1,
) -> Ranking:
    """See `Experiments.rank`."""
    from qn_tracking.store import best, query
    from qn_tracking.store.groups import Grouping

    if by == within or by == "category":
        hint = f"--within {by} ranks configurations within each {by}"
        raise UsageError(f"--by {by}: expected what is ranked", hint=hint)
    groups, parts = Grouping(by), None if within == ALL else Grouping(within)

    def ask(index: Index) -> tuple[Any, ...]:
        conditions = [query.named(ids)] if ids else filters.conditions(index)
        rows = [
            row
            for row in query.select(index, conditions)[0]
            if (row["episodes"] or 0) >= min_episodes and row["status"] in WHOLE
        ]
        rows.sort(key=lambda row: (row["at"], row["id"]))
        path = best.metric_path(index, metric)
        fields = {
            each: best.column(index, each, option)
            for one, option in ((groups, "--by"), (parts, "--within"))
            if one is not None
            for each in one.paths()
        }
        values = best.column(index, path, "--metric")
        docs = [
            {
                "id": row["id"],
                "status": row["status"],
                "seed": row["seed"],
                "config": {"digest": row["digest"]},
                "value": values.get(row.n),
                "episodes": row["episodes"],
                "key": groups.key(lambda path, n=row.n: fields[path].get(n)),  # type: ignore[misc]
                "part": ()
                if parts is None
                else parts.key(lambda path, n=row.n: fields[path].get(n)),  # type: ignore[misc]
                "n": row.n,
            }
            for row in rows
        ]
        firsts = {repr((doc["part"], doc["key"])): doc["n"] for doc in reversed(docs)}
        return index.shown(path), docs, index.documents(list(firsts.values()))

    shown, docs, documents = store.consult(ask)
    name = shown.removeprefix("results.")
    name = SHORT.get(name, name)
    lower = lower_is_better(name) if lowest is None else lowest
    kept, lacking, wrong = _usable(docs)
    again = {id(kept[place]) for place in repeats(kept)}
    found = []
    for places in split(repr(doc["part"]) for doc in kept):
        some = [kept[place] for place in places if id(kept[place]) not in again]
        if some:
            title = ALL if parts is None else parts.label(some[0]["part"], None)
            found.append(_part(title, some, groups, documents, name, lower))
    return Ranking(
        metric=shown,
        by=by,
        within=within,
        lower_is_better=lower,
        parts=tuple(sorted(found, key=lambda part: part.name)),
        without_metric=lacking,
        not_finite=wrong,
        repeats=tuple(doc["id"] for doc in kept if id(doc) in again),
    )


def _usable(docs: Sequence[Any]) -> tuple[list[Any], int, dict[str, str]]:
    """Those whose metric is a number; how many lack it; and of which it is not finite."""
    kept, lacking, wrong = [], 0, {}
    for doc in docs:
        value = doc["value"]
        if value in NOT_FINITE or (type(value) is float and not isfinite(value)):
            wrong[doc["id"]] = value if type(value) is str else not_finite(value)
        elif type(value) in (int, float):
            kept.append(doc)
        else:
            lacking += 1
    return kept, lacking, wrong


def _part(
    title: str,
    docs: Sequence[Any],
    groups: Any,
    documents: Mapping[int, Any],
    metric: str,
    lower: bool,
) -> Part:
    from qn_tracking.api.gathered import group_names

    members = [[docs[place] for place in some] for some in split(repr(doc["key"]) for doc in docs)]
    names = group_names(groups, [documents.get(group[0]["n"]) or {} for group in members])
    sides = [
        Side(name=name, docs=tuple(_with(doc, metric) for doc in group), declared=len(group))
        for name, group in zip(names, members, strict=True)
    ]
    rows = table(sides, metric, lower=lower)
    comparison = compare(rows if len(sides) <= MOST else evolve(rows, order=(), rows=()))
    ranks = comparison.ranks() or {name: (1, len(sides)) for name in names}
    return Part(
        name=title,
        rows=rows.rows,
        ids={
            name: tuple(doc["id"] for doc in group)
            for name, group in zip(names, members, strict=True)
        },
        comparison=comparison,
        ranks=ranks if len(sides) > 1 else dict.fromkeys(names, (1, 1)),
        verdict=_verdict(rows, comparison),
    )


def _with(doc: Any, metric: str) -> dict[str, Any]:
    """The run with the metric where a table looks for it, whichever field it is."""
    of = {"reward": "avg_reward", "steps": "avg_steps"}.get(metric, metric)
    results = {
        of: doc["value"],
        "metrics": {metric: {"mean": doc["value"]}},
        "episodes": doc["episodes"],
    }
    return {"id": doc["id"], "status": doc["status"], "seed": doc["seed"], "results": results}


def _verdict(rows: StudyTable, found: StudyComparison) -> str:
    """Whether the first is better than the second."""
    if len(rows.rows) < 2:
        return "one group: nothing to rank"
    if found.contest is None:
        return f"{len(rows.rows)} groups are too many to compare: no ranks"
    first, second = (found.arms.index(row.name) for row in rows.rows[:2])
    for pair, sentence in zip(found.contest.pairs, found.all_sentences, strict=True):
        if {pair.first, pair.second} == {first, second}:
            if pair.winner is None:
                return f"the first is not shown to be better than the second: {sentence}"
            return sentence
    raise AssertionError("every pair is compared")
