"""The leaderboard: rows in order, with ranks that are intervals.

What a row shows is recomputed from the episodes of its submission, never taken from its claims.
What was computed once is kept in `benchmarks/.cache*.json`, by the digest of the file: a cache,
disposable, outside git.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from os.path import join
from typing import Any

import orjson
from attrs import evolve, frozen

from qn_tracking.benchmark import files, verifications
from qn_tracking.benchmark.aggregate import EFFICIENCIES, aggregate, final_rates, flags, rules_of
from qn_tracking.benchmark.protocol import Protocol, Rulebook
from qn_tracking.benchmark.verifications import CodeNow, Standing
from qn_tracking.codec import digest, plain, structure
from qn_tracking.errors import QnError
from qn_tracking.inference.rules import Rules
from qn_tracking.submission import (
    Aggregates,
    Benchmark,
    Category,
    Contribution,
    Declared,
    Estimate,
    Finding,
    Session,
    Source,
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
CACHE_VERSION = 2


@frozen(kw_only=True)
class Summary:
    """What a leaderboard needs of a submission. `values` holds one number a session, by metric.

    `standing` is what its verifications come to today; it is never taken from the cache.
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
    runs: int
    seed: int | None
    source: Source
    campaign: Declared | None
    aggregates: Aggregates
    values: Mapping[str, tuple[float, ...]]
    errors: tuple[str, ...] = ()
    standing: Standing | None = None


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
    benchmark, rules = entry.benchmark, rules_of(protocol)
    errors = tuple(
        f"{finding.field or finding.rule}: {finding.message}"
        for finding in findings
        if finding.level == "error"
    )
    return Summary(
        id=benchmark.id,
        path=os.path.relpath(entry.path, root),
        sha256=entry.sha256,
        protocol=benchmark.protocol,
        created=benchmark.created,
        category=benchmark.category,
        contribution=benchmark.contribution,
        brain=benchmark.subject.brain,
        environment=benchmark.subject.environment,
        config=benchmark.source.config_file or benchmark.config.label,
        config_digest=benchmark.config.digest or "",
        overrides=benchmark.config.overrides,
        runs=benchmark.runs,
        seed=benchmark.campaign.seed if benchmark.campaign else None,
        source=benchmark.source,
        campaign=benchmark.campaign,
        aggregates=benchmark.aggregates if errors else aggregate(benchmark.sessions, protocol),
        values={} if errors else values(benchmark, rules),
        errors=errors,
    )


def values(benchmark: Benchmark, rules: Rules) -> dict[str, tuple[float, ...]]:
    """One number a session for each metric that all of them have."""
    sessions = benchmark.sessions
    found: dict[str, list[float | None]] = {
        "success_rate": [rate.value for rate in final_rates(sessions, rules)],
        "sample_efficiency": [sum(flags(one)) / len(flags(one)) for one in sessions],
        "path_efficiency": [_efficiency(one) for one in sessions],
        "reward": [_reward(one) for one in sessions],
    }
    return {
        name: tuple(v for v in column if v is not None)
        for name, column in found.items()
        if None not in column
    }


def _efficiency(one: Session) -> float | None:
    from qn_tracking.inference.session import distance_efficiency

    for name in EFFICIENCIES:
        if name in one.episodes.metrics:
            return distance_efficiency(flags(one), one.episodes.metrics[name])
    return None


def _reward(one: Session) -> float | None:
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
    key = digest(orjson.dumps([protocol.version, metric, [(e.id, e.sha256) for e in ranked]]))
    if key not in cache.ranks:
        cache.ranks[key] = _ranks(ranked, protocol, metric, cache.pairs)
    return tuple(
        Row(
            rank_low=rank["low"],
            rank_high=rank["high"],
            better=tuple(rank["better"]),
            worse=tuple(rank["worse"]),
            marks=marks(entry, protocol),
            entry=entry,
        )
        for rank, entry in zip(cache.ranks[key], ranked, strict=True)
    )


def _ranks(
    ranked: Sequence[Summary], protocol: Protocol, metric: str, known: dict[str, Any]
) -> list[dict[str, Any]]:
    from qn_tracking.inference.pair import Comparison, compare
    from qn_tracking.inference.rank import rank_intervals

    rules = rules_of(protocol)
    by_id = {entry.id: entry for entry in ranked}

    def pair(one: str, other: str) -> Comparison:
        first, second = by_id[one], by_id[other]
        # The family decides how many arrangements are drawn, so it is part of the key.
        key = f"{protocol.version}:{metric}:{len(ranked)}:{first.sha256}:{second.sha256}"
        if key not in known:
            x, y = first.values[metric], second.values[metric]
            known[key] = plain(compare(x, y, family=len(ranked) - 1, rules=rules))
        return structure(known[key], Comparison, file="cache")

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
    if entry.campaign is None:
        found.append("undeclared")
    elif entry.campaign.finished < entry.campaign.sessions:
        found.append(f"{entry.campaign.finished} of {entry.campaign.sessions} declared")
    return tuple(found)


def categories(entries: Sequence[Summary]) -> list[Category]:
    """The categories that have entries, in order."""
    found = {str(entry.category): entry.category for entry in entries}
    return [found[name] for name in sorted(found)]


# ------------------------------------------------------------------------------------------- cache


class Cache:
    """Summaries by file, ranks and pairs by digests. Need not be there, nor be writable.

    Pairs grow with the square of the entries, and are only read where a rank is new.
    """

    def __init__(self, benchmarks: str) -> None:
        self._path, self._pairs_path = join(benchmarks, CACHE), join(benchmarks, PAIRS)
        doc = _read(self._path)
        self.summaries: dict[str, Any] = doc.get("summaries", {})
        self.ranks: dict[str, Any] = doc.get("ranks", {})
        self.verifications: dict[str, Any] = doc.get("verifications", {})
        self.asked: set[str] = set()
        self._pairs: dict[str, Any] | None = None
        self._before = (len(self.ranks), tuple(self.summaries))
        self._changed = False

    @property
    def pairs(self) -> dict[str, Any]:
        """Comparisons as plain data; whoever adds one also adds a rank."""
        if self._pairs is None:
            self._pairs = _read(self._pairs_path).get("pairs", {})
        return self._pairs

    def get(self, name: str, stamp: list[int]) -> Summary | None:
        """What was found in a file, if it is still as it was."""
        kept = self.summaries.get(name)
        if kept is None or kept["stamp"] != stamp:
            return None
        with suppress(QnError, KeyError, TypeError, AttributeError):
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
        kept = self.verifications.get(name)
        if kept is not None and kept["stamp"] == stamp:
            with suppress(QnError):
                return structure(kept["record"], Verification, file=self._path)
        record, _ = verifications.load(path)
        self.verifications[name] = {"stamp": stamp, "record": plain(record)}
        self._changed = True
        return record

    def save(self) -> None:
        """Writes what changed; a folder that cannot be written costs time only."""
        if not self._changed and self._before == (len(self.ranks), tuple(self.summaries)):
            return
        kept = {"summaries": self.summaries, "ranks": self.ranks}
        _write(self._path, {**kept, "verifications": self.verifications})
        if self._pairs is not None:
            _write(self._pairs_path, {"pairs": self._pairs})


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
    campaign = doc["campaign"]
    return Summary(
        **{
            **doc,
            "category": Category(**doc["category"]),
            "contribution": Contribution(**doc["contribution"]),
            "source": Source(**doc["source"]),
            "campaign": None if campaign is None else Declared(**campaign),
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
    """Every submission of a folder, each file read once in its life; and what cannot be read.

    `check` judges one that is new. One with errors is in the list, with its errors and no values.
    `now` says what code is installed, for the marks.
    """
    found: list[Summary] = []
    problems: list[QnError] = []
    seen: dict[str, Any] = {}
    for name in files.names(benchmarks):
        inside = os.path.relpath(name, benchmarks)
        try:
            stamp = _stamp(os.stat(name))
            summary = cache.get(inside, stamp)
            if summary is None:
                entry = files.load(name)
                findings = check(entry)
                version = entry.benchmark.protocol
                known = [p.version for p in book.versions]
                protocol = book.version(version if version in known else book.current)
                summary = summarize(entry, protocol, findings, benchmarks)
                cache.put(inside, stamp, summary)
            seen[inside] = cache.summaries[inside]
            records = _verifications(benchmarks, summary.id, cache, problems)
            standing = verifications.standing(
                summary.contribution, summary.sha256, records, book.current, now
            )
            found.append(evolve(summary, path=inside, standing=standing))
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
