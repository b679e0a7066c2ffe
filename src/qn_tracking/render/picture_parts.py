"""The parts of a picture: its colours and texts, its axes and its frame, as plain data."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from attrs import frozen

from qn_tracking.errors import printable, short

Spec = dict[str, Any]
Number = float | None

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
WIDTH, HEIGHT, ROW = 270, 170, 17
"""Of the plotted area, in pixels: with axis and margins it is as wide as a column of a paper."""
LABELS = 210
"""Pixels of the longest name of a row."""
LONGEST, LONGEST_OF_ROW, LONGEST_OF_COLUMN = 54, 40, 18
"""Characters of a name: in a legend, beside a row, below a column."""
ALIKE = 24
"""More lines than this cannot be kept apart: they get one colour and no legend."""

# Okabe and Ito's colours, those that are too pale on white replaced; dark ones in the same order.
# Each has a contrast of 3 with its paper, as WCAG 2.1 asks of graphics.
LIGHT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B07800", "#882255", "#6B7280")
DARK_COLOURS = ("#56B4E9", "#FF8A5B", "#1FC8A0", "#F0A6CF", "#E69F00", "#F0E442", "#A9B1BC")
DASHES = ([1, 0], [5, 2], [2, 2], [7, 2, 2, 2])
SHAPES = ("circle", "square", "triangle-up", "diamond")


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


def cut(name: str, most: int) -> str:
    """The name on one line, without its middle if it is too long: names of a sweep begin alike."""
    text = printable(name).strip() or "-"
    end = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - end]}…{text[-end:]}"


def distinct(names: Sequence[str], most: int = LONGEST) -> list[str]:
    """The names on one line, of at most so many characters, no two the same."""
    out: list[str] = []
    taken: set[str] = set()
    for name in _values_alone(names, most):
        shown = unique = cut(name, most)
        count = 1
        while unique in taken:
            count += 1
            unique = f"{shown} ({count})"
        taken.add(unique)
        out.append(unique)
    return out


def _values_alone(names: Sequence[str], most: int) -> Sequence[str]:
    """Names of a sweep, `a.b=1 c=2`, of which two look alike if cut, by the values that differ."""
    if len({cut(name, most) for name in names}) == len({*names}):
        return names
    split = [[word.partition("=") for word in name.split(" ")] for name in names]
    fields = {tuple(field + mark for field, mark, _ in words) for words in split}
    if len(fields) > 1 or not all(field.endswith("=") for field in fields.pop()):
        return names
    columns = [[value for *_, value in words] for words in zip(*split, strict=True)]
    kept = [values for values in columns if len({*values}) > 1]
    return [" ".join(values) for values in zip(*kept, strict=True)]


def number(value: Number) -> Number:
    """A number in six digits, so that no machine's last bit is in a picture."""
    if value is None or not isfinite(value):
        return None
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded


def layer(data: str, mark: Spec, encoding: Spec) -> Spec:
    return {"data": {"name": data}, "mark": mark, "encoding": encoding}


def names_axis(names: Sequence[str], *, grid: bool) -> Spec:
    axis = {"title": None, "labelLimit": LABELS, "grid": grid}
    scale = {"domain": list(names)}
    return {"field": "g", "type": "nominal", "sort": None, "scale": scale, "axis": axis}


def narrowed(axis: Spec, names: Sequence[str]) -> Spec:
    """An axis beside long names: fewer ticks, so that both ends have theirs."""
    if beside(names) > 200:
        return axis
    return {**axis, "axis": {**axis["axis"], "tickCount": 2}}


def beside(names: Sequence[str]) -> int:
    """The width that long names leave beside them."""
    return round(max(WIDTH / 2, WIDTH + 40 - taken(names)))


def taken(names: Sequence[str]) -> float:
    return min(LABELS, 5.2 * max(map(len, names)))


def cycle(values: Sequence[Any], each: int, count: int) -> list[Any]:
    """Values of which each is repeated so often before the next one comes, over and over."""
    return [values[i // each % len(values)] for i in range(count)]


def colour_of(
    names: Sequence[str], theme: Theme, *, legend: bool, symbol: str | None = "stroke"
) -> Spec:
    many = len(names) > ALIKE
    colours = [theme.pale] * len(names) if many else cycle(theme.colours, 1, len(names))
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
            **({"symbolType": symbol} if symbol else {}),
            "labelLimit": 300 // columns,
        }
        if legend
        else None,
    }


def axis_of(
    channel: str, title: str, values: Sequence[float], *, share: bool = False, edge: float = 0.0
) -> Spec:
    """A quantitative axis around all values, also where there is one, or all are the same.

    `edge` is a share of the axis that is left free at both ends, so that nothing looks cut off.
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    largest, whole = max(-low, high), False
    if low == high:
        whole = abs(low) < 1e5 and low == int(low)  # of six digits, the last one has to differ
        margin = 1.0 if whole else abs(low) / 10
        low, high = low - margin, high + margin
    else:
        low, high = low - edge * (high - low), high + edge * (high - low)
    scale: Spec = {"domain": [0, 1] if share else [number(low), number(high)], "zero": False}
    ticks = 2 if whole and not share else 5  # no half of an episode
    axis: Spec = {"title": short(printable(title), 50), "tickCount": ticks}
    if share:
        axis["format"] = ".0%"
    elif largest and not 1e-4 <= largest < 1e4:
        axis["format"] = "~s" if 1e4 <= largest < 1e15 else ".3~e"
    return {"field": channel, "type": "quantitative", "scale": scale, "axis": axis}


def framed(
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
    left = 6 + round(taken(names) / 8) if names else 6
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
        "width": beside(names) if names else WIDTH,
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
