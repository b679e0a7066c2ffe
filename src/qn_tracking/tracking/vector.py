"""What a loop passes to `episodes()`: rows or columns, checked a column at a time.

Imported at the first `Recorder.episodes` of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any

from attrs import frozen

from qn_tracking.errors import storable
from qn_tracking.records.limits import MAX_NAME, MAX_NAMES, MAX_TEXT
from qn_tracking.records.model import MAX_INT
from qn_tracking.tracking import arguments

OWN = ("success", "termination", "steps", "reward", "seed")
GROUPS = ("counts", "metrics", "timing")

Columns = Mapping[str, Any]


@frozen(kw_only=True)
class Checked:
    """The columns of a batch; `plain` unless a number is not finite, or no float is it exactly."""

    size: int
    own: Mapping[str, list[Any] | None]
    counts: Mapping[str, list[int]]
    metrics: Mapping[str, list[float]]
    timing: Mapping[str, list[float]]
    plain: bool


def stretches(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Columns, int]]:
    """Rows as columns, and how many: one stretch, if all have the same names."""
    shape: Any = None
    stretch: list[Mapping[str, Any]] = []
    for row in rows:
        if not isinstance(row, Mapping):
            raise TypeError(f"episodes: expected a mapping, got {type(row).__name__}")
        # Of most rows the names come in one order.
        names = (*row, *((group, *row[group]) for group in GROUPS if group in row))
        if names != shape and stretch:
            yield _columns(stretch), len(stretch)
            stretch = []
        shape = names
        stretch.append(row)
    if stretch:
        yield _columns(stretch), len(stretch)


def _columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    return {
        name: {inner: [row[name][inner] for row in rows] for inner in rows[0][name]}
        if name in GROUPS
        else [row[name] for row in rows]
        for name in rows[0]
    }


def single(columns: Columns, i: int) -> dict[str, Any]:
    """The keyword arguments of one episode."""
    return {
        name: {inner: values[i] for inner, values in column.items()}
        if name in GROUPS
        else column[i]
        for name, column in columns.items()
    }


def listed(columns: Columns) -> Columns:
    """Every column as a list; all of one length. Raises TypeError or ValueError."""
    out: dict[str, Any] = {}
    for name, column in columns.items():
        if name in GROUPS:
            if not isinstance(column, Mapping):
                raise TypeError(f"{name}: expected columns by name, got {type(column).__name__}")
            found = {key: _list(f"{name}.{key}", one) for key, one in column.items()}
            out[name] = {arguments.name(name, key): one for key, one in found.items()}
        else:
            out[name] = _list(name, column)
    sizes = {
        len(one)
        for name, column in out.items()
        for one in (column.values() if name in GROUPS else (column,))
    }
    if len(sizes) > 1:
        raise ValueError(f"episodes: columns of {' and '.join(map(str, sorted(sizes)))} values")
    return out


def _list(name: str, column: Any) -> list[Any]:
    if getattr(column, "ndim", 1) != 1 or isinstance(column, (str, bytes, Mapping)):
        raise TypeError(f"{name}: expected a value for each episode, got {type(column).__name__}")
    to_list = getattr(column, "tolist", None)
    try:
        values = to_list() if callable(to_list) else list(column)
    except TypeError:
        cause = f"expected a value for each episode, got {type(column).__name__}"
        raise TypeError(f"{name}: {cause}") from None
    return values if type(values) is list else list(values)


def check(columns: Columns, size: int | None = None) -> Checked:
    """Columns that are lists, as what a record can hold. Raises as `Recorder.episode`.

    `size` is how many episodes they have, which columns that there are not cannot show.
    """
    given = dict(columns)
    groups = {group: given.pop(group, {}) for group in GROUPS}
    own: dict[str, list[Any] | None] = {name: given.pop(name, None) for name in OWN}
    own["success"] = _each(own["success"], "success", bool, arguments.flag)
    own["termination"] = _each(own["termination"], "termination", str, arguments.text_of)
    for name in ("steps", "seed"):
        own[name] = _each(own[name], name, int, arguments.count)
        for value in own[name] or ():
            if value is not None and not 0 <= value < MAX_INT:
                arguments.count(name, value)
    texts = {text for text in own["termination"] or () if text is not None}
    for text in sorted(texts):
        if storable(text) != text:
            raise arguments.not_unicode({"termination": text})
    plain = all(len(text) <= MAX_TEXT for text in texts)
    own["reward"], exact = _numbers("reward", own["reward"])
    plain = plain and exact
    metrics: dict[str, list[float]] = {}
    for name, values in (*groups["metrics"].items(), *given.items()):
        found, exact = _numbers(name if name in given else f"metrics.{name}", values, none=False)
        metrics[name], plain = found or [], plain and exact
    counts = {
        name: [
            value if type(value) is int else arguments.whole(f"counts.{name}", value)
            for value in values
        ]
        for name, values in groups["counts"].items()
    }
    for name, values in counts.items():
        if values and not -MAX_INT < min(values) <= max(values) < MAX_INT:
            for value in values:
                arguments.whole(f"counts.{name}", value)
    timing = {
        name: [arguments.seconds(name, value) for value in values]
        for name, values in groups["timing"].items()
    }
    if len(timing) > MAX_NAMES or any(len(name) > MAX_NAME for name in timing):
        raise ValueError("timing: too many names, or too long ones")
    for group in (counts, metrics, timing):
        for name in group:
            if storable(name) != name:
                raise arguments.not_unicode({"metrics": {name: 0}})
    if not metrics.keys().isdisjoint(counts):
        raise arguments.taken(metrics.keys() & counts.keys(), "in counts and in metrics")
    if size is None:
        every = [*own.values(), *counts.values(), *metrics.values(), *timing.values()]
        size = max((len(one) for one in every if one is not None), default=0)
    return Checked(size=size, own=own, counts=counts, metrics=metrics, timing=timing, plain=plain)


def _each(
    values: list[Any] | None, name: str, kind: type, convert: Callable[[str, Any], Any]
) -> list[Any] | None:
    if values is None or {*map(type, values)} <= {kind, NoneType}:
        return values
    return [value if value is None else convert(name, value) for value in values]


def _numbers(
    name: str, values: list[Any] | None, *, none: bool = True
) -> tuple[list[Any] | None, bool]:
    """As floats, and whether all are finite and exact."""
    if values is None:
        return None, True
    exact = True
    known = values
    if {*map(type, values)} != {float}:
        pairs = [
            (None, None) if value is None and none else arguments.measured(name, value)
            for value in values
        ]
        values = [number for number, _ in pairs]
        exact = all(text is None for _, text in pairs)
        known = [number for number in values if number is not None]
    total = sum(known)
    return values, exact and total - total == 0.0
