"""Learning curves: what is estimated of the runs of a group, place by place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil, isfinite
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking.api.drawing_parts import (
    Drawing,
    Group,
    How,
    X,
    clipped,
    coinciding,
    heading,
    of_runs,
    range_of,
    shown,
    with_counts,
)
from qn_tracking.api.picture import Picture
from qn_tracking.errors import StorageError
from qn_tracking.inference import bands
from qn_tracking.inference.sample import LARGEST
from qn_tracking.records.facts import sampled
from qn_tracking.render import picture
from qn_tracking.render.picture import Line
from qn_tracking.render.text import counted
from qn_tracking.store.columns import columns
from qn_tracking.store.paths import journal, run_folder
from qn_tracking.store.series import points
from qn_tracking.studies.comparison import RATES

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

POINTS = 200
"""Of a line: more cannot be seen at the width of a column."""
SINGLE = 3_000
"""Points of all single runs together."""
ALONG = {"episode": [], "step": ["steps"], "time": ["timing.at"]}
"""What is read of each episode for its place on an axis."""


def logged(doc: Mapping[str, Any], name: str) -> bool:
    """Whether it is a series of `log`, or of resources, and no metric of the episodes."""
    metrics = (doc.get("results") or {}).get("metrics") or {}
    return name in {**(doc.get("series") or {}), **sampled(doc)} and name not in metrics


def _may_log(doc: Mapping[str, Any], name: str) -> bool:
    """The same, or not known: of a run without a record the series are not summarised yet."""
    return logged(doc, name) or (name != "success" and doc.get("ended") is None)


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
    drawing = Drawing(groups=[Group(name=name, docs=[{}]) for name in values], how=how, left_out={})
    made = [(name, [_curve(list(run), None) for run in runs]) for name, runs in values.items()]
    found = [(name, [one for one, _ in some if one]) for name, some in made]
    wrong = sum(count for _, some in made for _, count in some)
    return _drawn(drawing, [(name, some) for name, some in found if some], wrong)


def curves(
    folder: str,
    drawing: Drawing,
    progress: Callable[[int, int], None] | None = None,
    *,
    named: bool = False,
) -> Picture:
    """The learning curves of groups, from the episodes and series of their runs.

    A run whose files are damaged is left out; if it was `named`, StorageError is raised.
    """
    return _drawn(drawing, *_read(folder, drawing, progress, named=named))


def _read(
    folder: str,
    drawing: Drawing,
    progress: Callable[[int, int], None] | None,
    *,
    named: bool,
) -> tuple[list[tuple[str, list[Curve]]], int]:
    """The curves of each group that has any, and how many values are not finite."""
    import os

    how, left_out = drawing.how, drawing.left_out
    total = sum(len(group.docs) for group in drawing.groups)
    done = wrong = 0
    found = []
    for group in drawing.groups:
        curves = []
        for doc in group.docs:
            done += 1
            if progress is not None:
                progress(done, total)
            id = doc["id"]
            try:
                if not os.path.lexists(journal(folder, id)):
                    left_out[id] = "its episodes are not here"
                    continue
                values, ends = _values(folder, doc, how)
            except StorageError as error:
                if named:
                    raise
                left_out[id] = str(error)
                continue
            curve, count = _curve(values, ends[0] if ends else None)
            wrong += count
            if curve is None:
                cause = f"no finite {how.metric}" if values else "no episode"
                axis = f", or not every episode has its {X[how.x]}" if ALONG[how.x] else ""
                left_out[id] = cause + axis
            else:
                curves.append(curve)
        if curves:
            found.append((group.name, curves))
    if not found:
        raise drawing.nothing()
    return found, wrong


def _values(folder: str, doc: Mapping[str, Any], how: How) -> tuple[list[Any], list[list[Any]]]:
    """What a run has of the metric, and where on the axis, if it is not episode by episode."""
    from itertools import accumulate

    id, name = doc["id"], "success" if how.metric in RATES else how.metric
    point = points(run_folder(folder, id), (name,)) if _may_log(doc, name) else None
    if point is not None and (point["value"] or logged(doc, name)):
        return point["value"], [point["at" if how.x == "time" else how.x]]
    values, *ends = columns(folder, id, [name, *ALONG[how.x]], doc.get("phase"))
    if doc.get("phase") is not None and how.x == "episode":
        (after,) = columns(folder, id, ["after"], doc["phase"])
        if len({*after}) > 1:
            return _joined(values, after)
    if how.x == "step" and None not in ends[0]:
        ends = [list(accumulate(ends[0]))]
    return values, ends


def _joined(values: list[Any], after: list[int]) -> tuple[list[Any], list[list[Any]]]:
    """One point for the episodes of a phase between two of the main one, such as an evaluation."""
    found: dict[int, list[float]] = {}
    for place, value in zip(after, values, strict=True):
        if value is not None and abs(value) <= LARGEST:
            found.setdefault(place, []).append(value)
    return [sum(some) / len(some) for some in found.values()], [[*found]]


def _places(curves: Sequence[Curve], step: int) -> tuple[Array, list[Array]]:
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


def _drawn(drawing: Drawing, found: Sequence[tuple[str, list[Curve]]], wrong: int) -> Picture:
    import numpy as np

    how = drawing.how
    percent = how.metric in ("success", *RATES)
    has_series = any(logged(group.docs[0], how.metric) for group in drawing.groups)
    what = "values" if has_series else "episodes"
    longest = max(len(curve.ends) for _, curves in found for curve in curves)
    step = ceil(longest / POINTS)
    smooth = how.smooth or (max(1, longest // 10) if percent else 1)
    window = max(smooth, step)
    names = with_counts([(name, len(curves)) for name, curves in found])
    total = sum(len(curves) for _, curves in found)
    lines, rows, curves_of, every = [], [], [], []
    for name, (_, curves) in zip(names, found, strict=True):
        if how.phases:  # they are of different lengths
            longest = max(len(curve.ends) for curve in curves)
            step = ceil(longest / POINTS)
            window = max(how.smooth or (max(1, longest // 10) if percent else 1), step)
        x, places = _places(curves, step)
        matrix = np.array([c.at(ends, window) for c, ends in zip(curves, places, strict=True)])
        estimates = [
            bands.estimate(column[np.isfinite(column)].tolist(), how.statistic)
            if np.isfinite(column).any()
            else None
            for column in matrix.T
        ]
        every += estimates
        low = [clipped(one.low if one else None, percent) for one in estimates]
        high = [clipped(one.high if one else None, percent) for one in estimates]
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
    cut = any(len({float(c.ends[-1]) for c in curves}) > 1 for _, curves in found)
    caption = [
        f"{of_runs(sizes, how.statistic)}; {drawing.interval(every, 'band')}",
        f"each point: the mean of the last {window:,} {what}"
        if window > 1 and not how.phases
        else "",
        "a line ends with the shortest run of its group" if cut else "",
        coinciding(lines),
        "thin lines: single runs" if any(line.runs for line in lines) else "",
        f"{counted(wrong, 'value')} not finite, left out" if wrong else "",
    ]
    metric = "success rate" if percent else how.metric
    words = drawing.words(
        drawing.title(heading(metric)), caption, x=X[how.x], y=metric, percent=percent
    )
    return drawing.picture(
        picture.lines(lines, words, dark=how.dark),
        ["group", "runs", X[how.x], how.statistic, "95% interval"],
        rows,
        curves=curves_of if len(rows) == len(curves_of) or len(curves_of) <= 3 else [],
        percent=percent,
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
            shown(one.centre, percent) if one else "",
            range_of(one.low, one.high, percent) if one else "",
        ]
        for i in places
        for one in [estimates[i]]
    ]
