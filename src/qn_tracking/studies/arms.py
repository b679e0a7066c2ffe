"""The arms of a study side by side: a row for each, and what their comparisons say.

Runs come as plain data, as the index holds them. The run is the unit: every figure is over runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from math import fsum, isfinite
from typing import Any

from attrs import frozen

from qn_tracking.inference import arms as tests
from qn_tracking.inference.arms import ArmPair, Contest, deciding_test
from qn_tracking.inference.bands import Estimate, estimate
from qn_tracking.inference.multiplicity import Correction
from qn_tracking.inference.planning import runs_to_decide
from qn_tracking.inference.sample import LARGEST, mean_sd
from qn_tracking.records.submission import Study
from qn_tracking.studies.comparison import PRIMARY, RATES, values_of
from qn_tracking.studies.sentences import verdict

Doc = Mapping[str, Any]
LOWER = frozenset(("wall_seconds", "cpu_seconds", "peak_memory_bytes", "steps", "loss"))
"""Metrics of which less is better; of any other, more."""


@frozen(kw_only=True)
class ArmRow:
    """What the finished runs of an arm say.

    `counts` has how many of the declared runs have which status. `values` are the metric by seed;
    `mean` and `iqm` have their intervals where the runs say something of it. `means` is of every
    metric, `endings` the share of episodes that ended so. `curve` is the mean of the curves.
    """

    name: str
    declared: int
    counts: Mapping[str, int]
    values: Mapping[int, float]
    mean: Estimate | None
    iqm: Estimate | None
    means: Mapping[str, Estimate]
    endings: Mapping[str, float]
    curve: tuple[float, ...]
    curve_of: str | None

    @property
    def finished(self) -> int:
        """How many runs are completed."""
        return self.counts.get("completed", 0)


@frozen(kw_only=True)
class StudyTable:
    """The arms of a study, the best first. `window`: so many last episodes a final rate is of."""

    metric: str
    lower_is_better: bool
    window: int | None
    rows: tuple[ArmRow, ...]

    @property
    def endings(self) -> tuple[str, ...]:
        """How episodes of any arm ended, the most frequent first."""
        names = dict.fromkeys(name for row in self.rows for name in row.endings)
        return tuple(sorted(names, key=lambda n: -fsum(r.endings.get(n, 0) for r in self.rows)))


@frozen(kw_only=True)
class StudyComparison:
    """The comparisons that a study has asked for: the places of `contest` are those in `arms`.

    `needed` is, for each pair, about how many runs an arm would decide if the difference is what
    it looks like; None for a pair that is decided, or where no number would do. `notes` say what
    is not as it was declared.
    """

    metric: str
    arms: tuple[str, ...]
    contest: Contest | None
    needed: tuple[int | None, ...]
    notes: tuple[str, ...]

    @property
    def shown(self) -> tuple[tuple[ArmPair, int | None], ...]:
        """The pairs with the baseline or the leader, those that are decided first."""
        if self.contest is None:
            return ()
        pairs = zip(self.contest.pairs, self.needed, strict=True)
        kept = [(pair, needed) for pair, needed in pairs if pair in self.contest.shown]
        kept.sort(key=lambda one: (one[0].winner is None, one[0].adjusted_p or 0, -one[0].delta))
        return tuple(kept)

    @property
    def sentences(self) -> tuple[str, ...]:
        """One for each pair that is shown."""
        return tuple(self._sentence(pair, needed) for pair, needed in self.shown)

    @property
    def all_sentences(self) -> tuple[str, ...]:
        """One for each pair of the family, in the order of `contest.pairs`."""
        pairs = () if self.contest is None else self.contest.pairs
        return tuple(map(self._sentence, pairs, self.needed))

    def _sentence(self, pair: ArmPair, needed: int | None) -> str:
        assert self.contest is not None
        rate = self.metric in RATES
        return verdict(pair, self.arms, self.contest, rate=rate, needed=needed)


def table(study: Study, runs: Sequence[Doc], metric: str) -> StudyTable:
    """The rows of all arms. `runs` are the latest attempt at each run that was begun, with its
    `index`.
    """
    count = len(study.arms)
    lower = metric in LOWER
    members: list[list[Doc]] = [[] for _ in study.arms]
    for doc in runs:
        members[doc["index"] % count].append(doc)
    rows = [_row(study, i, some, metric) for i, some in enumerate(members)]
    worst = float("inf") if lower else float("-inf")
    rows.sort(key=lambda row: (row.mean.centre if row.mean else worst) * (1 if lower else -1))
    windows = {(doc.get("results") or {}).get("final_window") for doc in runs} - {None}
    return StudyTable(
        metric=metric,
        lower_is_better=lower,
        window=windows.pop() if len(windows) == 1 and metric == PRIMARY else None,
        rows=tuple(rows),
    )


def metric_of(study: Study, runs: Sequence[Doc]) -> str:
    """The metric that was declared; where no run has it, the reward."""
    found = {name for doc in runs if doc.get("status") == "completed" for name in values_of(doc)}
    return "reward" if study.metric not in found and "reward" in found else study.metric


def _row(study: Study, place: int, docs: Sequence[Doc], metric: str) -> ArmRow:
    counts: dict[str, int] = {}
    for doc in docs:
        counts[doc["status"]] = counts.get(doc["status"], 0) + 1
    declared = len(study.seeds)
    if len(docs) < declared:
        counts["missing"] = declared - len(docs)
    done = [doc for doc in docs if doc["status"] == "completed"]
    found = [values_of(doc) for doc in done]
    columns: dict[str, list[float]] = {}
    for one in found:
        for name, value in one.items():
            if abs(value) <= LARGEST:
                columns.setdefault(name, []).append(value)
    values = {
        study.seed_of(doc["index"]): one[metric]
        for doc, one in zip(done, found, strict=True)
        if metric in one and abs(one[metric]) <= LARGEST
    }
    curves = [_finite(doc["results"].get("curve") or ()) for doc in done]
    return ArmRow(
        name=study.arms[place].name,
        declared=declared,
        counts=counts,
        values=values,
        mean=estimate(list(values.values())) if values else None,
        iqm=estimate(list(values.values()), "iqm") if values else None,
        means={name: estimate(some) for name, some in columns.items()},
        endings=_endings(done),
        curve=_mean_curve([curve for curve in curves if curve]),
        curve_of=next((doc["results"].get("curve_of") for doc in done), None),
    )


def _finite(curve: Sequence[Any]) -> list[float]:
    numbers = [float(value) for value in curve]
    return numbers if all(map(isfinite, numbers)) else []


def _mean_curve(curves: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The mean at each point, of the curves that go so far."""
    points = ([v for v in some if v is not None] for some in zip_longest(*curves))
    return tuple(fsum(some) / len(some) for some in points)


def _endings(docs: Sequence[Doc]) -> dict[str, float]:
    """The share of all episodes that ended so; the same for each run, however long it is."""
    shares: dict[str, float] = {}
    for doc in docs:
        results = doc["results"]
        for name, number in (results.get("terminations") or {}).items():
            share = number / max(results.get("episodes") or 0, 1) / len(docs)
            shares[name] = shares.get(name, 0.0) + share
    return shares


def compare(
    study: Study, rows: StudyTable, *, baseline: str | None, correction: Correction = "holm"
) -> StudyComparison:
    """The comparisons with a baseline, or of all pairs, by the test that was declared."""
    order = {arm.name: place for place, arm in enumerate(study.arms)}
    arms = sorted((row for row in rows.rows if row.values), key=lambda row: order[row.name])
    names = tuple(row.name for row in arms)
    notes = list(_notes(study, rows))
    nothing = StudyComparison(
        metric=rows.metric, arms=names, contest=None, needed=(), notes=tuple(notes)
    )
    if len(arms) < 2 or (baseline is not None and baseline not in names):
        return nothing
    bounds = (0.0, 1.0) if rows.metric in RATES else None
    if bounds and not all(0 <= value <= 1 for row in arms for value in row.values.values()):
        bounds = None
    test = study.test
    if bounds is None or test is None:
        test = deciding_test(len(study.seeds), shared_seeds=True, bounded=bounds is not None)
    found = tests.contest(
        [
            tests.Arm(name=row.name, values=_values(row), seeds=tuple(row.values))  # type: ignore[arg-type]
            for row in arms
        ],
        baseline=None if baseline is None else names.index(baseline),
        bounds=bounds,
        lower_is_better=rows.lower_is_better,
        test=test,
        correction=correction,
    )
    needed = [
        _needed(arms[pair.first], arms[pair.second], pair, found, bounded=bounds is not None)
        for pair in found.pairs
    ]
    return StudyComparison(
        metric=rows.metric, arms=names, contest=found, needed=tuple(needed), notes=tuple(notes)
    )


def _values(row: ArmRow) -> tuple[float, ...]:
    return tuple(row.values.values())


def _needed(
    one: ArmRow, other: ArmRow, pair: ArmPair, found: Contest, *, bounded: bool
) -> int | None:
    """About how many runs an arm would decide: by the spread of the differences, seed by seed."""
    if pair.winner is not None or pair not in found.shown:
        return None
    both = [one.values[seed] - other.values[seed] for seed in one.values if seed in other.values]
    if len(both) > 1 and bounded:
        sd = mean_sd(both)[1]
    else:
        spreads = [mean_sd(_values(row))[1] for row in (one, other)]
        sd = (fsum(s * s for s in spreads) / 2) ** 0.5
    return runs_to_decide(
        pair.delta,
        sd,
        len(found.pairs),
        more_than=max(pair.n, pair.m),
        shared_seeds=True,
        bounded=bounded,
    )


def _notes(study: Study, rows: StudyTable) -> Sequence[str]:
    """What is not as it was declared."""
    notes = []
    if rows.metric != study.metric:
        notes.append(f"{rows.metric} is not the metric that was declared ({study.metric})")
    counts: dict[str, int] = {}
    for status, number in chain.from_iterable(row.counts.items() for row in rows.rows):
        counts[status] = counts.get(status, 0) + number
    finished = counts.pop("completed", 0)
    if finished < study.runs:
        some = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        notes.append(f"{finished} of {study.runs} runs are finished ({some}): this is so far only")
    without = [row.name for row in rows.rows if not row.values]
    if without and finished:
        notes.append(f"no finished run has {rows.metric}: {', '.join(without)}")
    return notes
