"""From runs to pictures: groups of runs, what is estimated of each, and the words that say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import ceil, isfinite
from statistics import median
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking.api.picture import Picture
from qn_tracking.errors import UsageError, printable
from qn_tracking.inference import bands
from qn_tracking.inference.pair import probability_of_improvement
from qn_tracking.inference.sample import LARGEST, mean_sd
from qn_tracking.records.limits import WHOLE
from qn_tracking.render import picture
from qn_tracking.render.picture import Line, Row, Words
from qn_tracking.render.text import counted
from qn_tracking.store import documents
from qn_tracking.store.columns import columns
from qn_tracking.store.fields import label_key
from qn_tracking.store.groups import Grouping
from qn_tracking.store.paths import run_folder
from qn_tracking.store.series import points
from qn_tracking.store.transfer import journal
from qn_tracking.studies.comparison import (
    PRIMARY,
    RATES,
    leaves,
    letters,
    of_phase,
    several_runs,
    values_of,
)
from qn_tracking.studies.groups import repeats, split

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]
    Doc = dict[str, Any]

MAIN = "main"
"""What the main phase is called where phases are named."""
POINTS = 200
"""Of a line: more cannot be seen at the width of a column."""
SINGLE = 20_000
"""Points of all single runs together."""
PAIRS = 10
"""Of more groups than this not every pair is shown."""
SHORT_NAME = 18
"""Characters of a name that a pair of names has space for; longer ones get letters."""
KINDS_OF_ENDING = 6
"""The most frequent ones; the others are one."""

X = {"episode": "episode", "step": "steps", "time": "seconds"}
INTERVALS = {"mean": "95% t-interval of the mean", "iqm": "95% interval of Yuen"}


@frozen(kw_only=True)
class Group:
    """Runs that share a value, as plain data."""

    name: str
    docs: Sequence[Mapping[str, Any]]


@frozen(kw_only=True)
class How:
    """What is to be drawn."""

    metric: str = "success"
    by: str = "config"
    kind: str = "curve"
    x: str = "episode"
    statistic: str = "mean"
    smooth: int | None = None
    runs: bool = False
    dark: bool = False
    phases: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        known = (("kind", [*KINDS]), ("x", [*X]), ("statistic", [*bands.STATISTICS]))
        for name, values in known:
            value = getattr(self, name)
            if value not in values:
                hint = f"known: {', '.join(values)}"
                raise UsageError(f"unknown {name} {value!r}", file=f"--{name}", hint=hint)
        if self.smooth is not None and (type(self.smooth) is not int or self.smooth < 1):
            raise UsageError(
                f"expected a whole number from 1, got {self.smooth!r}", file="--smooth"
            )


def plot(
    folder: str,
    docs: Sequence[Doc],
    how: How,
    *,
    named: bool,
    progress: Callable[[int, int], None] | None = None,
) -> Picture:
    """The picture of these experiments; `named` ones are drawn whatever their status is."""
    grouping = Grouping(how.by)
    # In one order, however they were chosen.
    docs = sorted(map(documents.with_labels, docs), key=lambda doc: (doc["started"], doc["id"]))
    if not docs:
        raise UsageError("no matching experiments", hint="qn-exp list lists them")
    left_out: dict[str, str] = {}
    kept = []
    for doc in docs:
        if several_runs(doc):
            left_out[doc["id"]] = "several runs in one record"
        elif not named and how.kind != "endings" and doc.get("status") not in WHOLE:
            left_out[doc["id"]] = f"{doc.get('status')}, not a whole run"
        else:
            kept.append(doc)
    keys = [grouping.key_of(doc) for doc in kept]
    groups = []
    for places in split(map(repr, keys)):
        members = [kept[i] for i in places]
        again = {members[i]["id"] for i in repeats(members)}
        left_out.update(dict.fromkeys(again, "repeats a run: same configuration and seed"))
        label = (members[0].get("config") or {}).get("label")
        name = grouping.label(keys[places[0]], label)
        groups.append(Group(name=name, docs=[doc for doc in members if doc["id"] not in again]))
    if how.by == "config":
        groups = renamed(groups)
    return of_groups(folder, groups, how, left_out, progress=progress)


def of_groups(
    folder: str,
    groups: Sequence[Group],
    how: How,
    left_out: dict[str, str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Picture:
    """The picture of groups that have their names; gets the reasons why runs are `left_out`."""
    if how.phases:
        groups = [one for group in groups for one in _by_phase(group, how.phases, left_out)]
    if not groups:
        raise UsageError(f"no run to draw: {_reasons(left_out)}")
    return KINDS[how.kind](partial(_read, folder, progress), groups, how, left_out)


def _by_phase(group: Group, phases: Sequence[str], left_out: dict[str, str]) -> Iterator[Group]:
    """The runs of a group, once for each of the phases that they have."""
    for phase in phases:
        docs = []
        for doc in group.docs:
            if phase in (doc.get("phases") or {}):
                docs.append(of_phase(dict(doc), phase))
            elif phase == MAIN:
                docs.append(dict(doc))
            else:
                left_out[doc["id"]] = f"no phase {phase}"
        if docs:
            yield Group(
                name=group.name if len(phases) == 1 else f"{group.name}, {phase}", docs=docs
            )


def renamed(groups: Sequence[Group]) -> list[Group]:
    """By the names of the files, or by the few settings in which the configurations differ."""
    configs = [group.docs[0].get("config") or {} for group in groups]
    files = [label_key(str(one.get("label") or "")) for one in configs]
    settings = [leaves(one.get("data") or {}) for one in configs]
    fields = dict.fromkeys(name for one in settings for name in one)
    differing = {
        name: name.rpartition(".")[2]
        for name in fields
        if len({repr(one.get(name)) for one in settings}) > 1
    }
    shown = [
        ", ".join(f"{short}={one.get(name)}" for name, short in differing.items())
        for one in settings
    ]
    choices = [files, shown if len(differing) <= 2 else []]
    for names in choices:
        if len({*names}) == len(groups) and all(names):
            return [Group(name=n, docs=group.docs) for n, group in zip(names, groups, strict=True)]
    return list(groups)


# ------------------------------------------------------------------------------------------ curves


@frozen(kw_only=True)
class Curve:
    """A run: where each episode ends on the axis, and running sums of its finite values."""

    ends: Array
    sums: Array
    counts: Array
    scale: float

    def at(self, ends: Array, window: int) -> Array:
        """The mean of the last episodes at these places, counted from 1; NaN if none has any."""
        import numpy as np

        starts = np.maximum(ends - window, 0)
        sums, counts = self.sums[ends] - self.sums[starts], self.counts[ends] - self.counts[starts]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(sums / counts * self.scale, dtype=np.float64)


def _curve(values: list[Any], ends: list[Any] | None) -> tuple[Curve | None, int]:
    """A run, or None if nothing of it can be drawn, and how many values are not finite."""
    import numpy as np

    numbers = np.array(values, dtype=np.float64)
    finite = np.abs(numbers) <= LARGEST
    wrong = sum(v is not None for v in values) - int(finite.sum())
    if not finite.any():
        return None, wrong
    if ends is None:
        places = np.arange(1, len(numbers) + 1, dtype=np.float64)
    else:
        places = np.array(ends, dtype=np.float64)
        if not np.isfinite(places).all():
            return None, wrong
    # No sum overflows.
    scale = float(np.abs(numbers[finite]).max()) or 1.0
    sums = np.cumsum(np.where(finite, numbers / scale, 0.0))
    counts = np.cumsum(finite)
    curve = Curve(
        ends=places,
        sums=np.concatenate(([0.0], sums)),
        counts=np.concatenate(([0], counts)),
        scale=scale,
    )
    return curve, wrong


def from_values(values: Mapping[str, Sequence[Sequence[Any]]], how: How) -> Picture:
    """A curve for each name, from the values of the episodes of its runs."""
    groups = [Group(name=name, docs=[{}]) for name in values]

    def read(*_: Any) -> tuple[list[tuple[str, list[Curve]]], int]:
        made = [(name, [_curve(list(run), None) for run in runs]) for name, runs in values.items()]
        found = [(name, [one for one, _ in some if one]) for name, some in made]
        wrong = sum(count for _, some in made for _, count in some)
        return [(name, some) for name, some in found if some], wrong

    return _draw_curves(read, groups, how, {})


def _read(
    folder: str,
    progress: Callable[[int, int], None] | None,
    groups: Sequence[Group],
    how: How,
    left_out: dict[str, str],
) -> tuple[list[tuple[str, list[Curve]]], int]:
    """The curves of each group that has any, and how many values are not finite."""
    import os
    from itertools import accumulate

    along = {"episode": [], "step": ["steps"], "time": ["timing.at"]}[how.x]
    name = "success" if how.metric in RATES else how.metric
    total = sum(len(group.docs) for group in groups)
    done = wrong = 0
    found = []
    for group in groups:
        curves = []
        for doc in group.docs:
            done += 1
            if progress is not None:
                progress(done, total)
            id = doc["id"]
            if not os.path.lexists(journal(folder, id)):
                left_out[id] = "its episodes are not here"
                continue
            if _logged(doc, name):
                point = points(run_folder(folder, id), (name,))
                values, ends = point["value"], [point["at" if how.x == "time" else how.x]]
            else:
                values, *ends = columns(folder, id, [name, *along], doc.get("phase"))
                if doc.get("phase") is not None and how.x == "episode":
                    (after,) = columns(folder, id, ["after"], doc["phase"])
                    if len({*after}) > 1:
                        values, ends = _joined(values, after)
                if how.x == "step" and None not in ends[0]:
                    ends = [list(accumulate(ends[0]))]
            curve, count = _curve(values, ends[0] if ends else None)
            wrong += count
            if curve is None:
                cause = f"no finite {how.metric}"
                axis = f", or not every episode has its {X[how.x]}" if along else ""
                left_out[id] = cause + axis
            else:
                curves.append(curve)
        if curves:
            found.append((group.name, curves))
    if not found:
        raise UsageError(f"no run to draw: {_reasons(left_out)}", hint=_known(groups))
    return found, wrong


def _joined(values: list[Any], after: list[int]) -> tuple[list[Any], list[list[Any]]]:
    """One point for the episodes of a phase between two of the main one, such as an evaluation."""
    found: dict[int, list[float]] = {}
    for place, value in zip(after, values, strict=True):
        if value is not None and abs(value) <= LARGEST:
            found.setdefault(place, []).append(value)
    return [sum(some) / len(some) for some in found.values()], [[*found]]


def _logged(doc: Mapping[str, Any], name: str) -> bool:
    """Whether it is a series of `log`, and no metric of the episodes."""
    metrics = (doc.get("results") or {}).get("metrics") or {}
    return name in (doc.get("series") or {}) and name not in metrics


def _known(groups: Sequence[Group]) -> str:
    """The metrics that there are."""
    names: dict[str, None] = {}
    for group in groups:
        results = group.docs[0].get("results") or {}
        rate = {} if results.get("success_rate") is None else {"success": None}
        names |= {**rate, **dict.fromkeys(results.get("metrics") or {})}
        names |= dict.fromkeys(group.docs[0].get("series") or {})
    return f"metrics: {', '.join(list(names)[:12])}" if names else "qn-exp show ID shows a run"


def _places(curves: Sequence[Curve], step: int, how: How) -> tuple[Array, list[Array]]:
    """Where a group's line has its points, and after how many episodes of each run they are."""
    import numpy as np

    shortest = min(len(curve.ends) for curve in curves)
    if all(curve.ends[-1] == len(curve.ends) and curve.ends[0] == 1 for curve in curves):
        ends = np.arange(step, shortest + 1, step)
        if not len(ends) or ends[-1] != shortest:
            ends = np.append(ends, shortest)
        return ends.astype(np.float64), [ends] * len(curves)
    first = max(float(curve.ends[0]) for curve in curves)
    last = min(float(curve.ends[-1]) for curve in curves)
    grid = np.linspace(first, last, min(POINTS, max(2, shortest))) if last > first else [last]
    x = np.array(grid, dtype=np.float64)
    return x, [np.maximum(np.searchsorted(c.ends, x, side="right"), 1) for c in curves]


def _draw_curves(
    read: Callable[..., Any], groups: Sequence[Group], how: How, left_out: dict[str, str]
) -> Picture:
    import numpy as np

    found, wrong = read(groups, how, left_out)
    percent = how.metric in ("success", *RATES)
    what = "values" if any(_logged(group.docs[0], how.metric) for group in groups) else "episodes"
    longest = max(len(curve.ends) for _, curves in found for curve in curves)
    step = ceil(longest / POINTS)
    smooth = how.smooth or (max(1, longest // 10) if percent else 1)
    window = max(smooth, step)
    names = _with_counts([(name, len(curves)) for name, curves in found])
    total = sum(len(curves) for _, curves in found)
    lines, rows, curves_of = [], [], []
    for name, (_, curves) in zip(names, found, strict=True):
        if how.phases:  # they are of different lengths
            longest = max(len(curve.ends) for curve in curves)
            step = ceil(longest / POINTS)
            window = max(how.smooth or (max(1, longest // 10) if percent else 1), step)
        x, places = _places(curves, step, how)
        matrix = np.array([c.at(ends, window) for c, ends in zip(curves, places, strict=True)])
        estimates = [
            bands.estimate(column[np.isfinite(column)].tolist(), how.statistic)
            if np.isfinite(column).any()
            else None
            for column in matrix.T
        ]
        low = [_clipped(one.low if one else None, percent) for one in estimates]
        high = [_clipped(one.high if one else None, percent) for one in estimates]
        y = [one.centre if one else None for one in estimates]
        single = []
        if how.runs and len(curves) > 1:
            few = max(2, min(POINTS, SINGLE // total))
            for curve in curves:
                ends = np.unique(np.linspace(1, len(curve.ends), few).round().astype(int))
                values = [v if isfinite(v) else None for v in curve.at(ends, window).tolist()]
                single.append((curve.ends[ends - 1].tolist(), values))
        lines.append(Line(name=name, x=x.tolist(), y=y, low=low, high=high, runs=single))
        curves_of.append((name, [float("nan") if v is None else v for v in y]))
        last = max((i for i, one in enumerate(estimates) if one), default=0)
        rows += _table_rows(name, len(curves), x, estimates, last, percent, many=len(found) > 6)
    sizes = [len(curves) for _, curves in found]
    banded = any(value is not None for line in lines for value in line.low)
    cut = any(len({float(c.ends[-1]) for c in curves}) > 1 for _, curves in found)
    caption = [
        f"{_of_runs(sizes, how.statistic)}; {_interval(sizes, how, banded, 'band')}",
        f"each point: the mean of the last {window:,} {what}"
        if window > 1 and not how.phases
        else "",
        "a line ends with the shortest run of its group" if cut else "",
        "thin lines: single runs" if any(line.runs for line in lines) else "",
        f"{counted(wrong, 'value')} not finite, left out" if wrong else "",
        _left_out(left_out),
    ]
    words = Words(
        title=_title("success rate" if percent else how.metric, groups, how),
        caption=_sentence(caption),
        x=X[how.x],
        y="success rate" if percent else how.metric,
        percent=percent,
    )
    return Picture(
        picture.lines(lines, words, dark=how.dark),
        ["group", "runs", X[how.x], how.statistic, "95% interval"],
        rows,
        curves=curves_of if len(rows) == len(curves_of) or len(curves_of) <= 3 else [],
        percent=percent,
        left_out=left_out,
    )


def _table_rows(
    name: str,
    runs: int,
    x: Array,
    estimates: Sequence[bands.Estimate | None],
    last: int,
    percent: bool,
    *,
    many: bool,
) -> list[list[str]]:
    """Of a curve: five places of it, or of many curves the last one."""
    places = [last] if many else sorted({last * i // 4 for i in range(5)})
    return [
        [
            name,
            str(runs),
            f"{x[i]:.4g}" if x[i] % 1 else f"{x[i]:,.0f}",
            _shown(one.centre, percent) if one else "",
            _range(one.low, one.high, percent) if one else "",
        ]
        for i in places
        for one in [estimates[i]]
    ]


# ------------------------------------------------------------------------------ one value for a run


def _values(
    groups: Sequence[Group], how: How, left_out: dict[str, str]
) -> list[tuple[str, list[float]]]:
    """The metric of each run, by group; runs without it, or not finite, are left out."""
    metric = PRIMARY if how.metric == "success" else how.metric
    found = []
    for group in groups:
        values = []
        for doc in group.docs:
            value = values_of(doc).get(metric)
            if value is None:
                left_out[doc["id"]] = f"has no {metric}"
            elif not abs(value) <= LARGEST:
                left_out[doc["id"]] = f"its {metric} is not finite"
            else:
                values.append(value)
        if values:
            found.append((group.name, values))
    if not found:
        raise UsageError(f"no run to draw: {_reasons(left_out)}", hint=_known(groups))
    return found


def _draw_final(
    read: Callable[..., Any], groups: Sequence[Group], how: How, left_out: dict[str, str]
) -> Picture:
    found = _values(groups, how, left_out)
    metric, percent = _metric(how)
    names = _with_counts([(name, len(values)) for name, values in found])
    rows, table = [], []
    for name, (_, values) in zip(names, found, strict=True):
        one = bands.estimate(values, how.statistic)
        low, high = _clipped(one.low, percent), _clipped(one.high, percent)
        points = values if len(values) > 1 else []
        rows.append(Row(name=name, value=one.centre, low=low, high=high, points=points))
        interval = _range(low, high, percent)
        table.append([name, str(one.n), _shown(one.centre, percent), interval])
    sizes = [len(values) for _, values in found]
    banded = any(row.low is not None for row in rows)
    caption = [
        f"dot: {_of_runs(sizes, how.statistic).lower()}; {_interval(sizes, how, banded, 'line')}",
        "ticks: single runs" if max(sizes) > 1 else "",
        _left_out(left_out),
    ]
    words = Words(
        title=_title(metric, groups, how), caption=_sentence(caption), x=metric, percent=percent
    )
    spec = picture.rows(rows, words, dark=how.dark)
    titles = ["group", "runs", how.statistic, "95% interval"]
    return Picture(spec, titles, table, percent=percent, left_out=left_out)


def _draw_profile(
    read: Callable[..., Any], groups: Sequence[Group], how: How, left_out: dict[str, str]
) -> Picture:
    found = _values(groups, how, left_out)
    metric, percent = _metric(how)
    names = _with_counts([(name, len(values)) for name, values in found])
    known = sorted({value for _, values in found for value in values})
    if len(known) > POINTS:
        known = [known[i * (len(known) - 1) // (POINTS - 1)] for i in range(POINTS)]
    margin = (known[-1] - known[0]) / 50 or abs(known[0]) / 50 or 0.5
    ends = (0.0, 1.0) if percent else (known[0] - margin, known[-1] + margin)
    places = sorted({*known, *ends})
    even = [ends[0] + (ends[1] - ends[0]) * i / 60 for i in range(61)]
    lines, table, curves = [], [], []
    for name, (_, values) in zip(names, found, strict=True):
        shares = bands.profile(values, places)
        y: list[float | None] = [one.share for one in shares]
        band = len(values) > 1
        low = [one.low for one in shares] if band else []
        high = [one.high for one in shares] if band else []
        lines.append(Line(name=name, x=places, y=y, low=low, high=high))
        curves.append((name, [one.share for one in bands.profile(values, even)]))
        table.append([name, str(len(values)), _shown(median(values), percent)])
    words = Words(
        title=_title(f"performance profile of {metric}", groups, how),
        caption=_sentence(
            [
                f"share of the runs that are above a value; {_sizes([len(v) for _, v in found])}",
                "band: Wilson's 95% interval over runs, pointwise",
                _left_out(left_out),
            ]
        ),
        x=metric,
        y="share of runs above",
        percent=True,
        percent_x=percent,
    )
    spec = picture.lines(lines, words, dark=how.dark, steps=True)
    titles = ["group", "runs", "median"]
    return Picture(spec, titles, table, curves=curves, percent=True, left_out=left_out)


def _draw_improvement(
    read: Callable[..., Any], groups: Sequence[Group], how: How, left_out: dict[str, str]
) -> Picture:
    found = _values(groups, how, left_out)
    metric, _ = _metric(how)
    if len(found) < 2:
        cause = f"one group to compare: all have the same {how.by}"
        raise UsageError(cause, hint="--by takes another field")
    names = _with_counts([(name, len(values)) for name, values in found])
    pairs = [(i, j) for i in range(len(found)) for j in range(i + 1, len(found))]
    key = ""
    short = names
    if len(found) > PAIRS:
        best = max(range(len(found)), key=lambda i: mean_sd(found[i][1])[0])
        pairs = [(best, j) for j in range(len(found)) if j != best]
        short = ["A" if i == best else name for i, name in enumerate(names)]
        key = f"A: {names[best]}, picked for its highest mean, so it looks too good"
    elif max(map(len, names)) > SHORT_NAME:
        short = [letters([i]) for i in range(len(names))]
        key = ", ".join(f"{one}: {name}" for one, name in zip(short, names, strict=True))
    rows, table = [], []
    for i, j in pairs:
        x, y = found[i][1], found[j][1]
        share = probability_of_improvement(x, y)
        low, high = bands.improvement_interval(share, len(x), len(y))
        name = f"{short[i]} > {short[j]}"
        rows.append(Row(name=name, value=share, low=low, high=high))
        table.append([name, _shown(share, True), _range(low, high, True)])
    caption = [
        f"how often a run of the first group has a higher {metric} than one of the second"
        " (ties half)",
        f"{_sizes([len(values) for _, values in found])}; line: Newcombe's 95% interval over runs",
        key,
        _left_out(left_out),
    ]
    words = Words(
        title=_title("probability of improvement", groups, how),
        caption=_sentence(caption),
        x=f"P(higher {metric})",
        percent=True,
    )
    spec = picture.rows(rows, words, dark=how.dark, middle=0.5)
    return Picture(spec, ["pair", "probability", "95% interval"], table, left_out=left_out)


def _draw_endings(
    read: Callable[..., Any], groups: Sequence[Group], how: How, left_out: dict[str, str]
) -> Picture:
    found: list[tuple[str, int, Counter[str]]] = []
    for group in groups:
        counts: Counter[str] = Counter()
        runs = 0
        for doc in group.docs:
            ends = (doc.get("results") or {}).get("terminations") or {}
            if ends:
                counts.update(ends)
                runs += 1
            else:
                left_out[doc["id"]] = "does not say how its episodes ended"
        if counts:
            found.append((group.name, runs, counts))
    if not found:
        raise UsageError(f"no run to draw: {_reasons(left_out)}")
    whole = sum((counts for _, _, counts in found), Counter())
    kinds = sorted(whole, key=lambda kind: (-whole[kind], kind))
    names = picture.distinct(_with_counts([(name, runs) for name, runs, _ in found]))
    shares, table = {}, []
    for name, (_, runs, counts) in zip(names, found, strict=True):
        total = sum(counts.values())
        shown = {kind: counts[kind] / total for kind in kinds[:KINDS_OF_ENDING]}
        if len(kinds) > KINDS_OF_ENDING:
            shown["others"] = sum(counts[kind] for kind in kinds[KINDS_OF_ENDING:]) / total
        shares[name] = shown
        table.append([name, str(runs), f"{total:,}", *(_shown(v, True) for v in shown.values())])
    caption = [
        f"how the episodes ended; {_sizes([runs for _, runs, _ in found])}, all their episodes",
        _left_out(left_out),
    ]
    words = Words(
        title=_title("endings", groups, how),
        caption=_sentence(caption),
        x="share of episodes",
        percent=True,
    )
    titles = ["group", "runs", "episodes", *map(printable, next(iter(shares.values())))]
    spec = picture.stacked(shares, words, dark=how.dark)
    return Picture(spec, titles, table, left_out=left_out)


KINDS: dict[str, Callable[..., Picture]] = {
    "curve": _draw_curves,
    "final": _draw_final,
    "profile": _draw_profile,
    "improvement": _draw_improvement,
    "endings": _draw_endings,
}
"""What can be drawn, by name."""


# ------------------------------------------------------------------------------------------- words


def _metric(how: How) -> tuple[str, bool]:
    """What the metric of a whole run is called, and whether it is a share."""
    metric = PRIMARY if how.metric == "success" else how.metric
    return metric.replace("_", " ") if metric in RATES else metric, metric in RATES


def _title(what: str, groups: Sequence[Group], how: How) -> str:
    what = what[:1].upper() + what[1:]
    if len(how.phases) == 1 and how.phases[0] != MAIN:
        what = f"{what} in {printable(how.phases[0])}"
    if len(groups) == 1:
        return f"{what}, {groups[0].name}"
    return f"{what} by {'configuration' if how.by == 'config' else how.by}"


def _with_counts(sized: Sequence[tuple[str, int]]) -> list[str]:
    """The names, with how many runs each has if they have not all the same."""
    same = len({count for _, count in sized}) == 1
    return [printable(name) if same else f"{printable(name)} (n = {n})" for name, n in sized]


def _sizes(sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    each = " each" if len(sizes) > 1 else ""
    return f"{counted(low, 'run')}{each}" if low == high else f"{low} to {high:,} runs each"


def _of_runs(sizes: Sequence[int], statistic: str) -> str:
    if max(sizes) == 1:
        return "One run" if len(sizes) == 1 else "One run each"
    same = statistic == "iqm" and max(sizes) < 4
    name = "Interquartile mean (below 4 runs the mean)" if same else bands.STATISTICS[statistic]
    return f"{name[:1].upper()}{name[1:]} of {_sizes(sizes)}"


def _interval(sizes: Sequence[int], how: How, banded: bool, what: str) -> str:
    if max(sizes) == 1:
        return "no interval: it takes several runs"
    if not banded:
        return "no interval: the runs do not differ"
    pointwise = ", pointwise" if what == "band" else ""
    return f"{what}: {INTERVALS[how.statistic]} over runs{pointwise}"


def _left_out(left_out: dict[str, str]) -> str:
    return f"left out: {_reasons(left_out)}" if left_out else ""


def _reasons(left_out: dict[str, str]) -> str:
    causes = Counter(left_out.values())
    return ", ".join(f"{counted(n, 'run')} ({cause})" for cause, n in causes.items()) or "none"


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(part for part in parts if part)
    return f"{text[:1].upper()}{text[1:]}."


def _clipped(value: float | None, percent: bool) -> float | None:
    """What of it a share can reach."""
    return value if value is None or not percent else min(max(value, 0.0), 1.0)


def _shown(value: float, percent: bool) -> str:
    return f"{value:.1%}" if percent else f"{value:.4g}"


def _range(low: float | None, high: float | None, percent: bool) -> str:
    if low is None or high is None:
        return "–"
    low, high = _clipped(low, percent) or 0.0, _clipped(high, percent) or 0.0
    return f"{_shown(low, percent)} to {_shown(high, percent)}"
