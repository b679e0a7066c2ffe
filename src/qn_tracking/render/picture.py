"""Pictures as Vega-Lite specifications: plain data in, plain data out, nothing is drawn here.

The same specification serves a file, a page, a notebook and a report. Stored text only ever is a
value of the data or a title, never a field's name or an expression, so that it stays text. Numbers
are rounded and everything has one order: the same data gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from qn_tracking.errors import printable, short
from qn_tracking.render.picture_parts import (
    ALIKE,
    DARK,
    DASHES,
    HEIGHT,
    LIGHT,
    LONGEST_OF_COLUMN,
    LONGEST_OF_ROW,
    ROW,
    SHAPES,
    WIDTH,
    Number,
    Spec,
    Words,
    axis_of,
    colour_of,
    cut,
    cycle,
    distinct,
    framed,
    layer,
    names_axis,
    narrowed,
    number,
)

MARKED = 11
"""Values that are written beside an axis."""
EDGE = 0.03
"""The share of an axis of dots that is left free at both ends."""
SPACE = 26
"""Pixels of a cell that has space for its number."""

__all__ = ["Axis", "Cell", "Line", "Number", "Place", "Row", "Spec", "Trace", "Words"]


@frozen(kw_only=True)
class Line:
    """A group as a line: its points, a band where there is one, and single runs beside it."""

    name: str
    x: Sequence[float]
    y: Sequence[Number]
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()
    runs: Sequence[tuple[Sequence[float], Sequence[Number]]] = ()


@frozen(kw_only=True)
class Row:
    """A group as a dot with its interval, and the values of single runs beside it."""

    name: str
    value: float
    low: Number = None
    high: Number = None
    points: Sequence[float] = field(default=())


@frozen(kw_only=True)
class Place:
    """A group as a point between two numbers, with the interval of the second, and single runs."""

    name: str
    x: float
    y: float
    low: Number = None
    high: Number = None
    points: Sequence[tuple[float, float]] = ()


@frozen(kw_only=True)
class Cell:
    """A value at a place of two names."""

    column: str
    row: str
    value: float


@frozen(kw_only=True)
class Axis:
    """A setting as an upright axis: its values as texts, from the lowest."""

    name: str
    labels: Sequence[str]


@frozen(kw_only=True)
class Trace:
    """A configuration as a line: which value of each axis it has, and what came of it."""

    places: Sequence[int]
    value: float


def lines(found: Sequence[Line], words: Words, *, dark: bool = False, steps: bool = False) -> Spec:
    """Lines with bands; with `steps` a value holds until the next one."""
    theme = DARK if dark else LIGHT
    names = distinct([line.name for line in found])
    known = [v for line in found for v in (*line.y, *line.low, *line.high) if v is not None]
    known += [v for line in found for _, run in line.runs for v in run if v is not None]
    many = len(found) > ALIKE
    colour = colour_of(names, theme, legend=len(found) > 1 and not many)
    shape = {"interpolate": "step-after"} if steps else {}
    x = axis_of("x", words.x, [v for line in found for v in line.x], share=words.percent_x)
    y = axis_of("y", words.y, known, share=words.percent)
    encoding: Spec = {"x": x, "y": y, "color": {**colour, "legend": None}}
    layers: list[Spec] = []
    bands = [
        {"g": name, "x": number(a), "low": number(b), "high": number(c)}
        for name, line in zip(names, found, strict=True)
        for a, b, c in zip(line.x, line.low, line.high, strict=False)
    ]
    if not many and any(row["low"] is not None for row in bands):
        area = {"type": "area", "opacity": 0.22 if len(found) < 6 else 0.12, **shape}
        edges = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
        layers.append(layer("bands", area, {**encoding, **edges}))
    single = [
        {"g": name, "r": str(i), "x": number(a), "y": number(b)}
        for name, line in zip(names, found, strict=True)
        for i, run in enumerate(line.runs)
        for a, b in zip(*run, strict=True)
    ]
    if single:
        faint = {"type": "line", "opacity": 0.3, "strokeWidth": 0.6}
        layers.append(layer("runs", faint, {**encoding, "detail": {"field": "r"}}))
    mark: Spec = {"type": "line", "strokeWidth": 1 if many else 1.6, **shape}
    mark["opacity"] = 0.35 if many else 1
    # A line of one point would be invisible.
    if any(sum(v is not None for v in line.y) < 3 for line in found):
        mark["point"] = {"size": 22, "filled": True}
    dashes = {"scale": {"domain": names, "range": cycle(DASHES, len(theme.colours), len(names))}}
    dash = {"strokeDash": {"field": "g", "legend": colour["legend"], "sort": None, **dashes}}
    layers.append(layer("lines", mark, {**encoding, "color": colour, **({} if many else dash)}))
    data = {
        "bands": bands,
        "runs": single,
        "lines": [
            {"g": name, "x": number(a), "y": number(b)}
            for name, line in zip(names, found, strict=True)
            for a, b in zip(line.x, line.y, strict=True)
        ],
    }
    return framed(words, theme, layers, data, HEIGHT)


def rows(found: Sequence[Row], words: Words, *, dark: bool = False, middle: Number = None) -> Spec:
    """A row for each group: a dot with its interval; `middle` is where a line divides them."""
    theme = DARK if dark else LIGHT
    names = distinct([row.name for row in found], LONGEST_OF_ROW)
    known = [v for row in found for v in (row.value, row.low, row.high, *row.points)]
    known += [middle]
    values = [v for v in known if v is not None]
    x = narrowed(axis_of("x", words.x, values, share=words.percent, edge=EDGE), names)
    y = names_axis(names, grid=True)
    whole = [
        {"g": name, "x": number(row.value), "low": number(row.low), "high": number(row.high)}
        for name, row in zip(names, found, strict=True)
    ]
    points = [
        {"g": name, "x": number(value)}
        for name, row in zip(names, found, strict=True)
        for value in row.points
    ]
    layers = []
    if middle is not None:
        rule: Spec = {"type": "rule", "color": theme.pale, "strokeDash": [3, 3]}
        layers.append({"data": {"values": [{"x": middle}]}, "mark": rule, "encoding": {"x": x}})
    if points:
        tick = {"type": "tick", "color": theme.pale, "opacity": 0.55, "thickness": 1, "size": 10}
        layers.append(layer("points", tick, {"x": x, "y": y}))
    rule = {"type": "rule", "color": theme.colours[0], "strokeWidth": 2}
    interval = {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y}
    layers.append(layer("rows", rule, interval))
    dot: Spec = {
        "type": "point",
        "filled": True,
        "size": 40,
        "color": theme.colours[0],
        "opacity": 1,
    }
    layers.append(layer("rows", dot, {"x": x, "y": y}))
    data = {"rows": whole, "points": points}
    return framed(words, theme, layers, data, {"step": ROW}, names)


def stacked(found: Mapping[str, Mapping[str, float]], words: Words, *, dark: bool = False) -> Spec:
    """A bar for each group, of shares by kind that add up to 1, in the order given."""
    theme = DARK if dark else LIGHT
    names = distinct(list(found), LONGEST_OF_ROW)
    kinds = list(dict.fromkeys(kind for shares in found.values() for kind in shares))
    shown = dict(zip(kinds, distinct(kinds), strict=True))
    bars: list[Spec] = [
        {"g": name, "k": shown[kind], "x": number(shares.get(kind, 0.0)), "o": place}
        for name, shares in zip(names, found.values(), strict=True)
        for place, kind in enumerate(kinds)
    ]
    colour = colour_of(list(shown.values()), theme, legend=True, symbol="square")
    x = narrowed(axis_of("x", words.x, [], share=True), names)
    x["axis"]["grid"] = False
    encoding = {
        "x": {**x, "stack": "zero"},
        "y": names_axis(names, grid=False),
        "color": {**colour, "field": "k"},
        "order": {"field": "o", "type": "quantitative"},
    }
    layers = [layer("bars", {"type": "bar", "stroke": theme.paper, "strokeWidth": 1}, encoding)]
    size = {"step": ROW + 4}
    return framed(words, theme, layers, {"bars": bars}, size, names)


def scatter(found: Sequence[Place], words: Words, *, dark: bool = False, log: bool = False) -> Spec:
    """A point for each group with its interval, small ones for its runs; `log` spreads `x`."""
    theme = DARK if dark else LIGHT
    names = distinct([one.name for one in found])
    many = len(found) > ALIKE
    colour = colour_of(names, theme, legend=len(found) > 1 and not many, symbol=None)
    ys = [v for one in found for v in (one.y, one.low, one.high) if v is not None]
    ys += [v for one in found for _, v in one.points]
    xs = [v for one in found for v in (one.x, *(p for p, _ in one.points))]
    x = axis_of("x", words.x, xs, edge=0.0 if log else EDGE)
    if log:
        x["scale"] |= {"type": "log"}
    encoding: Spec = {
        "x": x,
        "y": axis_of("y", words.y, ys, share=words.percent, edge=EDGE),
        "color": {**colour, "legend": None},
    }
    places = [
        {"g": name, "x": number(one.x), "y": number(one.y), "low": number(one.low),
         "high": number(one.high)}
        for name, one in zip(names, found, strict=True)
    ]  # fmt: skip
    points = [
        {"g": name, "x": number(a), "y": number(b)}
        for name, one in zip(names, found, strict=True)
        for a, b in one.points
    ]
    layers = []
    if points:
        small = {"type": "point", "filled": True, "size": 12, "opacity": 0.45}
        layers.append(layer("points", small, encoding))
    edges = {"y": {**encoding["y"], "field": "low"}, "y2": {"field": "high"}}
    layers.append(layer("places", {"type": "rule", "strokeWidth": 1.6}, {**encoding, **edges}))
    dot = {"type": "point", "filled": True, "size": 55, "opacity": 1}
    scale = {"domain": names, "range": cycle(SHAPES, len(theme.colours), len(names))}
    shape = {"shape": {"field": "g", "legend": colour["legend"], "sort": None, "scale": scale}}
    layers.append(layer("places", dot, {**encoding, "color": colour, **({} if many else shape)}))
    made = framed(words, theme, layers, {"places": places, "points": points}, HEIGHT)
    made["resolve"]["legend"]["shape"] = "independent"
    return made


def cells(
    found: Sequence[Cell],
    columns: Sequence[str],
    rows: Sequence[str],
    words: Words,
    *,
    dark: bool = False,
) -> Spec:
    """A heat map: a coloured cell for each value, with the number in it where there is space."""
    theme = DARK if dark else LIGHT
    across = dict(zip(columns, distinct(columns, LONGEST_OF_COLUMN), strict=True))
    down = dict(zip(rows, distinct(rows, LONGEST_OF_ROW), strict=True))
    shade = axis_of("y", words.y, [one.value for one in found], share=words.percent)
    low, high = shade["scale"]["domain"]
    data = [
        {
            "x": across[one.column],
            "g": down[one.row],
            "y": number(one.value),
            "r": f"{one.value:.0%}" if words.percent else f"{one.value:.3g}",
            "k": "dark" if (one.value - low) > 0.6 * (high - low) else "light",
        }
        for one in found
    ]
    y = {**names_axis([*down.values()], grid=False), "field": "g"}
    x = {**names_axis([*across.values()], grid=False), "field": "x"}
    step = max(9, WIDTH // len(columns))
    # Of names that overlap, every other one is left out: that is enough for these.
    across_fits = 5.2 * max(map(len, across.values())) <= 2 * min(step, 60)
    x["axis"] |= {"title": short(printable(words.x), 50), "labelOverlap": across_fits}
    x["axis"] |= {"labelAngle": 0} if across_fits else {"labelAngle": -40 if step > 16 else -90}
    colour = {
        "field": "y",
        "type": "quantitative",
        "scale": {"scheme": "viridis", "domain": [low, high]},
        "legend": {
            "title": shade["axis"]["title"],
            "titleColor": theme.ink,
            "titleFontWeight": "normal",
            "orient": "bottom",
            "gradientThickness": 8,
            **({"format": ".0%"} if words.percent else {}),
        },
    }
    layers = [
        layer("cells", {"type": "rect", "stroke": theme.paper}, {"x": x, "y": y, "color": colour})
    ]
    if step >= SPACE:
        ink = {"domain": ["light", "dark"], "range": ["#ffffff", "#000000"]}
        shown = {"field": "k", "type": "nominal", "scale": ink, "legend": None}
        text = {"text": {"field": "r"}, "x": x, "y": y, "color": shown}
        layers.append(layer("cells", {"type": "text", "fontSize": 9}, text))
    made = framed(words, theme, layers, {"cells": data}, {"step": ROW + 4}, [*down.values()])
    return {**made, "width": {"step": min(step, 60)}}


def parallel(
    found: Sequence[Trace], axes: Sequence[Axis], words: Words, *, dark: bool = False
) -> Spec:
    """Parallel coordinates: a line for each trace through upright axes, its value the last one."""
    theme = DARK if dark else LIGHT
    last = axis_of("y", words.y, [one.value for one in found], share=words.percent)
    low, high = last["scale"]["domain"]
    *settings, result = distinct([*(axis.name.rpartition(".")[2] for axis in axes), words.y])
    ends = [f"{end:.0%}" if words.percent else f"{end:.4g}" for end in (low, high)]
    labels = [
        {"x": name, "y": number(_height(i, axis)), "g": cut(axis.labels[i], 14)}
        for name, axis in zip(settings, axes, strict=True)
        for i in _some(len(axis.labels))
    ]
    limits = [{"x": result, "y": y, "g": text} for y, text in zip((0, 1), ends, strict=True)]
    data = [
        {"x": name, "o": place, "y": number(y), "r": str(i), "k": number(one.value)}
        for i, one in enumerate(sorted(found, key=lambda one: one.value))
        for place, (name, y) in enumerate(
            [
                *(
                    (name, _height(place, axis))
                    for name, axis, place in zip(settings, axes, one.places, strict=True)
                ),
                (result, (one.value - low) / (high - low)),
            ]
        )
    ]
    names = [*settings, result]
    x: Spec = {"field": "x", "type": "nominal", "sort": None, "scale": {"domain": names}}
    x["scale"] |= {"type": "point", "padding": 0.35}
    width = max(WIDTH, 80 * len(names))
    about = {"title": None, "labelAngle": 0, "domain": False, "ticks": False}
    about["labelLimit"] = width // len(names) - 10
    x["axis"] = {**about, "grid": True, "labelPadding": 10}
    scale = {"domain": [0, 1]}
    y = {"field": "y", "type": "quantitative", "scale": scale, "axis": None}
    colour = {
        "field": "k",
        "type": "quantitative",
        "scale": {"domain": [low, high], "range": [theme.colours[1], theme.colours[0]]},
        "legend": None,
    }
    mark = {"type": "line", "strokeWidth": 1.4, "opacity": 0.9 if len(found) <= ALIKE else 0.45}
    detail = {"field": "r", "type": "nominal"}
    order = {"field": "o", "type": "quantitative"}
    line = layer("lines", mark, {"x": x, "y": y, "color": colour, "detail": detail, "order": order})
    text = {"type": "text", "fontSize": 9, "align": "right", "dx": -4, "color": theme.ink}
    edge = {**text, "stroke": theme.paper, "strokeWidth": 3}  # so that lines do not hide a number
    right = {**text, "align": "left", "dx": 4}
    said = {"x": x, "y": y, "text": {"field": "g"}}
    made = framed(
        words,
        theme,
        [
            line,
            layer("labels", edge, said),
            layer("labels", text, said),
            layer("limits", right, said),
        ],
        {"lines": data, "labels": labels, "limits": limits},
        HEIGHT,
    )
    return {**made, "width": width}


def _height(place: int, axis: Axis) -> float:
    return place / (len(axis.labels) - 1) if len(axis.labels) > 1 else 0.5


def _some(count: int) -> list[int]:
    """The places of the values that are written beside an axis: at most so many, with both ends."""
    if count <= MARKED:
        return list(range(count))
    return sorted({round(i * (count - 1) / (MARKED - 1)) for i in range(MARKED)})
