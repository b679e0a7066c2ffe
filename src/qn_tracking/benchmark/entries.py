"""What the leaderboard knows of a submission, and the place that it holds there.

Both are plain objects over JSON data, so that a leaderboard from the cache imports nothing heavy.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from qn_tracking.benchmark.files import Stored
    from qn_tracking.benchmark.protocol import Protocol
    from qn_tracking.records.submission import Finding


class Entry:
    """A submission as the leaderboard shows it; its figures are recomputed from its episodes.

    `category`, `contribution`, `source` and `study` are those of the submission, as JSON data.
    `aggregates` holds an estimate by metric, and totals; `values` one number a run, by metric. An
    entry with `errors` has no values, and claims only. `checkable` is False if all that is wrong
    is that a package is not installed here. `findings` is what validators found in its file alone,
    as JSON data. `imprint` is what no other submission may
    share (see `crossing`), None if it is not valid by itself. `verification` is what its
    verifications come to today (see `VerificationStatus`), None if there are none. `division` is
    `closed` or `open`, None by a protocol without divisions; `differs` says what keeps it out of
    the closed one. `task` is the digest of its task, `reward` the training reward if it is no part
    of the task.
    """

    id: str
    path: str
    sha256: str
    protocol: int
    created: str
    category: Mapping[str, str]
    contribution: Mapping[str, Any]
    brain: str
    environment: str
    config: str
    config_digest: str
    overrides: Mapping[str, Any]
    episodes: int
    seed: int | None
    division: str | None
    differs: Sequence[str]
    task: str | None
    reward: Any
    source: Mapping[str, Any]
    study: Mapping[str, Any] | None
    aggregates: Mapping[str, Any]
    values: Mapping[str, Sequence[float]]
    errors: Sequence[str]

    def __init__(self, data: Mapping[str, Any], stamp: Sequence[int]) -> None:
        """Raises KeyError or TypeError for data that is not an entry's."""
        self.verification: Mapping[str, Any] | None = None
        self.checkable = True
        self.imprint: dict[str, Any] | None = None
        self.findings: list[dict[str, Any]] = []
        self.stamp = stamp
        for name in STORED:
            value = data[name]
            if name in MAPPINGS and type(value) is not dict:
                raise TypeError(f"{name}: expected a mapping")
            setattr(self, name, value)
        self.category["environment"], self.category["family"]
        self.aggregates["runs"], self.source["commit"], self.contribution["contributor"]
        for metric in self.values:
            self.aggregates[metric]["mean"]

    @property
    def board(self) -> str:
        """The name of its category: `dynamic_small/quantum`."""
        return f"{self.category['environment']}/{self.category['family']}"

    @property
    def contributor(self) -> str:
        """The name of the contributor."""
        return str(self.contribution["contributor"])

    @property
    def verified(self) -> bool:
        """Whether someone other than the contributor has verified it, and nothing has changed."""
        return self.verification is not None and self.verification["status"] == "verified"

    def mean(self, metric: str) -> float:
        """The mean of a metric over runs; 0 for one that it lacks."""
        values = self.values.get(metric, ())
        return sum(values) / len(values) if values else 0.0

    def stored(self) -> dict[str, Any]:
        """What the cache keeps of it."""
        return {name: getattr(self, name) for name in STORED}

    def plain(self) -> dict[str, Any]:
        """The entry as JSON data."""
        return {**self.stored(), "verification": self.verification}

    def status(self, protocol: int) -> tuple[str, ...]:
        """What a reader needs to know beside the figures, in a few words each."""
        found = [] if self.verification is None else [verified_in_words(self.verification)]
        if self.source["dirty"]:
            found.append("dirty")
        if self.protocol != protocol and "outdated" not in found:
            found.append("outdated")
        if self.study is None:
            found.append("undeclared")
        elif self.study["finished"] < self.study["runs"]:
            found.append(f"{self.study['finished']} of {self.study['runs']} declared")
        return tuple(found)


def verified_in_words(found: Mapping[str, Any]) -> str:
    """`verified`, or `verified 2 of 20 runs` where not all were executed again."""
    some = found["runs"] < found["total"] and found["status"] not in ("disputed", "outdated")
    more = f" {found['runs']} of {found['total']} runs" if some else ""
    return f"{found['status']}{more}"


STORED = tuple(Entry.__annotations__)
"""The fields of an entry in the cache and in JSON, in order."""
MAPPINGS = ("category", "contribution", "overrides", "source", "aggregates", "values")


class Row:
    """A place on the leaderboard, from `rank_low` to `rank_high`, and the entry that holds it.

    `better` and `worse` are the ids of entries that are better, or worse, beyond chance.
    """

    def __init__(self, rank: Mapping[str, Any], status: tuple[str, ...], entry: Entry) -> None:
        self.rank_low: int = rank["low"]
        self.rank_high: int = rank["high"]
        self.better = tuple(rank["better"])
        self.worse = tuple(rank["worse"])
        self.status = status
        self.entry = entry

    def plain(self) -> dict[str, Any]:
        """The row as JSON data."""
        return {
            "rank_low": self.rank_low,
            "rank_high": self.rank_high,
            "better": list(self.better),
            "worse": list(self.worse),
            "status": list(self.status),
            "entry": self.entry.plain(),
        }


class Listed:
    """An entry that is not ranked: `differs` says why."""

    def __init__(self, entry: Entry, status: tuple[str, ...], differs: Sequence[str]) -> None:
        self.entry = entry
        self.status = status
        self.differs = tuple(differs)

    def plain(self) -> dict[str, Any]:
        """The entry as JSON data."""
        return {
            "status": list(self.status),
            "differs": list(self.differs),
            "entry": self.entry.plain(),
        }


class Places:
    """A category: `rows` are ranked by the protocol in force; `open` entries are listed only.

    Entries of an older protocol are the `archive`, ranked among themselves by its rules.
    """

    def __init__(
        self,
        rows: Sequence[Row] = (),
        open: Sequence[Listed] = (),
        archive: Sequence[Row] = (),
    ) -> None:
        self.rows, self.open, self.archive = tuple(rows), tuple(open), tuple(archive)


def entry_of(
    stored: Stored,
    protocol: Protocol,
    findings: Sequence[Finding],
    root: str,
    stamp: Sequence[int],
) -> Entry:
    """The entry of a submission that was read; `root` is the folder of benchmarks."""
    import os

    from qn_tracking.benchmark.aggregate import aggregate, rules_of, values
    from qn_tracking.benchmark.crossing import imprint_of
    from qn_tracking.benchmark.division import division_of
    from qn_tracking.benchmark.task import task_digest, training_reward
    from qn_tracking.benchmark.validation import checkable
    from qn_tracking.records.codec import plain

    submission = stored.submission
    errors = [
        f"{finding.field or finding.rule}: {finding.message}"
        for finding in findings
        if finding.level == "error"
    ]
    study = submission.study
    found = None if errors else division_of(submission, protocol)
    data = {
        "id": submission.id,
        "path": os.path.relpath(stored.path, root),
        "sha256": stored.sha256,
        "protocol": submission.protocol,
        "created": submission.created,
        "category": submission.category,
        "contribution": submission.contribution,
        "brain": submission.subject.brain,
        "environment": submission.subject.environment,
        "config": submission.source.config_file or submission.config.label,
        "config_digest": submission.config.digest or "",
        "overrides": submission.config.overrides,
        "episodes": submission.episodes,
        "seed": study.seed if study else None,
        "division": None if found is None else found.name,
        "differs": () if found is None else found.differs,
        "task": None if submission.task is None else task_digest(submission.task),
        "reward": training_reward(submission.config.data, submission.task),
        "source": submission.source,
        "study": study,
        "aggregates": {"runs": len(submission.runs)}
        if errors
        else aggregate(submission.runs, protocol),
        "values": {} if errors else values(submission.runs, rules_of(protocol)),
        "errors": errors,
    }
    entry = Entry(plain(data), stamp)
    entry.checkable = checkable(findings)
    entry.findings = plain([*findings, *stored.findings])
    if not errors or not entry.checkable:
        entry.imprint = imprint_of(submission)
    return entry
