"""The leaderboard: rows in order, with ranks that are intervals.

What a row shows is recomputed from the episodes of its submission, never taken from its claims.
What was computed once is kept in `benchmarks/.cache*.json`: a cache, disposable, outside git. It is
believed only of files that are as they were on this very disk, which nobody can know who hands over
a folder or a pull request.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from os.path import join
from typing import Any

import orjson
from attrs import evolve, field, frozen

from qn_tracking.benchmark import files, verifications
from qn_tracking.benchmark.aggregate import EFFICIENCIES, aggregate, final_rates, flags, rules_of
from qn_tracking.benchmark.protocol import Protocol, Rulebook
from qn_tracking.benchmark.validation import CHANGING, checkable
from qn_tracking.benchmark.verifications import CodeNow, Standing
from qn_tracking.errors import QnError
from qn_tracking.inference.rules import Rules
from qn_tracking.records.codec import canonical, digest, plain, structure
from qn_tracking.records.submission import (
    Aggregates,
    Category,
    Contribution,
    Declared,
    Estimate,
    Finding,
    Run,
    Source,
    Submission,
    Verification,
)

METRICS = {
    "success_rate": "final success rate",
    "sample_efficiency": "success rate over all episodes",
    "path_efficiency": "path efficiency",
    "reward": "mean reward",
}
"""What can be ranked by, higher being better; the first is the primary metric."""
PRIMARY = "success_rate"
CACHE = ".cache.json"
PAIRS = ".cache-pairs.json"
CACHE_VERSION = 5
RANKINGS = 8
"""How many are kept of each category and metric: the whole one, and filtered ones."""


@frozen(kw_only=True)
class Summary:
    """What a leaderboard needs of a submission. `values` holds one number a run, by metric.

    `standing` is what its verifications come to today; it is never taken from the cache. `stamp` is
    that of the file on this disk. One that is not `checkable` needs a
    package that is not installed here.
    """

    id: str
    path: str
    sha256: str
    protocol: int
    created: str
    category: Category
    contribution: Contribution
    brain: str
    environment: str
    config: str
    config_digest: str
    overrides: Mapping[str, Any]
    episodes: int
    seed: int | None
    source: Source
    study: Declared | None
    aggregates: Aggregates
    values: Mapping[str, tuple[float, ...]]
    errors: tuple[str, ...] = ()
    checkable: bool = field(default=True, metadata={"stored": False})
    standing: Standing | None = None
    stamp: tuple[int, ...] = field(default=(), metadata={"stored": False})


@frozen(kw_only=True)
class Row:
    """A place on the leaderboard: from `rank_low` to `rank_high`, and what is to be known of it."""

    rank_low: int
    rank_high: int
    better: tuple[str, ...]
    worse: tuple[str, ...]
    marks: tuple[str, ...]
    entry: Summary


def summarize(
    entry: files.Entry, protocol: Protocol, findings: Sequence[Finding], root: str
) -> Summary:
    """A submission as the leaderboard sees it."""
    submission, rules = entry.submission, rules_of(protocol)
    errors = tuple(
        f"{finding.field or finding.rule}: {finding.message}"
        for finding in findings
        if finding.level == "error"
    )
    return Summary(
        id=submission.id,
        path=os.path.relpath(entry.path, root),
        sha256=entry.sha256,
        protocol=submission.protocol,
        created=submission.created,
        category=submission.category,
        contribution=submission.contribution,
        brain=submission.subject.brain,
        environment=submission.subject.environment,
        config=submission.source.config_file or submission.config.label,
        config_digest=submission.config.digest or "",
        overrides=submission.config.overrides,
        episodes=submission.episodes,
        seed=submission.study.seed if submission.study else None,
        source=submission.source,
        study=submission.study,
        aggregates=submission.aggregates if errors else aggregate(submission.runs, protocol),
        values={} if errors else values(submission, rules),
        errors=errors,
        checkable=checkable(findings),
    )


def values(submission: Submission, rules: Rules) -> dict[str, tuple[float, ...]]:
    """One number a run for each metric that all of them have."""
    runs = submission.runs
    found: dict[str, list[float | None]] = {
        "success_rate": [rate.value for rate in final_rates(runs, rules)],
        "sample_efficiency": [sum(flags(one)) / len(flags(one)) for one in runs],
        "path_efficiency": [_efficiency(one) for one in runs],
        "reward": [_reward(one) for one in runs],
    }
    return {
        name: tuple(v for v in column if v is not None)
        for name, column in found.items()
        if None not in column
    }


def _efficiency(one: Run) -> float | None:
    from qn_tracking.inference.run import distance_efficiency

    for name in EFFICIENCIES:
        if name in one.episodes.metrics:
            return distance_efficiency(flags(one), one.episodes.metrics[name])
    return None


def _reward(one: Run) -> float | None:
    known = [value for value in one.episodes.reward if value is not None]
    return sum(known) / len(known) if known else None


# ----------------------------------------------------------------------------------------- ranking


def rank(
    entries: Sequence[Summary],
    *,
    protocol: Protocol,
    cache: Cache,
    metric: str = PRIMARY,
) -> tuple[Row, ...]:
    """The entries of one category, by mean of the metric, then path efficiency, then id.

    Entries without the metric are left out.
    """
    ranked = sorted((e for e in entries if metric in e.values), key=lambda e: _order(e, metric))
    # The family decides how many arrangements are drawn: a pair holds within one.
    family = f"{digest(canonical(protocol))}:{metric}:{len(ranked)}"
    of = [_mark(entry.sha256, entry.stamp) for entry in ranked]
    key = digest(orjson.dumps([family, [entry.id for entry in ranked], of]))
    found = _kept(cache.ranks.get(key), len(ranked))
    if found is None:
        found = _ranks(ranked, of, protocol, metric, cache.family(family))
        place = f"{ranked[0].category}:{metric}" if ranked else ""
        cache.put_ranks(key, {"place": place, "family": family, "of": of, "ranks": found})
    return tuple(
        Row(
            rank_low=rank["low"],
            rank_high=rank["high"],
            better=tuple(rank["better"]),
            worse=tuple(rank["worse"]),
            marks=marks(entry, protocol),
            entry=entry,
        )
        for rank, entry in zip(found, ranked, strict=True)
    )


def _mark(sha256: str, stamp: Sequence[int]) -> str:
    """A submission as it is on this disk: a digest alone can be computed by anybody."""
    return digest(orjson.dumps([sha256, stamp]))


def _kept(kept: Any, entries: int) -> list[dict[str, Any]] | None:
    """The ranks of a cached ranking; None if it is not as it was written."""
    with suppress(KeyError, TypeError, AttributeError):
        found = kept["ranks"]
        whole = [
            rank
            for rank in found
            if type(rank["low"]) is type(rank["high"]) is int
            and all(type(id) is str for id in [*rank["better"], *rank["worse"]])
        ]
        if type(found) is list and len(found) == len(whole) == entries:
            return whole
    return None


def _ranks(
    ranked: Sequence[Summary],
    of: Sequence[str],
    protocol: Protocol,
    metric: str,
    known: dict[str, Any],
) -> list[dict[str, Any]]:
    from qn_tracking.inference.pair import Comparison, compare
    from qn_tracking.inference.rank import rank_intervals

    rules = rules_of(protocol)
    by_id = {entry.id: (entry, mark) for entry, mark in zip(ranked, of, strict=True)}

    def pair(one: str, other: str) -> Comparison:
        (first, mark), (second, other_mark) = by_id[one], by_id[other]
        key = f"{mark}:{other_mark}"
        with suppress(QnError, KeyError):
            return structure(known[key], Comparison, file="cache")
        x, y = first.values[metric], second.values[metric]
        found = compare(x, y, family=len(ranked) - 1, rules=rules)
        known[key] = plain(found)
        return found

    return [plain(rank) for rank in rank_intervals(list(by_id), pair, rules=rules)]


def _order(entry: Summary, metric: str) -> tuple[float, float, str]:
    def mean(name: str) -> float:
        column = entry.values.get(name, ())
        return sum(column) / len(column) if column else 0.0

    return (-mean(metric), -mean("path_efficiency"), entry.id)


def marks(entry: Summary, protocol: Protocol) -> tuple[str, ...]:
    """What is to be known of an entry besides its figures."""
    found: list[str] = []
    if entry.standing is not None:
        found.append(entry.standing.mark)
    if entry.source.dirty:
        found.append("dirty")
    if entry.protocol != protocol.version and "outdated" not in found:
        found.append("outdated")
    if entry.study is None:
        found.append("undeclared")
    elif entry.study.finished < entry.study.runs:
        found.append(f"{entry.study.finished} of {entry.study.runs} declared")
    return tuple(found)


def categories(entries: Sequence[Summary]) -> list[Category]:
    """The categories that have entries, in order."""
    found = {str(entry.category): entry.category for entry in entries}
    return [found[name] for name in sorted(found)]


# ------------------------------------------------------------------------------------------- cache


class Cache:
    """Summaries by file, ranks and pairs by digests. Need not be there, nor be writable.

    Whatever it holds, nothing is believed that is not of the shape it was written in. Pairs grow
    with the square of the entries, and are only read where a rank is new.
    """

    def __init__(self, benchmarks: str) -> None:
        self._path, self._pairs_path = join(benchmarks, CACHE), join(benchmarks, PAIRS)
        doc = _read(self._path)
        self.rules: Any = doc.get("rules")
        self.summaries = _mapping(doc, "summaries")
        self.ranks = _mapping(doc, "ranks")
        self.verifications = _mapping(doc, "verifications")
        self.asked: set[str] = set()
        self._pairs: dict[str, Any] | None = None
        self._before = tuple(self.summaries)
        self._changed = False

    def under(self, book: Rulebook) -> None:
        """Forgets what was found under other rules."""
        rules = digest(canonical(book))
        if self.rules != rules:
            self.rules, self.summaries, self._changed = rules, {}, True

    def family(self, name: str) -> dict[str, Any]:
        """Comparisons of one family as plain data; whoever adds one also puts ranks."""
        if self._pairs is None:
            self._pairs = _mapping(_read(self._pairs_path), "pairs")
        if type(self._pairs.get(name)) is not dict:
            self._pairs[name] = {}
        return self._pairs[name]  # type: ignore[no-any-return]

    def put_ranks(self, key: str, ranks: dict[str, Any]) -> None:
        """Remembers a ranking, as the newest of its place."""
        self.ranks.pop(key, None)
        self.ranks[key] = ranks
        self._changed = True

    def get(self, name: str, stamp: list[int]) -> Summary | None:
        """What was found in a file, if it is still as it was."""
        with suppress(QnError, KeyError, TypeError, AttributeError):
            kept = self.summaries[name]
            if kept["stamp"] == stamp:
                return _restored(kept["summary"], self._path)
        return None

    def put(self, name: str, stamp: list[int], summary: Summary) -> None:
        """Remembers what was found in a file."""
        self.summaries[name] = {"stamp": stamp, "summary": plain(summary)}
        self._changed = True

    def verification(self, name: str, path: str) -> Verification:
        """A verification, its file read once in its life. Raises as `load`."""
        stamp = _stamp(os.stat(path))
        self.asked.add(name)
        with suppress(QnError, KeyError, TypeError):
            kept = self.verifications[name]
            if kept["stamp"] == stamp:
                return structure(kept["record"], Verification, file=self._path)
        record, _ = verifications.load(path)
        self.verifications[name] = {"stamp": stamp, "record": plain(record)}
        self._changed = True
        return record

    def save(self) -> None:
        """Writes what changed; a folder that cannot be written costs time only."""
        if not self._changed and self._before == tuple(self.summaries):
            return
        self._prune()
        kept = {"rules": self.rules, "summaries": self.summaries, "ranks": self.ranks}
        _write(self._path, {**kept, "verifications": self.verifications})
        if self._pairs is not None:
            _write(self._pairs_path, {"pairs": self._pairs})

    def _prune(self) -> None:
        """Lets go of ranks of files that are gone, of all but the newest, and of their pairs."""
        there = {
            _mark(kept["summary"]["sha256"], kept["stamp"]) for kept in self.summaries.values()
        }
        ranks: dict[str, Any] = {}
        of: dict[str, list[set[str]]] = {}
        count: dict[str, int] = {}
        for key, kept in reversed(self.ranks.items()):
            with suppress(KeyError, TypeError):
                place, family, marks = kept["place"], kept["family"], set(kept["of"])
                count[place] = count.get(place, 0) + 1
                if marks <= there and count[place] <= RANKINGS:
                    ranks[key] = kept
                    of.setdefault(family, []).append(marks)
        self.ranks = dict(reversed(ranks.items()))
        if self._pairs is not None:
            self._pairs = {
                name: {
                    key: pair
                    for key, pair in self._pairs[name].items()
                    if any(marks.issuperset(key.split(":")) for marks in of[name])
                }
                for name in self._pairs
                if name in of and type(self._pairs[name]) is dict
            }


def _mapping(doc: dict[str, Any], name: str) -> dict[str, Any]:
    value = doc.get(name)
    return value if type(value) is dict else {}


def _restored(doc: Mapping[str, Any], path: str) -> Summary:
    """A summary from the cache, without the checks that a file of somebody else's needs.

    They are most of a leaderboard's time. Raises what comes of a cache that is not as it was.
    """
    if doc["errors"]:  # with what is claimed, also numbers that are texts
        return structure(doc, Summary, file=path)
    aggregates: dict[str, Any] = {
        name: Estimate(**value) if isinstance(value, dict) else value
        for name, value in doc["aggregates"].items()
    }
    study = doc["study"]
    return Summary(
        **{
            **doc,
            "category": Category(**doc["category"]),
            "contribution": Contribution(**doc["contribution"]),
            "source": Source(**doc["source"]),
            "study": None if study is None else Declared(**study),
            "aggregates": Aggregates(**aggregates),
            "values": {name: tuple(column) for name, column in doc["values"].items()},
            "errors": (),
        }
    )


def _stamp(info: os.stat_result) -> list[int]:
    return [info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino]


def _read(path: str) -> dict[str, Any]:
    with suppress(OSError, ValueError, KeyError, TypeError):
        with open(path, "rb") as stream:
            doc = orjson.loads(stream.read())
        if doc["version"] == CACHE_VERSION:
            return dict(doc)
    return {}


def _write(path: str, doc: dict[str, Any]) -> None:
    temporary = f"{path}.{os.urandom(4).hex()}.tmp"
    with suppress(OSError):
        with open(temporary, "wb") as stream:
            stream.write(orjson.dumps({"version": CACHE_VERSION, **doc}))
        os.replace(temporary, path)
    with suppress(OSError):
        os.unlink(temporary)


def survey(
    benchmarks: str,
    book: Rulebook,
    check: Callable[[files.Entry], Sequence[Finding]],
    cache: Cache,
    now: CodeNow,
) -> tuple[list[Summary], list[QnError]]:
    """Every submission of a folder, and what cannot be read.

    `check` judges one that is new, once in its life; but each time one with an error that another
    installation might not find. One with errors is in the list, with them and no values.
    `now` says what code is installed, for the marks.
    """
    found: list[Summary] = []
    problems: list[QnError] = []
    seen: dict[str, Any] = {}
    cache.under(book)
    for name in files.names(benchmarks):
        inside = os.path.relpath(name, benchmarks)
        try:
            stamp = _stamp(os.stat(name))
            summary = cache.get(inside, stamp)
            if summary is None:
                entry = files.load(name)
                findings = check(entry)
                version = entry.submission.protocol
                known = [p.version for p in book.versions]
                protocol = book.version(version if version in known else book.current)
                summary = summarize(entry, protocol, findings, benchmarks)
                errors = {one.rule for one in findings if one.level == "error"}
                if not errors & {*CHANGING}:
                    cache.put(inside, stamp, summary)
                    seen[inside] = cache.summaries[inside]
            else:
                seen[inside] = cache.summaries[inside]
            records = _verifications(benchmarks, summary.id, cache, problems)
            standing = verifications.standing(
                summary.contribution, summary.sha256, records, book.current, now
            )
            found.append(evolve(summary, path=inside, standing=standing, stamp=tuple(stamp)))
        except FileNotFoundError:
            continue
        except QnError as error:
            problems.append(error)
    cache.summaries = seen
    cache.verifications = {
        name: kept for name, kept in cache.verifications.items() if name in cache.asked
    }
    return found, problems


def _verifications(
    benchmarks: str, id: str, cache: Cache, problems: list[QnError]
) -> list[Verification]:
    """Those of an entry that can be read; why not, of the others."""
    found = []
    for path in verifications.names(benchmarks, id):
        try:
            found.append(cache.verification(os.path.relpath(path, benchmarks), path))
        except FileNotFoundError:
            continue
        except QnError as error:
            problems.append(error)
    return found
