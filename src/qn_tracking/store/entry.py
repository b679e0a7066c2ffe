"""What the index keeps of a document: the columns of its row, its parts, its fields' names."""

from __future__ import annotations

import re

from qn_tracking.errors import StorageError
from qn_tracking.ids import microseconds
from qn_tracking.records.schema import RECORD
from qn_tracking.store import fields
from qn_tracking.store.fields import COLUMNS, HOMES, PARTS, STEP, place_in_time
from qn_tracking.store.read import parse, same_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

MANY = 200
"""More new records than this are worth the import of a faster parser."""


class Row:
    """A document as the index keeps it."""

    __slots__ = ("columns", "parts")

    def __init__(self, columns: dict[str, Any], parts: dict[str, str]) -> None:
        self.columns = columns
        self.parts = parts

    def label(self, labels: dict[str, Any] | None, dumps: Callable[[Any], str]) -> None:
        """Adds the tags and notes that were added later."""
        columns = self.columns
        tags, notes, text = join_labels(columns["tags"] or {}, columns["notes"], labels, dumps)
        columns["tags"], columns["notes"], columns["labels"] = tags, notes, text


def join_labels(
    tags: dict[str, Any], notes: str | None, labels: dict[str, Any] | None, dumps: Any
) -> tuple[str | None, str | None, str | None]:
    """Tags and notes of a record with those added later, and these alone."""
    if labels is None:
        return dumps(tags) if tags else None, notes, None
    texts = ([notes] if notes else []) + [note["text"] for note in labels["notes"]]
    return dumps({**tags, **labels["tags"]}), "\n".join(texts) or None, dumps(labels)


class Rows:
    """Rows on their way into the tables, some hundred at a time."""

    _ENTRY = "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?)"
    _RUN = "INSERT OR REPLACE INTO run(n, {}) VALUES (?{})".format(  # noqa: S608
        ", ".join(f'"{column}"' for column in COLUMNS), ", ?" * len(COLUMNS)
    )

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._entries: list[tuple[Any, ...]] = []
        self._runs: list[tuple[Any, ...]] = []
        self._parts: dict[str, list[tuple[Any, ...]]] = {part: [] for part in PARTS}
        self._next = 0

    def add(
        self,
        n: int | None,
        name: str,
        kind: int,
        stamp: int | None,
        labelled: int,
        problem: str | None,
        row: Row,
    ) -> None:
        if not self._next:
            found = self._db.execute("SELECT max(n) FROM entry").fetchone()[0]
            self._next = (found or 0) + 1
        if n is None:
            n, self._next = self._next, self._next + 1
        elif n >= self._next:
            self._next = n + 1
        self._entries.append((n, name, kind, stamp, labelled, problem))
        self._runs.append((n, *[row.columns[column] for column in COLUMNS]))
        at = row.columns["at"]
        for part in PARTS:
            self._parts[part].append((n, at, row.parts[part]))
        if len(self._entries) >= 500:
            self.flush()

    def restart(self) -> None:
        """Other processes write entries too: number the next ones again."""
        self.flush()
        self._next = 0

    def flush(self) -> None:
        if self._entries:
            self._db.executemany(self._ENTRY, self._entries)
            self._db.executemany(self._RUN, self._runs)
            for part, rows in self._parts.items():
                insert = f"INSERT OR REPLACE INTO {part} VALUES (?, ?, ?)"  # noqa: S608
                self._db.executemany(insert, rows)
                rows.clear()
            self._entries.clear()
            self._runs.clear()


class Fields:
    """The paths of all fields seen, kept as a tree so that known ones cost next to nothing."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._tree: dict[str, Any] = {}
        self._new: list[tuple[str, ...]] = []

    def add(self, doc: dict[str, Any]) -> int:
        """Adds the paths of a document; returns how many keys it has, or fewer: of a list, only the
        first item shows whether there are keys in it.
        """
        count = 0
        stack: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
            (doc, self._tree, ())
        ]
        while stack:
            section, tree, path = stack.pop()
            count += len(section)
            if not section.keys() <= tree.keys():
                for key in section.keys() - tree.keys():
                    tree[key] = {}
                    self._new.append((*path, key))
            for key, value in section.items():
                kind = value.__class__
                if kind is dict:
                    if len(path) < 30:
                        stack.append((value, tree[key], (*path, key)))
                elif kind is list and value and value[0].__class__ in (dict, list):
                    count += _keys(value)
        return count

    def flush(self) -> None:
        if self._new:
            rows = [(STEP.join(path),) for path in self._new]
            self._db.executemany("INSERT OR IGNORE INTO field VALUES (?)", rows)
            self._new = []


def parsers(
    count: int, names: Fields | None = None
) -> tuple[Callable[[bytes, str], dict[str, Any]], Callable[[Any], str]]:
    """How to read a document, in today's schema, and how to write JSON.

    For many documents it is five times as fast. The names of all fields are added to `names`.
    """
    import json

    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def careful(data: bytes, file: str) -> dict[str, Any]:
        doc = RECORD.current(parse(data, file), file)
        if names is not None:
            names.add(doc)
        return doc

    if count < MANY or names is None:
        return careful, encode
    import orjson

    keys = re.compile(_KEY).findall

    def quick(data: bytes, file: str) -> dict[str, Any]:
        # What may be a duplicate key, or a number that it would round, is left to the careful one.
        try:
            doc = orjson.loads(data)
        except ValueError:
            return careful(data, file)
        if (
            type(doc) is dict
            and doc.get("schema") == RECORD.version
            and len(keys(data)) == names.add(doc)
            and _LONG not in data.translate(_DIGITS)
        ):
            return doc
        return careful(data, file)

    def dumps(value: Any) -> str:
        try:
            return orjson.dumps(value).decode()
        except TypeError:
            return encode(value)

    return quick, dumps


# A key, or text that ends like one: never fewer than there are keys.
_KEY = rb'"[ \t\r\n]*:'
# A whole number that does not fit 64 bits: every digit as 0, whatever may stand before as a space.
_DIGITS = bytes.maketrans(b"123456789,:[-\n\r\t", b"000000000       ")
_LONG = b" " + b"0" * 19


def _keys(value: Any) -> int:
    """How many keys there are, at any depth."""
    if type(value) is dict:
        count = len(value)
        for below in value.values():
            kind = type(below)
            if kind is dict or kind is list:
                count += _keys(below)
        return count
    return sum([_keys(item) for item in value if type(item) is dict or type(item) is list])


def make_row(doc: dict[str, Any], name: str, file: str, dumps: Callable[[Any], str]) -> Row:
    """The columns of a document. Raises StorageError for a field that is not what it must be."""
    same_id(doc, name, file)
    columns = fields.values(doc, file, dumps)
    for key in ("status", "started"):
        if columns[key] is None:
            raise StorageError("missing", file=file, field=key)
    columns["at"] = _order(columns["started"], name, file)
    parts = {key: doc.get(key) or {} for key in HOMES}
    for key, value in parts.items():
        if type(value) is not dict:
            raise StorageError("expected a mapping", file=file, field=key)
    results = parts["results"]
    # A part of its own leaves its place in the order of the fields.
    rest = {key: None if key in parts else value for key, value in doc.items()}
    return Row(
        columns,
        {
            "config": dumps(parts["config"]),
            "results": dumps({k: v for k, v in results.items() if k not in ("curve", "metrics")}),
            "metrics": dumps(results.get("metrics")),
            "facts": dumps(parts["facts"]),
            "rest": dumps(rest),
        },
    )


def _order(started: str, name: str, file: str) -> int:
    """What experiments are sorted by: their start, and within a microsecond some fixed order."""
    from zlib import crc32  # an import that a listing without new records saves

    try:
        return place_in_time(microseconds(started)) + (crc32(name.encode()) & 1023)
    except (ValueError, OverflowError):
        raise StorageError(
            f"expected a time, got {started[:40]!r}", file=file, field="started"
        ) from None
