"""Pictures as Vega-Lite specifications: plain data in, plain data out, nothing is drawn here.

The same specification serves a file, a page, a notebook and a report. Stored text only ever is a
value of the data or a title, never a field's name or an expression, so that it stays text. Numbers
are rounded and everything has one order: the same data gives the same bytes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from attrs import field, frozen

from qn_tracking.errors import printable, short

Spec = dict[str, Any]
Number = float | None

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
WIDTH, HEIGHT, ROW = 270, 170, 17
"""Of the plotted area, in pixels: with axis and margins it is as wide as a column of a paper."""
LABELS = 210
"""Pixels of the longest name of a row."""
LONGEST = 60
"""Characters of a name in a picture."""
ALIKE = 24
"""More lines than this cannot be kept apart: they get one colour and no legend."""

# Okabe and Ito's colours, without the yellow that disappears on white; the same hues for dark.
LIGHT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B7280")
DARK_COLOURS = ("#56B4E9", "#FF8A5B", "#1FC8A0", "#F0A6CF", "#E69F00", "#F0E442", "#A9B1BC")
DASHES = ([1, 0], [5, 2], [2, 2], [7, 2, 2, 2])


@frozen(kw_only=True)
class Theme:
    """The colours of a picture."""

    paper: str
    ink: str
    pale: str
    grid: str
    colours: tuple[str, ...]


LIGHT = Theme(paper="#ffffff", ink="#1f2328", pale="#59636e", grid="#d8dee4", colours=LIGHT_COLOURS)
DARK = Theme(paper="#0d1117", ink="#e6edf3", pale="#9da7b3", grid="#30363d", colours=DARK_COLOURS)


@frozen(kw_only=True)
class Words:
    """The texts of a picture; with `percent` its values are shares, from 0 to 1; of a profile,
    with `percent_x`, the thresholds as well.
    """

    title: str
    caption: str
    x: str = ""
    y: str = ""
    percent: bool = False
    percent_x: bool = False


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


def lines(found: Sequence[Line], words: Words, *, dark: bool = False, steps: bool = False) -> Spec:
    """Lines with bands; with `steps` a value holds until the next one."""
    theme = DARK if dark else LIGHT
    names = distinct([line.name for line in found])
    known = [v for line in found for v in (*line.y, *line.low, *line.high) if v is not None]
    known += [v for line in found for _, run in line.runs for v in run if v is not None]
    many = len(found) > ALIKE
    colour = _colour(names, theme, legend=len(found) > 1 and not many)
    shape = {"interpolate": "step-after"} if steps else {}
    x = _axis("x", words.x, [v for line in found for v in line.x], share=words.percent_x)
    y = _axis("y", words.y, known, share=words.percent)
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
        layers.append(_layer("bands", area, {**encoding, **edges}))
    single = [
        {"g": name, "r": str(i), "x": number(a), "y": number(b)}
        for name, line in zip(names, found, strict=True)
        for i, run in enumerate(line.runs)
        for a, b in zip(*run, strict=True)
    ]
    if single:
        faint = {"type": "line", "opacity": 0.3, "strokeWidth": 0.6}
        layers.append(_layer("runs", faint, {**encoding, "detail": {"field": "r"}}))
    mark: Spec = {"type": "line", "strokeWidth": 1 if many else 1.6, **shape}
    mark["opacity"] = 0.35 if many else 1
    # A line of one point would be invisible.
    if any(sum(v is not None for v in line.y) < 3 for line in found):
        mark["point"] = {"size": 22, "filled": True}
    dashes = {"scale": {"domain": names, "range": _cycle(DASHES, len(theme.colours), len(names))}}
    dash = {"strokeDash": {"field": "g", "legend": colour["legend"], "sort": None, **dashes}}
    layers.append(_layer("lines", mark, {**encoding, "color": colour, **({} if many else dash)}))
    data = {
        "bands": bands,
        "runs": single,
        "lines": [
            {"g": name, "x": number(a), "y": number(b)}
            for name, line in zip(names, found, strict=True)
            for a, b in zip(line.x, line.y, strict=True)
        ],
    }
    return _picture(words, theme, layers, data, HEIGHT)


def rows(found: Sequence[Row], words: Words, *, dark: bool = False, middle: Number = None) -> Spec:
    """A row for each group: a dot with its interval; `middle` is where a line divides them."""
    theme = DARK if dark else LIGHT
    names = distinct([row.name for row in found])
    known = [v for row in found for v in (row.value, row.low, row.high, *row.points)]
    known += [middle]
    values = [v for v in known if v is not None]
    x = _axis("x", words.x, values, share=words.percent)
    y = _names(names, grid=True)
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
        layers.append(_layer("points", tick, {"x": x, "y": y}))
    rule = {"type": "rule", "color": theme.colours[0], "strokeWidth": 2}
    interval = {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y}
    layers.append(_layer("rows", rule, interval))
    dot: Spec = {
        "type": "point",
        "filled": True,
        "size": 40,
        "color": theme.colours[0],
        "opacity": 1,
    }
    layers.append(_layer("rows", dot, {"x": x, "y": y}))
    data = {"rows": whole, "points": points}
    return _picture(words, theme, layers, data, {"step": ROW}, names)


def stacked(found: Mapping[str, Mapping[str, float]], words: Words, *, dark: bool = False) -> Spec:
    """A bar for each group, of shares by kind that add up to 1, in the order given."""
    theme = DARK if dark else LIGHT
    names = distinct(list(found))
    kinds = list(dict.fromkeys(kind for shares in found.values() for kind in shares))
    shown = dict(zip(kinds, distinct(kinds), strict=True))
    bars: list[Spec] = [
        {"g": name, "k": shown[kind], "x": number(shares.get(kind, 0.0)), "o": place}
        for name, shares in zip(names, found.values(), strict=True)
        for place, kind in enumerate(kinds)
    ]
    colour = _colour(list(shown.values()), theme, legend=True, symbol="square")
    x = _axis("x", words.x, [], share=True)
    x["axis"]["grid"] = False
    encoding = {
        "x": {**x, "stack": "zero"},
        "y": _names(names, grid=False),
        "color": {**colour, "field": "k"},
        "order": {"field": "o", "type": "quantitative"},
    }
    layers = [_layer("bars", {"type": "bar", "stroke": theme.paper, "strokeWidth": 1}, encoding)]
    size = {"step": ROW + 4}
    return _picture(words, theme, layers, {"bars": bars}, size, names)


# -------------------------------------------------------------------------------------- its parts


def distinct(names: Sequence[str]) -> list[str]:
    """The names on one line, cut where they are too long, no two the same."""
    out: list[str] = []
    taken: set[str] = set()
    for name in names:
        shown = unique = short(printable(name).strip() or "-", LONGEST)
        count = 1
        while unique in taken:
            count += 1
            unique = f"{shown} ({count})"
        taken.add(unique)
        out.append(unique)
    return out


def number(value: Number) -> Number:
    """A number in six digits, so that no machine's last bit is in a picture."""
    if value is None or not isfinite(value):
        return None
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded


def _layer(data: str, mark: Spec, encoding: Spec) -> Spec:
    return {"data": {"name": data}, "mark": mark, "encoding": encoding}


def _names(names: Sequence[str], *, grid: bool) -> Spec:
    axis = {"title": None, "labelLimit": LABELS, "grid": grid}
    scale = {"domain": list(names)}
    return {"field": "g", "type": "nominal", "sort": None, "scale": scale, "axis": axis}


def _beside(names: Sequence[str]) -> int:
    """The width that long names leave beside them."""
    return round(max(WIDTH / 2, WIDTH + 40 - _taken(names)))


def _taken(names: Sequence[str]) -> float:
    return min(LABELS, 5.2 * max(map(len, names)))


def _cycle(values: Sequence[Any], each: int, count: int) -> list[Any]:
    """Values of which each is repeated so often before the next one comes, over and over."""
    return [values[i // each % len(values)] for i in range(count)]


def _colour(names: Sequence[str], theme: Theme, *, legend: bool, symbol: str = "stroke") -> Spec:
    many = len(names) > ALIKE
    colours = [theme.pale] * len(names) if many else _cycle(theme.colours, 1, len(names))
    longest = max(map(len, names), default=0)
    columns = 1 if longest > 26 else 2 if longest > 14 else 3
    return {
        "field": "g",
        "type": "nominal",
        "sort": None,
        "scale": {"domain": list(names), "range": colours},
        "legend": {
            "title": None,
            "orient": "bottom",
            "columns": columns,
            "symbolType": symbol,
            "labelLimit": 300 // columns,
        }
        if legend
        else None,
    }


def _axis(channel: str, title: str, values: Sequence[float], *, share: bool = False) -> Spec:
    """A quantitative axis around all values, also where there is one, or all are the same."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    largest = max(-low, high)
    if low == high:
        margin = 1.0 if low == int(low) else abs(low) / 10
        low, high = low - margin, high + margin
    scale: Spec = {"domain": [0, 1] if share else [number(low), number(high)], "zero": False}
    axis: Spec = {"title": short(printable(title), 50), "tickCount": 5}
    if share:
        axis["format"] = ".0%"
    elif largest and not 1e-4 <= largest < 1e5:
        axis["format"] = "~s" if 1e5 <= largest < 1e15 else ".3~e"
    return {"field": channel, "type": "quantitative", "scale": scale, "axis": axis}


def _picture(
    words: Words,
    theme: Theme,
    layers: list[Spec],
    data: Mapping[str, Any],
    height: Any,
    names: Sequence[str] = (),
) -> Spec:
    """A whole picture; beside long `names` there is less space, and more of an edge, since other
    fonts are wider.
    """
    title, caption = printable(words.title), printable(words.caption)
    left = 6 + round(_taken(names) / 8) if names else 6
    axis = {
        "labelColor": theme.ink,
        "titleColor": theme.ink,
        "titleFontWeight": "normal",
        "gridColor": theme.grid,
        "domainColor": theme.pale,
        "tickColor": theme.pale,
        "labelFontSize": 10,
        "titleFontSize": 10,
    }
    return {
        "$schema": SCHEMA,
        "description": f"{title}. {caption}",
        "title": {
            "text": textwrap.wrap(title, 54) or [""],
            "subtitle": textwrap.wrap(caption, 72) or [""],
            "anchor": "start",
            "frame": "bounds",
        },
        "background": theme.paper,
        "width": _beside(names) if names else WIDTH,
        "height": height,
        "padding": {"left": left, "top": 6, "right": 8, "bottom": 6},
        "datasets": {name: values for name, values in data.items() if values},
        "layer": layers,
        "resolve": {"legend": {"color": "independent", "strokeDash": "independent"}},
        "config": {
            "font": "Arial, sans-serif",
            "axis": axis,
            "legend": {"labelColor": theme.ink, "labelFontSize": 10, "symbolStrokeWidth": 2},
            "title": {
                "color": theme.ink,
                "subtitleColor": theme.pale,
                "fontSize": 12,
                "subtitleFontSize": 9,
                "subtitleLineHeight": 11,
                "offset": 8,
            },
            "view": {"stroke": None},
        },
    }
