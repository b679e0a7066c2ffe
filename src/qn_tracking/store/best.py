"""Of each group of experiments the one with the best value of a metric."""

from __future__ import annotations

from math import isfinite

from qn_tracking.errors import UsageError
from qn_tracking.records.limits import NOT_FINITE, not_finite
from qn_tracking.store import query, where
from qn_tracking.store.groups import GROUPS, Grouping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from qn_tracking.store.index import Index
    from qn_tracking.store.where import Path

SHORT = {"reward": ("results", "avg_reward"), "steps": ("results", "avg_steps")}
_USUAL = {path for parts in GROUPS.values() for paths in parts for path in paths}


class Winner:
    """The best of a group: its row, its value, and of how many it is the best."""

    __slots__ = ("count", "key", "row", "value")

    def __init__(self, key: tuple[Any, ...], row: query.Row, value: float) -> None:
        self.key = key
        self.row = row
        self.value = value
        self.count = 0


def metric_path(index: Index, name: str) -> Path:
    """The stored field that a metric's name stands for. Raises UsageError."""
    paths: list[Path] = [SHORT[name]] if name in SHORT else []
    paths += [("results", name), ("results", "metrics", name, "mean"), (name,)]
    stored = set(index.fields())
    for path in paths:
        if path in stored and (*path, "mean") not in stored:
            return path
    try:
        path = index.resolve(where.field(name))
        index.find(path)
    except UsageError as error:
        names = sorted({p[2] for p in stored if p[:2] == ("results", "metrics") and len(p) > 2})
        hint = f"metrics: {', '.join(('success_rate', 'final_success_rate', *names)[:12])}"
        raise UsageError(f"no stored metric {name!r}", file="--metric", hint=hint) from error
    return path


class Winners:
    """The best of each group; how many rows lack the metric, and of which it is not finite."""

    __slots__ = ("best", "lacking", "not_finite")

    def __init__(self) -> None:
        self.best: list[Winner] = []
        self.lacking = 0
        self.not_finite: dict[str, str] = {}


def winners(
    index: Index,
    rows: Sequence[query.Row],
    path: Path,
    by: Grouping,
    *,
    lowest: bool = False,
    min_episodes: int = 1,
) -> Winners:
    """The best of each group, among those whose metric is a finite number.

    Of equal ones the first that started. Raises UsageError for a field that is not stored.
    """
    values = column(index, path, "--metric")
    fields = {each: column(index, each, "--by") for each in by.paths()}
    found: dict[tuple[Any, ...], Winner] = {}
    made = Winners()
    for row in sorted(rows, key=lambda row: (row["at"], row["id"])):
        if (row["episodes"] or 0) < min_episodes:
            continue
        value: Any = values.get(row.n)
        if value in NOT_FINITE or (type(value) is float and not isfinite(value)):
            made.not_finite[row["id"]] = value if type(value) is str else not_finite(value)
            continue
        if type(value) not in (int, float):
            made.lacking += 1
            continue
        key = by.key(lambda path, n=row.n: fields[path].get(n))  # type: ignore[misc]
        winner = found.setdefault(key, Winner(key, row, value))
        if value < winner.value if lowest else value > winner.value:
            winner.row, winner.value = row, value
        winner.count += 1
    made.best = sorted(found.values(), key=lambda one: repr(one.key))
    return made


def column(index: Index, path: Path, option: str) -> dict[int, Any]:
    """A field of every experiment, by the number of its row. UsageError if none has it."""
    try:
        column = index.find(path)
    except UsageError as error:
        # Those that make the usual groups may well be lacking everywhere.
        if path in _USUAL:
            return {}
        raise UsageError(error.cause, file=option, hint=error.hint) from None
    return index.values(column)
