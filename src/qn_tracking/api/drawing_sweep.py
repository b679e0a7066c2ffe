"""Pictures of a result against what it cost, and over the settings that were swept."""

from __future__ import annotations

from typing import Any

from qn_tracking.api.drawing_parts import (
    Drawing,
    X,
    clipped,
    heading,
    of_runs,
    range_of,
    shown,
    sizes_of,
    with_counts,
)
from qn_tracking.api.picture import Picture
from qn_tracking.errors import UsageError, printable
from qn_tracking.inference import bands
from qn_tracking.inference.sample import LARGEST, mean_sd
from qn_tracking.render import picture
from qn_tracking.render.picture import Axis, Cell, Place, Trace
from qn_tracking.render.text import counted
from qn_tracking.studies.comparison import leaves

COSTS = {"episode": "episodes of a run", "step": "steps of a run", "time": "seconds of a run"}
CELLS = 40
"""Columns, and rows, of a heat map."""
AXES, TRACES = 8, 1_000
"""Settings, and configurations, of parallel coordinates."""
WIDE = 20.0
"""Costs that differ by more than this factor are spread by their logarithm."""


def draw_cost(drawing: Drawing) -> Picture:
    """The metric against what the runs cost, along `x`: episodes, steps or seconds."""
    metric, percent = drawing.metric, drawing.percent
    found: list[tuple[str, list[tuple[float, float]]]] = []
    for group in drawing.groups:
        pairs = []
        for doc in group.docs:
            cost, value = _cost(doc, drawing.how.x), drawing.value(doc)
            if cost is None or not cost > 0:
                drawing.left_out.setdefault(doc["id"], f"does not say its {X[drawing.how.x]}")
            elif value is not None:
                pairs.append((cost, value))
        if pairs:
            found.append((group.name, pairs))
    if not found:
        raise drawing.nothing()
    names = with_counts([(name, len(pairs)) for name, pairs in found])
    places, table, every = [], [], []
    for name, (_, pairs) in zip(names, found, strict=True):
        one = drawing.estimate([value for _, value in pairs])
        every.append(one)
        cost, _ = mean_sd([cost for cost, _ in pairs])
        low, high = clipped(one.low, percent), clipped(one.high, percent)
        points = pairs if len(pairs) > 1 else ()
        places.append(Place(name=name, x=cost, y=one.centre, low=low, high=high, points=points))
        interval = range_of(one.low, one.high, percent)
        table.append([name, str(one.n), f"{cost:,.4g}", shown(one.centre, percent), interval])
    costs = [cost for _, pairs in found for cost, _ in pairs]
    log = max(costs) > WIDE * min(costs)
    sizes = [len(pairs) for _, pairs in found]
    caption = [
        f"dot: {of_runs(sizes, drawing.how.statistic).lower()}, at its"
        f" {'mean ' if max(sizes) > 1 else ''}cost;"
        f" {drawing.interval(every, 'line')}",
        "small dots: single runs" if max(sizes) > 1 else "",
        "costs on a logarithmic axis" if log else "",
    ]
    words = drawing.words(
        drawing.title(f"{heading(metric)} against cost"),
        caption,
        x=COSTS[drawing.how.x],
        y=metric,
        percent=percent,
    )
    spec = picture.scatter(places, words, dark=drawing.how.dark, log=log)
    titles = ["group", "runs", COSTS[drawing.how.x], drawing.how.statistic, "95% interval"]
    return drawing.picture(spec, titles, table, percent=percent)


def _cost(doc: Any, x: str) -> float | None:
    results = doc.get("results") or {}
    value = {
        "episode": results.get("episodes"),
        "step": results.get("total_steps"),
        "time": doc.get("wall_seconds"),
    }[x]
    return float(value) if isinstance(value, (int, float)) and value <= LARGEST else None


def draw_heat(drawing: Drawing) -> Picture:
    """The mean of the metric over the settings in which the configurations differ.

    The setting with the most values is the columns; the others together are the rows.
    """
    metric, percent = drawing.metric, drawing.percent
    measured, settings, values = _swept(drawing)
    if len(values) < 2:
        differ = f"one setting differs, {next(iter(values))}" if values else "no setting differs"
        raise UsageError(f"a heat map takes two settings: {differ}", hint="--kind final draws it")
    first = max(values, key=lambda name: len(values[name]))
    others = [name for name in values if name != first]
    found: dict[tuple[str, str], list[float]] = {}
    ranks: dict[str, list[int]] = {}
    for one, value in zip(settings, measured, strict=True):
        parts = [f"{name.rpartition('.')[2]}={one.get(name)}" for name in others]
        row = ", ".join(parts)
        ranks[row] = [values[name].index(one.get(name)) for name in others]
        found.setdefault((str(one.get(first)), row), []).append(value)
    columns, rows = list(map(str, values[first])), sorted(ranks, key=lambda row: ranks[row])
    if max(len(columns), len(rows)) > CELLS:
        size = f"{len(columns)} columns and {len(rows)} rows"
        hint = f"at most {CELLS} of each; --where takes some of the runs"
        raise UsageError(f"a heat map of {size}", hint=hint)
    cells, table = [], []
    for row in rows:
        for column in columns:
            if some_values := found.get((column, row)):
                mean = drawing.estimate(some_values)
                cells.append(Cell(column=column, row=row, value=mean.centre))
                interval = range_of(mean.low, mean.high, percent)
                table.append([row, column, str(mean.n), shown(mean.centre, percent), interval])
    sizes = [len(some) for some in found.values()]
    caption = [
        f"cell: {bands.STATISTICS[drawing.how.statistic]} of {sizes_of(sizes)}, without its"
        " interval",
        f"{counted(len(columns) * len(rows) - len(found), 'cell')} without a run left empty"
        if len(found) < len(columns) * len(rows)
        else "",
    ]
    words = drawing.words(
        f"{heading(metric)} over the settings that differ",
        caption,
        x=first,
        y=metric,
        percent=percent,
    )
    spec = picture.cells(cells, columns, rows, words, dark=drawing.how.dark)
    titles = [", ".join(others), first, "runs", drawing.how.statistic, "95% interval"]
    return drawing.picture(spec, list(map(printable, titles)), table, percent=percent)


def draw_parallel(drawing: Drawing) -> Picture:
    """A line for each configuration, through the settings that differ to its metric."""
    metric, percent = drawing.metric, drawing.percent
    measured, settings, values = _swept(drawing)
    if not values:
        cause = "parallel coordinates take a setting that differs: none does"
        raise UsageError(cause, hint="--kind final draws it")
    found: dict[tuple[int, ...], list[float]] = {}
    places = {name: {repr(one): i for i, one in enumerate(some)} for name, some in values.items()}
    for one, value in zip(settings, measured, strict=True):
        key = tuple(places[name][repr(one.get(name))] for name in values)
        found.setdefault(key, []).append(value)
    if len(values) > AXES or len(found) > TRACES:
        size = f"{counted(len(values), 'setting')} and {counted(len(found), 'configuration')}"
        hint = f"at most {AXES} and {TRACES:,}; --where takes some of the runs"
        raise UsageError(f"parallel coordinates of {size}", hint=hint)
    axes = [Axis(name=name, labels=list(map(_said, some))) for name, some in values.items()]
    traces, table = [], []
    for key in sorted(found):
        mean = drawing.estimate(found[key])
        traces.append(Trace(places=key, value=mean.centre))
        names = [axis.labels[i] for axis, i in zip(axes, key, strict=True)]
        interval = range_of(mean.low, mean.high, percent)
        table.append([*names, str(mean.n), shown(mean.centre, percent), interval])
    sizes = [len(some) for some in found.values()]
    caption = [
        f"line: {bands.STATISTICS[drawing.how.statistic]} of {sizes_of(sizes)}, without its"
        " interval, through the settings of its configuration",
        "the values of a setting are in their order, evenly apart",
        "colour: from orange, the lowest end of the last axis, to blue, the highest",
    ]
    words = drawing.words(
        f"{heading(metric)} by the settings that differ",
        caption,
        y=metric,
        percent=percent,
    )
    spec = picture.parallel(traces, axes, words, dark=drawing.how.dark)
    titles = [*values, "runs", drawing.how.statistic, "95% interval"]
    table = [list(map(printable, row)) for row in table]
    return drawing.picture(spec, list(map(printable, titles)), table, percent=percent)


def _said(value: Any) -> str:
    return "none" if value is None else str(value)


def _swept(drawing: Drawing) -> tuple[list[float], list[dict[str, Any]], dict[str, list[Any]]]:
    """The metric of each run that has it, the settings of each, and the values of those settings
    that differ, by name, in order. Raises UsageError if no run has the metric.
    """
    docs = [doc for group in drawing.groups for doc in group.docs]
    kept = [(doc, value) for doc in docs if (value := drawing.value(doc)) is not None]
    if not kept:
        raise drawing.nothing()
    settings = [leaves((doc.get("config") or {}).get("data") or {}) for doc, _ in kept]
    values: dict[str, list[Any]] = {}
    for name in dict.fromkeys(name for one in settings for name in one):
        some = {repr(one.get(name)): one.get(name) for one in settings}
        if len(some) > 1 and name.rpartition(".")[2] != "seed":
            values[name] = sorted(some.values(), key=_order)
    return [value for _, value in kept], settings, values


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then what is not one."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, str(value))
