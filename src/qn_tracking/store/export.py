"""Experiments or their episodes as a table for other programs: CSV, JSON lines, Parquet.

A table is read twice, for its columns and for its rows, so that memory does not grow with it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import islice
from typing import IO, Any

from qn_tracking.errors import StorageError, UnsupportedError
from qn_tracking.records.limits import NOT_FINITE, not_finite
from qn_tracking.records.model import Episode

Row = dict[str, Any]
Rows = Callable[[], Iterable[Row]]
"""Starts from the beginning at every call."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What makes a spreadsheet take the text of a cell for a formula."""
BATCH = 10_000

_LEFT_OUT = {("origin", "original"), ("labels",)}
_GROUPS = ("counts", "metrics", "timing")


# -------------------------------------------------------------------------------------------- rows


def flat(doc: Mapping[str, Any]) -> Row:
    """A record as one row: a column for every field, with dots; a list as JSON.

    A name that holds a dot itself is quoted, so that no two fields have one column. Another
    program's original is left out; JSON lines have all of it.
    """
    out: Row = {}

    def visit(value: Any, path: tuple[str, ...]) -> None:
        if path in _LEFT_OUT:
            return
        if isinstance(value, Mapping):
            for key, item in value.items():
                visit(item, (*path, key))
            return
        name = ".".join(map(_step, path))
        if isinstance(value, (list, tuple)):
            out[name] = _json(value)
        elif path[0] == "results" and value in NOT_FINITE:
            out[name] = float(value)
        else:
            out[name] = value

    visit(doc, ())
    return out


def _step(name: str) -> str:
    """A name as a part of a column's name: in quotes if it is empty or holds a dot or a quote."""
    if name and "." not in name and '"' not in name:
        return name
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def of_episode(about: Mapping[str, Any], episode: Episode) -> Row:
    """An episode as one row, after the columns that say which run it is of."""
    row = nested(about, episode)
    for group in _GROUPS:
        row.update([(f"{group}.{key}", value) for key, value in row.pop(group).items()])
    return row


def nested(about: Mapping[str, Any], episode: Episode) -> Row:
    """An episode as a JSON object."""
    fields = ("index", "seed", "success", "termination", "steps", "reward")
    # A table has these columns if any of its episodes is of a phase.
    phase = () if episode.phase is None else ("phase", "after")
    return {**about, **{name: getattr(episode, name) for name in (*phase, *fields, *_GROUPS)}}


def _json(value: Any) -> str:
    import orjson

    from qn_tracking.records.codec import plain

    return orjson.dumps(plain(value)).decode()


# ----------------------------------------------------------------------------------------- columns


def columns(rows: Iterable[Row]) -> dict[str, str]:
    """The columns in order of appearance, each `bool`, `int`, `float` or `text`."""
    kinds: dict[str, str] = {}
    for row in rows:
        for name, value in row.items():
            kind = _KINDS.get(type(value), "")
            known = kinds.get(name)
            if known != kind:
                kinds[name] = _either(known, kind) if known else kind
    # One that is null wherever it is no mapping is no column beside those of the mapping.
    above = {name[:i] for name in kinds for i, c in enumerate(name) if c == "."}
    return {name: kind or "text" for name, kind in kinds.items() if kind or name not in above}


_KINDS = {bool: "bool", int: "int", float: "float", str: "text"}


def _either(one: str, other: str) -> str:
    if not other or one == other:
        return one
    return "float" if {one, other} == {"int", "float"} else "text"


def _checked(rows: Iterable[Row], kinds: Mapping[str, str]) -> Iterator[Row]:
    for row in rows:
        if not row.keys() <= kinds.keys():
            for name, value in row.items():
                if value is not None and name not in kinds:
                    raise StorageError(f"{name} came while it was exported", hint="try again")
        yield row


# ----------------------------------------------------------------------------------------- formats


def write_csv(stream: IO[bytes], rows: Rows) -> int:
    """RFC 4180 in UTF-8; returns how many rows. A text that a spreadsheet would run gets a quote
    in front; an absent value is an empty cell; true and false are words.
    """
    kinds = columns(rows())
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=False)
    try:
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow([_cell(name) for name in kinds])
        count = 0
        for row in _checked(rows(), kinds):
            writer.writerow([_cell(row.get(name)) for name in kinds])
            count += 1
        text.flush()
    finally:
        text.detach()
    return count


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if type(value) is str:
        return f"'{value}" if value.startswith(FORMULA) else value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float:
        return repr(value) if abs(value) < float("inf") else not_finite(value)
    return str(value)


def write_jsonl(stream: IO[bytes], rows: Rows) -> int:
    """One JSON object a line; returns how many."""
    import orjson

    from qn_tracking.records.codec import plain

    count = 0
    for row in rows():
        stream.write(orjson.dumps(plain(row)) + b"\n")
        count += 1
    return count


def parquet() -> Any:
    """The library that writes it, which is no dependency. Raises UnsupportedError without it."""
    try:
        return import_module("pyarrow.parquet")
    except ImportError:
        raise UnsupportedError(
            "Parquet needs pyarrow", hint="pip install 'qn-tracking[parquet]'"
        ) from None


def write_parquet(stream: IO[bytes], rows: Rows) -> int:
    """Parquet; returns how many rows. Raises UnsupportedError."""
    writer_of = parquet().ParquetWriter
    pyarrow = import_module("pyarrow")

    kinds = columns(rows())
    types = {
        "bool": pyarrow.bool_(),
        "int": pyarrow.int64(),
        "float": pyarrow.float64(),
        "text": pyarrow.string(),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    count, checked = 0, _checked(rows(), kinds)
    with writer_of(stream, schema) as writer:
        while batch := list(islice(checked, BATCH)):
            lists = {
                name: [_typed(row.get(name), kind) for row in batch] for name, kind in kinds.items()
            }
            writer.write_table(pyarrow.table(lists, schema=schema))
            count += len(batch)
    return count


def _typed(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "text" and type(value) is not str:
        return _cell(value)
    return float(value) if kind == "float" else value
