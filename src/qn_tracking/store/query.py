"""Questions about many experiments: filters, order, and which index answers them."""

from __future__ import annotations

from qn_tracking.errors import UsageError
from qn_tracking.records.limits import NOT_FINITE
from qn_tracking.store.fields import COLUMNS, PARTS, SORTS, Column, label_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from qn_tracking.store.index import Index
    from qn_tracking.store.where import Node

FEW = 2000
"""So many matches are fetched and sorted; where there are more, the newest are soon met."""


class Row:
    """A line of a list: the fields of the index, and others that were asked for, by name."""

    __slots__ = ("n", "values")

    def __init__(self, n: int, values: Sequence[Any]) -> None:
        self.n = n
        self.values = dict(zip(COLUMNS, values, strict=True))

    def __getitem__(self, column: str) -> Any:
        return self.values[column]


class Condition:
    """One of the conditions that must all hold: its SQL, and the column whose index finds it."""

    __slots__ = ("found", "params", "sql", "tables")

    def __init__(
        self, sql: str, params: Sequence[Any], tables: set[str], found: Column | None
    ) -> None:
        self.sql = sql
        self.params = list(params)
        self.tables = tables
        self.found = found


def any_of(column: str, values: Sequence[Any]) -> Condition:
    """The column holds one of the values."""
    marks = ", ".join("?" * len(values))
    return _plain(column, f'run."{column}" IN ({marks})', values)


def named(ids: Sequence[str]) -> Condition:
    """The experiment is one of these."""
    marks = ", ".join("?" * len(ids))
    sql = f"run.n IN (SELECT n FROM entry WHERE name IN ({marks}))"  # noqa: S608
    return Condition(sql, ids, {"run"}, None)


def at_least(column: str, value: Any) -> Condition:
    """The column holds the value or more."""
    return _plain(column, f'run."{column}" >= ?', [value])


def below(column: str, value: Any) -> Condition:
    """The column holds less than the value."""
    return _plain(column, f'run."{column}" < ?', [value])


def begins(column: str, prefix: str) -> Condition:
    """The column's text begins so."""
    sql = f'(run."{column}" >= ? AND run."{column}" < ?)'
    return _plain(column, sql, [prefix, prefix + "\U0010ffff"])


def _plain(column: str, sql: str, params: Sequence[Any]) -> Condition:
    return Condition(sql, params, {"run"}, Column("run", f'run."{column}"', None))


def either(parts: Sequence[Condition]) -> Condition:
    """One of the conditions holds."""
    if len(parts) == 1:
        return parts[0]
    return Condition(
        "(" + " OR ".join(part.sql for part in parts) + ")",
        [param for part in parts for param in part.params],
        {table for part in parts for table in part.tables},
        None,
    )


def config_is(name: str) -> Condition:
    """The configuration has this name, with or without folder and ending, or such a digest."""
    if len(name) >= 7 and len(name) <= 64 and not name.strip("0123456789abcdef"):
        sql = "(run.config = ? OR (run.digest >= ? AND run.digest < ?))"
        return Condition(sql, [name, name, name + "g"], {"run"}, None)
    found = any_of("config", [label_key(name)])
    if "/" in name:
        found.sql = f"({found.sql} AND run.config_file = ?)"
        found.params.append(name)
    return found


def tagged(index: Index, text: str) -> Condition:
    """The experiment has the tag KEY, or KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not key:
        raise UsageError(f"--tag {text}: expected KEY or KEY=VALUE")
    if '"' in key:
        raise UsageError(f"--tag {text}: a key with a quote in it")
    node = ("=", ("tags", key), value) if equals else ("not null", ("tags", key), None)
    return conditions(index, node)[0]


def conditions(index: Index, tree: Node) -> list[Condition]:
    """An expression of `--where`, taken apart where all of its parts must hold."""
    from qn_tracking.store import where

    if tree[0] == "and":
        return [condition for part in tree[1] for condition in conditions(index, part)]
    columns = [index.find(path) for path in where.paths(tree)]
    for column in columns:
        index.index_field(column)
    sql, params = where.compile_sql(tree, index.find)
    simple = tree[0] in ("=", "<", "<=", ">", ">=", "in")
    tables = {column.table for column in columns}
    return [Condition(sql, params, tables, columns[0] if simple else None)]


def order(index: Index, text: str | None) -> tuple[str, set[str]] | None:
    """The SQL of `--sort FIELD[:asc|:desc]` and its tables; None for newest first."""
    if text is None:
        return None
    name, _, way = text.rpartition(":")
    if way not in ("asc", "desc"):
        name, way = text, "desc"
    if name in SORTS:
        # By the start it is the order that every list has, to the microsecond.
        column_name = "at" if name == "started" else SORTS[name].name
        expression, tables = f'run."{column_name}"', {"run"}
    else:
        from qn_tracking.store import where

        try:
            column = index.find(where.field(name))
        except UsageError as error:
            hint = error.hint or f"known: {', '.join(SORTS)}, or a stored field"
            raise UsageError(error.cause, file="--sort", field=error.field, hint=hint) from None
        index.index_field(column)
        expression, tables = column.expression, {column.table}
    direction = f"{way.upper()} NULLS LAST"
    by = f"{expression} {direction}"
    if _has_not_finite(index, expression, tables):
        # NaN is no larger than anything: after all numbers both ways, before what is missing.
        by = (
            f"CASE {expression} WHEN 'NaN' THEN NULL WHEN 'Infinity' THEN 9e999"
            f" WHEN '-Infinity' THEN -9e999 ELSE {expression} END {direction}, {by}"
        )
    return by, tables


def _has_not_finite(index: Index, expression: str, tables: set[str]) -> bool:
    """Whether a field has numbers that JSON stores as text; others are sorted by their index."""
    found = index.db.execute(
        f"SELECT 1 FROM {next(iter(tables))} WHERE {expression} IN (?, ?, ?) LIMIT 1",  # noqa: S608
        NOT_FINITE,
    ).fetchone()
    return found is not None


def select(
    index: Index,
    conditions: Sequence[Condition],
    *,
    sort: tuple[str, set[str]] | None = None,
    limit: int = 0,
) -> tuple[list[Row], bool]:
    """Experiments that meet all conditions, newest first unless sorted otherwise; at most `limit`
    unless 0. The flag is True if there are more.

    What is returned is as the files are now: rows whose file was edited are read again.
    """
    for _ in range(3):
        rows = _select(index, conditions, sort, limit + 1 if limit else 0)
        shown = rows[:limit] if limit else rows
        # All that are shown; a full list of very many has been looked at piece by piece.
        if index.sync.still_true([row["id"] for row in shown[:FEW]]):
            break
    return shown, len(shown) < len(rows)


def _select(
    index: Index,
    conditions: Sequence[Condition],
    sort: tuple[str, set[str]] | None,
    limit: int,
) -> list[Row]:
    if not conditions or not limit or sort is not None:
        source, params = _source(conditions, sort), _params(conditions)
    elif len(conditions) == 1 and conditions[0].found is not None:
        # One index that holds the order, too: SQLite knows best.
        return _rows(index, *_driven(conditions[0], [], limit))
    else:
        counted = [
            (_count(index, condition), i)
            for i, condition in enumerate(conditions)
            if condition.found is not None
        ]
        least, i = min(counted, default=(FEW, -1))
        if i < 0 or least >= FEW:
            rows = _rows(index, *_newest(conditions, limit))
            if len(rows) >= limit or index.total() <= FEW:
                return rows
        if i >= 0:
            others = [c for j, c in enumerate(conditions) if j != i]
            return _rows(index, *_driven(conditions[i], others, limit))
        source, params = _source(conditions, sort), _params(conditions)
    if limit:
        source += " LIMIT ?"
        params = [*params, limit]
    return _rows(index, source, params)


_COLUMNS = "run.n, " + ", ".join(f'run."{column}"' for column in COLUMNS)


def _joined(tables: set[str]) -> str:
    return "".join(f" CROSS JOIN {t} ON {t}.n = run.n" for t in PARTS if t in tables)


def _tables(conditions: Sequence[Condition]) -> set[str]:
    return {table for condition in conditions for table in condition.tables}


def _params(conditions: Sequence[Condition]) -> list[Any]:
    return [param for condition in conditions for param in condition.params]


def _all(conditions: Sequence[Condition]) -> str:
    return " AND ".join(condition.sql for condition in conditions) or "1"


def _source(conditions: Sequence[Condition], sort: tuple[str, set[str]] | None) -> str:
    tables = _tables(conditions) | (sort[1] if sort else set())
    by = f"{sort[0]}, run.at DESC" if sort else "run.at DESC"
    return f"SELECT {_COLUMNS} FROM run{_joined(tables)} WHERE {_all(conditions)} ORDER BY {by}"  # noqa: S608


def _newest(conditions: Sequence[Condition], limit: int) -> tuple[str, list[Any]]:
    """Looks at the newest few only."""
    return (
        f"SELECT {_COLUMNS} FROM (SELECT n AS m FROM run ORDER BY at DESC LIMIT {FEW})"  # noqa: S608
        f" CROSS JOIN run ON run.n = m{_joined(_tables(conditions))}"
        f" WHERE {_all(conditions)} ORDER BY run.at DESC LIMIT ?",
        [*_params(conditions), limit],
    )


def _driven(first: Condition, others: Sequence[Condition], limit: int) -> tuple[str, list[Any]]:
    """Takes what the index of one condition finds, and looks at the others there."""
    assert first.found is not None
    table = first.found.table
    inner = f"SELECT {table}.n AS m FROM {table} WHERE {first.sql}"  # noqa: S608
    params = list(first.params)
    if not others:
        inner += f" ORDER BY {table}.at DESC LIMIT ?"
        params.append(limit)
    return (
        f"SELECT {_COLUMNS} FROM ({inner}) CROSS JOIN run ON run.n = m"  # noqa: S608
        f"{_joined(_tables(others))} WHERE {_all(others)} ORDER BY run.at DESC LIMIT ?",
        [*params, *_params(others), limit],
    )


def _count(index: Index, condition: Condition) -> int:
    """How many meet the condition; of many, just that."""
    assert condition.found is not None
    table = condition.found.table
    found = index.db.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {condition.sql} LIMIT {FEW})",  # noqa: S608
        condition.params,
    ).fetchone()
    return int(found[0])


def _rows(index: Index, sql: str, params: Sequence[Any]) -> list[Row]:
    return [Row(row[0], row[1:]) for row in index.db.execute(sql, tuple(params))]
