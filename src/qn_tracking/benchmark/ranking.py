"""The places of the leaderboard: entries in order, with ranks that are intervals."""

from __future__ import annotations

from qn_tracking.benchmark.cache import digest, fingerprint
from qn_tracking.benchmark.entries import Listed, Places, Row
from qn_tracking.benchmark.metrics import METRICS, PRIMARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from qn_tracking.benchmark.entries import Entry
    from qn_tracking.benchmark.survey import Survey
    from qn_tracking.inference.pair import Comparison


def rank(
    entries: Sequence[Entry],
    survey: Survey,
    metric: str = PRIMARY,
    *,
    version: int | None = None,
) -> tuple[Row, ...]:
    """The entries of one category, by mean of the metric, then path efficiency, then id.

    Entries without the metric are left out. The statistics are those of the protocol in force, or
    of another version: that of an archive.
    """
    version = survey.version if version is None else version
    better = -1 if METRICS[metric].higher_is_better is False else 1
    ranked = sorted(
        (entry for entry in entries if metric in entry.values),
        key=lambda e: (-better * e.mean(metric), -e.mean("path_efficiency"), e.id),
    )
    # The size of the family decides how many arrangements are drawn: a pair holds within one.
    family = f"{survey.rules}:{version}:{metric}:{len(ranked)}"
    of = [fingerprint(entry.sha256, entry.stamp) for entry in ranked]
    key = digest([family, [entry.id for entry in ranked], of])
    found = survey.cache.ranking(key, len(ranked))
    if found is None:
        found = _ranks(ranked, of, survey, version, metric, family)
        place = f"{ranked[0].board}:{version}:{metric}" if ranked else ""
        ranking = {"place": place, "family": family, "of": of, "ranks": found}
        survey.cache.put_ranks(key, ranking)
    return tuple(
        Row(rank, entry.status(version), entry) for rank, entry in zip(found, ranked, strict=True)
    )


def _ranks(
    ranked: Sequence[Entry],
    of: Sequence[str],
    survey: Survey,
    version: int,
    metric: str,
    family: str,
) -> list[dict[str, Any]]:
    from attrs import asdict

    from qn_tracking.benchmark.aggregate import rules_of
    from qn_tracking.errors import QnError
    from qn_tracking.inference.guarded import compare_guarded, in_units
    from qn_tracking.inference.pair import Comparison, compare
    from qn_tracking.inference.rank import guarded_ranks, rank_intervals
    from qn_tracking.records.codec import plain, structure

    rules, bounds = rules_of(survey.version_of(version)), METRICS[metric].oriented_range
    guarded = rules.inference == "guarded"
    if guarded and bounds:
        # Closed, and faster for all pairs than the cache is read.
        samples = [oriented(entry, metric) for entry in ranked]
        ids = [entry.id for entry in ranked]
        return [
            {**asdict(rank, recurse=False), "better": [*rank.better], "worse": [*rank.worse]}
            for rank in guarded_ranks(ids, samples, bounds=bounds, rules=rules)
        ]
    if guarded:
        rules = in_units(rules, bounds)
    known = survey.cache.family(family)
    by_id = {entry.id: (entry, mark) for entry, mark in zip(ranked, of, strict=True)}

    def pair(one: str, other: str) -> Comparison:
        (first, mark), (second, other_mark) = by_id[one], by_id[other]
        key = f"{mark}:{other_mark}"
        try:
            return structure(known[key], Comparison, file="cache")
        except (QnError, KeyError):
            x, y = oriented(first, metric), oriented(second, metric)
            size = len(ranked) - 1
            found = (
                compare_guarded(x, y, bounds=bounds, family=size, rules=rules)
                if guarded
                else compare(x, y, family=size, rules=rules)
            )
            known[key] = plain(found)
            return found

    return [plain(rank) for rank in rank_intervals(list(by_id), pair, rules=rules)]


def oriented(entry: Entry, metric: str) -> list[float]:
    """The values of a metric, one a run, turned so that higher is better."""
    sign = -1 if METRICS[metric].higher_is_better is False else 1
    return [sign * value for value in entry.values[metric]]


FREE_REWARD = "reward: free in training, so its mean is no measure"
"""Why an entry is not ranked by reward, if its reward is not part of the task."""


def boards(entries: Sequence[Entry], survey: Survey, metric: str = PRIMARY) -> dict[str, Places]:
    """The places of every category by name; none for those that only have a configuration."""
    found = dict.fromkeys(survey.configs, Places())
    for name in sorted({entry.board for entry in entries}):
        found[name] = _places([e for e in entries if e.board == name], survey, metric)
    return {name: found[name] for name in sorted(found)}


def _places(entries: Sequence[Entry], survey: Survey, metric: str) -> Places:
    version, closed, listed = survey.version, [], []
    for entry in entries:
        differs = entry.differs
        if metric == "reward" and entry.division is not None and entry.reward is not None:
            differs = (*differs, FREE_REWARD)
        if entry.protocol == version and not differs:
            closed.append(entry)
        elif entry.protocol == version:
            listed.append(Listed(entry, entry.status(version), differs))
    listed.sort(key=lambda one: (one.entry.created, one.entry.id), reverse=True)
    older = sorted({entry.protocol for entry in entries} - {version}, reverse=True)
    archive = [
        row
        for number in older
        for row in rank(
            [entry for entry in entries if entry.protocol == number],
            survey,
            metric,
            version=number,
        )
    ]
    return Places(rank(closed, survey, metric) if closed else (), listed, archive)
