"""The arms of a study side by side: a row for each, and what their comparisons say.

Runs come as plain data, as the index holds them. The run is the unit: every figure is over runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from math import fsum, isfinite
from typing import Any

from attrs import evolve, frozen

from qn_tracking.errors import did_you_mean
from qn_tracking.inference import arms as tests
from qn_tracking.inference.arms import (
    SAY,
    SAYS,
    ArmPair,
    Contest,
    Decision,
    Test,
    deciding_test,
)
from qn_tracking.inference.bands import Estimate, estimate
from qn_tracking.inference.bounded import gaffke
from qn_tracking.inference.multiplicity import Correction, family
from qn_tracking.inference.planning import runs_to_decide
from qn_tracking.inference.rules import RULES
from qn_tracking.inference.sample import LARGEST, mean_sd
from qn_tracking.inference.superiority import cells
from qn_tracking.records.limits import CRASHED, FAILED, PRUNED, WHOLE
from qn_tracking.studies.comparison import COSTS, PRIMARY, RATES, lower_is_better, values_of
from qn_tracking.studies.levels import Levels, levels
from qn_tracking.studies.sentences import too_few, verdict

Doc = Mapping[str, Any]
FEW = 4
"""Of more numbers of episodes than this only the range is named; so many arms are named of each."""
MOST_CELLS = 1_000_000_000
"""Of comparisons that shuffle more numbers than this, about a minute, none is made."""


@frozen(kw_only=True)
class Side:
    """The runs of an arm, or of a group: as plain data, and how many were `declared`.

    An arm that was `added` later may have been `pruned`. A run whose episodes were read has their
    values as `columns`.
    """

    name: str
    docs: tuple[Doc, ...]
    declared: int
    added: bool = False
    pruned: bool = False


@frozen(kw_only=True)
class ArmRow:
    """What the finished runs of an arm say.

    `counts` has how many of the declared runs have which status. `values` are the metric by seed,
    or, where runs share one or have none (not `seeded`), by place. `mean` and `iqm` have their
    intervals where the runs say something of it. `means` is of every metric, `endings` the share
    of episodes that ended so. `curve` is the mean of the curves. `reached` is how many runs have a
    final success rate of the threshold or more; `levels` are where their curves level off, if
    episodes were looked at. `episodes` is how many runs have which number of episodes.
    """

    name: str
    declared: int
    counts: Mapping[str, int]
    values: Mapping[int, float]
    seeded: bool = True
    mean: Estimate | None
    iqm: Estimate | None
    means: Mapping[str, Estimate]
    endings: Mapping[str, float]
    curve: tuple[float, ...]
    curve_of: str | None
    reached: int | None = None
    levels: Levels | None = None
    added: bool = False
    episodes: Mapping[int, int]

    @property
    def finished(self) -> int:
        """How many runs are whole."""
        return sum(self.counts.get(status, 0) for status in WHOLE)


@frozen(kw_only=True)
class StudyTable:
    """The arms of a study, the best first; `order` has their names as they were declared.

    `window`: so many last episodes a final rate is of, `chosen` in words if it was chosen, and not
    the protocol's. `notes` say what was not looked at.
    """

    metric: str
    order: tuple[str, ...]
    lower_is_better: bool
    window: int | None
    rows: tuple[ArmRow, ...]
    chosen: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def endings(self) -> tuple[str, ...]:
        """How episodes of any arm ended, the most frequent first."""
        names = dict.fromkeys(name for row in self.rows for name in row.endings)
        return tuple(sorted(names, key=lambda n: -fsum(r.endings.get(n, 0) for r in self.rows)))


@frozen(kw_only=True)
class StudyComparison:
    """The comparisons that a study has asked for: the places of `contest` are those in `arms`.

    `needed` is, for each of its decisions, about how many runs an arm would decide if the
    difference is what it looks like; None for a pair that is decided or not shown, or where no
    number would do. `notes` say what is not as it was declared.
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
        decisions = zip(self.contest.decisions, self.needed, strict=True)
        needed = [number for one, number in decisions if self.contest.is_shown(one)]
        kept = list(zip(self.contest.shown, needed, strict=True))
        kept.sort(key=lambda one: (one[0].winner is None, one[0].adjusted_p or 0, -one[0].delta))
        return tuple(kept)

    def ranks(self) -> dict[str, tuple[int, int]]:
        """The rank of each arm, from 1: who is certainly better comes before it, who is certainly
        worse after it, and any other one may be either.
        """
        decided = () if self.contest is None else self.contest.decisions
        out = {}
        for place, name in enumerate(self.arms):
            mine = [
                p.winner for p in decided if p.winner is not None and place in (p.first, p.second)
            ]
            beaten = mine.count(place)
            out[name] = (1 + len(mine) - beaten, len(self.arms) - beaten)
        return out

    @property
    def summary(self) -> str:
        """All of it in one short line."""
        contest = self.contest
        if contest is None:
            return "nothing to compare"
        verb, pairs = SAYS[contest.decides], [*filter(contest.is_shown, contest.decisions)]
        if contest.baseline is not None:
            base = self.arms[contest.baseline]
            better = [
                self.arms[p.winner] for p in pairs if p.winner not in (None, contest.baseline)
            ]
            worse = sum(p.winner == contest.baseline for p in pairs)
            open_ = sum(p.winner is None for p in pairs)
            verbs = verb if len(better) == 1 else SAY[contest.decides]
            parts = [f"{', '.join(better)} {verbs} {base}"] if better else []
            parts += [f"{base} {verb} {worse} of {len(pairs)}"] if worse else []
            parts += [f"{open_} of {len(pairs)} not decided"] if open_ else []
            return "; ".join(parts)
        leader = self.arms[contest.leader]
        beaten = [p for p in pairs if p.winner == contest.leader]
        if not beaten:
            return f"not decided: {leader} has the best mean"
        if len(beaten) == len(pairs) == 1:
            other = beaten[0].second if beaten[0].first == contest.leader else beaten[0].first
            return f"{leader} {verb} {self.arms[other]}"
        some = "all" if len(beaten) == len(pairs) else f"{len(beaten)} of"
        return f"{leader} {verb} {some} {len(pairs)} others"

    @property
    def sentences(self) -> tuple[str, ...]:
        """One for each pair that is shown."""
        return tuple(self._sentence(pair, needed) for pair, needed in self.shown)

    @property
    def all_sentences(self) -> tuple[str, ...]:
        """One for each pair of the family, in the order of `contest.decisions`."""
        pairs = () if self.contest is None else self.contest.pairs
        return tuple(map(self._sentence, pairs, self.needed))

    def _sentence(self, pair: ArmPair, needed: int | None) -> str:
        assert self.contest is not None
        rate = self.metric in RATES
        return verdict(pair, self.arms, self.contest, rate=rate, needed=needed)


def table(sides: Sequence[Side], metric: str, *, lower: bool | None = None) -> StudyTable:
    """The rows of all arms, from the latest attempt at each run.

    `lower`: whether less is better, which is by default known from the metric.
    """
    if lower is None:
        lower = lower_is_better(metric)
    rows = [_row(side, metric) for side in sides]
    worst = float("inf") if lower else float("-inf")
    rows.sort(key=lambda row: (row.mean.centre if row.mean else worst) * (1 if lower else -1))
    windows = {
        (doc.get("results") or {}).get("final_window")
        for side in sides
        for doc in side.docs
        if doc["status"] in WHOLE
    } - {None}
    return StudyTable(
        metric=metric,
        order=tuple(side.name for side in sides),
        lower_is_better=lower,
        window=windows.pop() if len(windows) == 1 and metric == PRIMARY else None,
        rows=tuple(rows),
    )


def metric_of(sides: Sequence[Side], declared: str) -> str:
    """The metric that was declared; where no run has it, the reward."""
    docs = (doc for side in sides for doc in side.docs if doc.get("status") in WHOLE)
    rewarded = False
    for found in map(values_of, docs):
        if declared in found:
            return declared
        rewarded = rewarded or "reward" in found
    return "reward" if rewarded else declared


def lacking(metric: str, known: Iterable[str]) -> str:
    """Of a metric that no run has, beside those they have: that it is missing, and the nearest."""
    hint = did_you_mean(metric, set(known))
    return ", which no finished run has" + (f" ({hint})" if hint else "")


def _row(side: Side, metric: str) -> ArmRow:
    counts: dict[str, int] = {}
    for doc in side.docs:
        counts[doc["status"]] = counts.get(doc["status"], 0) + 1
    if len(side.docs) < side.declared:
        counts["missing"] = side.declared - len(side.docs)
    if side.pruned:
        whole = {status: n for status, n in counts.items() if status in WHOLE}
        counts = {**whole, PRUNED: side.declared - sum(whole.values())}
    done = [doc for doc in side.docs if doc["status"] in WHOLE]
    found = [values_of(doc) for doc in done]
    columns: dict[str, list[float]] = {}
    for one in found:
        for name, value in one.items():
            if abs(value) <= LARGEST:
                columns.setdefault(name, []).append(value)
    seeds = [doc.get("seed") for doc in done]
    seeded = None not in seeds and len(set(seeds)) == len(seeds)
    keys: Sequence[Any] = seeds if seeded else range(len(seeds))
    values = {
        key: one[metric]
        for key, one in zip(keys, found, strict=True)
        if metric in one and abs(one[metric]) <= LARGEST
    }
    curves = [_finite((doc.get("results") or {}).get("curve") or ()) for doc in done]
    return ArmRow(
        name=side.name,
        declared=side.declared,
        counts=counts,
        values=values,
        seeded=seeded,
        mean=mean_of(metric, list(values.values())) if values else None,
        iqm=estimate(list(values.values()), "iqm") if values else None,
        means={name: mean_of(name, some) for name, some in columns.items()},
        endings=_endings(done),
        curve=_mean_curve([curve for curve in curves if curve]),
        reached=_reached(done),
        added=side.added,
        episodes=_episodes(done),
        levels=levels([doc["columns"] for doc in done if "columns" in doc], metric),
        curve_of=next((doc["results"].get("curve_of") for doc in done if doc.get("results")), None),
    )


def mean_of(metric: str, values: Sequence[float]) -> Estimate:
    """The mean of a metric; the interval of a rate holds near 0 and 1, too, where Student's is far
    too narrow for few runs.
    """
    found = estimate(values)
    if metric not in RATES or not all(0 <= value <= 1 for value in values):
        return found
    interval = gaffke(values)
    return evolve(found, low=interval.low, high=interval.high)


def _reached(docs: Sequence[Doc]) -> int | None:
    """How many runs have a final rate of the threshold or more; None if it is known of none."""
    rates = [(doc.get("results") or {}).get(PRIMARY) for doc in docs]
    known = [rate for rate in rates if rate is not None]
    return sum(rate >= RULES.threshold - 1e-9 for rate in known) if known else None


def _finite(curve: Sequence[Any]) -> list[float]:
    numbers = [float(value) for value in curve]
    return numbers if all(map(isfinite, numbers)) else []


def _mean_curve(curves: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The mean at each point, of the curves that go so far."""
    points = ([v for v in some if v is not None] for some in zip_longest(*curves))
    return tuple(fsum(some) / len(some) for some in points)


def _episodes(docs: Sequence[Doc]) -> dict[int, int]:
    """How many runs have which number of episodes, where it is known."""
    known = [(doc.get("results") or {}).get("episodes") for doc in docs]
    return dict(sorted(Counter(number for number in known if number is not None).items()))


def _endings(docs: Sequence[Doc]) -> dict[str, float]:
    """The share of all episodes that ended so; the same for each run, however long it is."""
    shares: dict[str, float] = {}
    for doc in docs:
        results = doc.get("results") or {}
        for name, number in (results.get("terminations") or {}).items():
            share = number / max(results.get("episodes") or 0, 1) / len(docs)
            shares[name] = shares.get(name, 0.0) + share
    return shares


def compare(
    rows: StudyTable,
    *,
    baseline: str | None = None,
    test: Test | None = None,
    declared: str | None = None,
    correction: Correction = "holm",
    looks: int = 1,
    asked_later: bool = False,
) -> StudyComparison:
    """The comparisons with a baseline, or of all pairs, by the test that was declared.

    Without one, or for a metric that it does not fit, the test follows from the number of runs.
    Arms that were added after results could be seen are in no comparison.
    `declared` is the metric that was declared, if one was; `looks` more than 1 if runs were added.
    `asked_later`: the baseline is not what was declared.
    """
    order = {name: place for place, name in enumerate(rows.order)}
    asked = [row for row in rows.rows if row.values and not row.added]
    arms = sorted(asked, key=lambda row: order[row.name])
    names = tuple(row.name for row in arms)
    notes = tuple(_notes(rows, declared, looks, asked_later=asked_later))
    nothing = StudyComparison(metric=rows.metric, arms=names, contest=None, needed=(), notes=notes)
    if len(arms) < 2 or (baseline is not None and baseline not in names):
        return nothing
    bounds = (0.0, 1.0) if rows.metric in RATES else None
    if bounds and not all(0 <= value <= 1 for row in arms for value in row.values.values()):
        bounds = None
    if bounds is None or test is None:
        shared = all(row.seeded and row.values.keys() == arms[0].values.keys() for row in arms)
        runs = min(row.declared for row in arms)
        test = deciding_test(runs, shared_seeds=shared, bounded=bounds is not None)
    place = None if baseline is None else names.index(baseline)
    pairs = family(len(arms), place)
    values = [_values(row) for row in arms]
    if test == "brunner-munzel" and cells([(values[i], values[j]) for i, j in pairs]) > MOST_CELLS:
        cause = f"{len(pairs):,} comparisons by permutation would take too long"
        hint = "compare with one arm, by --baseline"
        return evolve(nothing, notes=(*notes, f"{cause}: {hint if place is None else 'none made'}"))
    found = tests.contest(
        [
            tests.Arm(
                name=row.name,
                values=some,  # type: ignore[arg-type]
                seeds=tuple(row.values) if row.seeded else None,
            )
            for row, some in zip(arms, values, strict=True)
        ],
        baseline=place,
        bounds=bounds,
        lower_is_better=rows.lower_is_better,
        test=test,
        correction=correction,
        looks=looks,
    )
    few = too_few(found, looks)
    needed = [
        _needed(arms[one.first], arms[one.second], one, found, bounded=bounds is not None)
        if one.winner is None and found.is_shown(one)
        else None
        for one in found.decisions
    ]
    return StudyComparison(
        metric=rows.metric,
        arms=names,
        contest=found,
        needed=tuple(needed),
        notes=notes if few is None else (*notes, few),
    )


def _values(row: ArmRow) -> tuple[float, ...]:
    return tuple(row.values.values())


def _needed(
    one: ArmRow, other: ArmRow, pair: Decision, found: Contest, *, bounded: bool
) -> int | None:
    """About how many runs an arm would decide: by the spread of the differences, seed by seed."""
    both = [one.values[seed] - other.values[seed] for seed in one.values if seed in other.values]
    shared = one.seeded and other.seeded and len(both) > 1
    if shared and bounded:
        sd = mean_sd(both)[1]
    else:
        spreads = [mean_sd(_values(row))[1] for row in (one, other)]
        sd = (fsum(s * s for s in spreads) / 2) ** 0.5
    return runs_to_decide(
        pair.delta,
        sd,
        len(found.decisions),
        more_than=max(pair.n, pair.m),
        shared_seeds=shared,
        bounded=bounded,
    )


def _alike(rows: StudyTable) -> list[list[str]]:
    """The names of arms whose runs have the same numbers, seed by seed; costs do not count.

    Runs that do not differ among each other are no sign of it: all may have succeeded.
    """
    found: dict[Any, list[str]] = {}
    for row in rows.rows:
        if row.seeded and len(set(row.values.values())) > 1:
            means = [(n, one.centre) for n, one in sorted(row.means.items()) if n not in COSTS]
            key = (tuple(sorted(row.values.items())), tuple(means), row.curve)
            found.setdefault(key, []).append(row.name)
    return [names for names in found.values() if len(names) > 1]


def _lengths(rows: StudyTable) -> Iterator[str]:
    """That runs have different numbers of episodes, and which."""
    numbers = sorted({number for row in rows.rows for number in row.episodes})
    if len(numbers) < 2:
        return

    def having(number: int) -> str:
        arms = [(row.name, row.episodes[number]) for row in rows.rows if number in row.episodes]
        some = ", ".join(f"{runs} of {name}" for name, runs in arms[:FEW])
        more = sum(runs for _, runs in arms[FEW:])
        return f"{number:,} ({some}{f', {more} of others' if more else ''})"

    said = " or ".join(map(having, numbers)) if len(numbers) <= FEW else (
        f"{numbers[0]:,} to {numbers[-1]:,}"
    )  # fmt: skip
    yield f"not all runs have the same number of episodes: {said}"


def _notes(
    rows: StudyTable, declared: str | None, looks: int, *, asked_later: bool
) -> Sequence[str]:
    """What is not as it was declared."""
    notes = []
    if asked_later:
        notes.append(
            "the baseline is not as declared: other comparisons than the study was to make"
        )
    if looks > 1:
        times = "once" if looks == 2 else f"{looks - 1} times"
        cause = "after its results could be seen"
        notes.append(f"extended {times} {cause}: every p is multiplied by {looks}")
    if declared is not None and rows.metric != declared:
        others = [name for row in rows.rows for name in row.means]
        lacks = "" if declared in others else lacking(declared, others)
        notes.append(f"{rows.metric} is not the metric that was declared ({declared}){lacks}")
    counts: dict[str, int] = {}
    for status, number in chain.from_iterable(row.counts.items() for row in rows.rows):
        counts[status] = counts.get(status, 0) + number
    finished = sum(counts.pop(status, 0) for status in WHOLE)
    runs = sum(row.declared for row in rows.rows) - counts.pop(PRUNED, 0)
    if finished < runs:
        some = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        notes.append(f"{finished} of {runs} runs are finished ({some}): this is so far only")
        if counts.keys() & {FAILED, CRASHED}:
            notes.append("what failed is in no figure, and need not have failed by chance")
    notes += _lengths(rows)
    if added := [row.name for row in rows.rows if row.added]:
        cause = "added after results could be seen, and so in no comparison"
        notes.append(f"{cause}: {', '.join(added)}; a new study with other seeds can compare them")
    if pruned := [row for row in rows.rows if PRUNED in row.counts]:
        some = ", ".join(f"{row.name} ({row.finished} of {row.declared} runs)" for row in pruned)
        notes.append(f"pruned: {some}")
    without = [row.name for row in rows.rows if not row.values]
    if without and finished:
        known = {name for row in rows.rows for name in row.means} - {rows.metric}
        hint = did_you_mean(rows.metric, known) if len(without) == len(rows.rows) else None
        more = f" ({hint})" if hint else ""
        notes.append(f"no finished run has {rows.metric}: {', '.join(without)}{more}")
    if same := _alike(rows):
        cause = "in every run, so perhaps what they differ in has no effect"
        notes.append(f"the same numbers {cause}: {'; '.join(map(', '.join, same))}")
    if partly := [row for row in rows.rows if 0 < len(row.values) < row.finished]:
        some = ", ".join(
            f"{row.name} ({row.finished - len(row.values)} of {row.finished})" for row in partly
        )
        notes.append(f"finished runs without {rows.metric}, or not finite, in no figure: {some}")
    return notes
