"""What the index keeps of a document: the columns of its row, its parts, the fields it has."""

from __future__ import annotations

import re
from zlib import crc32

from qn_tracking.errors import StorageError
from qn_tracking.ids import microseconds as microseconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

MANY = 200
"""More new records than this are worth the import of a faster parser."""
PARTS = ("config", "results", "metrics", "facts", "rest")
"""A document is kept in parts, for a question about one field reads only the part that holds it."""

STEP = "\x1f"
"""Between the names of a path; no name has it."""
HOMES = ("config", "results", "facts")
"""Fields of a record that have a part of their own."""
COLUMNS = [
    "at",
    "id",
    "status",
    "started",
    "wall",
    "planned",
    "seed",
    "environment",
    "brain",
    "family",
    "label",
    "label_key",
    "digest",
    "commit",
    "dirty",
    "episodes",
    "steps",
    "success",
    "reward",
    "tags",
    "notes",
    "labels",
    "curve",
    "curve_of",
]


class Row:
    """A document as the index keeps it."""

    __slots__ = ("columns", "parts", "tags")

    def __init__(self, columns: dict[str, Any], parts: dict[str, str], tags: Any) -> None:
        self.columns = columns
        self.parts = parts
        self.tags = tags

    def label(self, labels: dict[str, Any] | None, dumps: Callable[[Any], str]) -> None:
        columns = self.columns
        tags, notes, text = join_labels(self.tags, columns["notes"], labels, dumps)
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
        """Others write entries, too: whatever comes next is numbered anew."""
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
        """Takes in the paths of a document; returns how many keys it has, or fewer: of a list, it
        looks into the first item to tell whether there are keys in it.
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
    count: int, fields: Fields | None = None
) -> tuple[Callable[[bytes, str], dict[str, Any]], Callable[[Any], str]]:
    """How to read a document and to write JSON: for many documents, five times as fast."""
    import json

    from qn_tracking.store.read import parse

    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    if fields is None:
        return parse, encode

    def careful(data: bytes, file: str) -> dict[str, Any]:
        doc = parse(data, file)
        fields.add(doc)
        return doc

    if count < MANY:
        return careful, encode
    import orjson

    def quick(data: bytes, file: str) -> dict[str, Any]:
        # What may be a duplicate key, or a number that it would round, is left to the careful one.
        try:
            doc = orjson.loads(data)
        except ValueError:
            return careful(data, file)
        if (
            type(doc) is dict
            and len(_KEY.findall(data)) == fields.add(doc)
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
_KEY = re.compile(rb'"[ \t\r\n]*:')
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
    from qn_tracking.records.schema import RECORD
    from qn_tracking.store.read import same_id

    doc = RECORD.current(doc, file)
    same_id(doc, name, file)

    def get(section: dict[str, Any], key: str, kinds: tuple[type, ...], where: str) -> Any:
        value = section.get(key)
        if value is not None and type(value) not in kinds:
            raise StorageError(f"unexpected {_kind(value)}", file=file, field=f"{where}{key}")
        if type(value) is int and not -(2**63) <= value < 2**63:
            raise StorageError("a number beyond 64 bits", file=file, field=f"{where}{key}")
        return value

    mapping, text, number, whole = (dict,), (str,), (int, float, str), (int,)
    subject = get(doc, "subject", mapping, "") or {}
    results = get(doc, "results", mapping, "") or {}
    config = get(doc, "config", mapping, "") or {}
    facts = get(doc, "facts", mapping, "") or {}
    tags = get(doc, "tags", mapping, "") or {}
    curve = get(results, "curve", (list,), "results.")
    started = get(doc, "started", text, "")
    status = get(doc, "status", text, "")
    if status is None:
        raise StorageError("missing", file=file, field="status")
    git = facts.get("metadata")
    git = git.get("git") if type(git) is dict else None
    git = git if type(git) is dict else {}
    commit, dirty = git.get("commit"), git.get("dirty")
    label = get(config, "label", text, "config.")
    columns = {
        "at": _order(started, name, file),
        "id": name,
        "status": status,
        "started": started,
        "wall": get(doc, "wall_seconds", (int, float), ""),
        "planned": get(doc, "episodes", whole, ""),
        "seed": get(doc, "seed", whole, ""),
        "environment": get(subject, "environment", text, "subject."),
        "brain": get(subject, "brain", text, "subject."),
        "family": get(subject, "family", text, "subject."),
        "label": label,
        "label_key": None if label is None else label_key(label),
        "digest": get(config, "digest", text, "config."),
        "commit": commit if type(commit) is str else None,
        "dirty": int(dirty) if type(dirty) is bool else None,
        "episodes": get(results, "episodes", whole, "results."),
        "steps": get(results, "total_steps", whole, "results."),
        "success": get(results, "success_rate", (int, float), "results."),
        "reward": get(results, "avg_reward", number, "results."),
        "tags": None,
        "notes": get(doc, "notes", text, ""),
        "labels": None,
        "curve": None if curve is None else dumps(curve),
        "curve_of": get(results, "curve_of", text, "results."),
    }
    rest = {k: v for k, v in doc.items() if k not in ("config", "results", "facts")}
    parts = {
        "config": dumps(config),
        "results": dumps({k: v for k, v in results.items() if k not in ("curve", "metrics")}),
        "metrics": dumps(results.get("metrics")),
        "facts": dumps(facts),
        "rest": dumps(rest),
    }
    return Row(columns, parts, tags)


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "number", float: "number", str: "text", list: "list"}
    return kinds.get(type(value), "mapping")


def label_key(label: str) -> str:
    """A configuration's name without folder and ending, as `--config` asks for it."""
    name = label.rsplit("/", 1)[-1]
    for ending in (".yml", ".yaml"):
        name = name.removesuffix(ending)
    return name


def _order(started: str | None, name: str, file: str) -> int:
    """What experiments are sorted by: their start, and within a microsecond some fixed order."""
    if started is None:
        raise StorageError("missing", file=file, field="started")
    try:
        micro = microseconds(started)
    except ValueError:
        raise StorageError(
            f"expected a time, got {started[:40]!r}", file=file, field="started"
        ) from None
    return min(max(micro, 0), 2**52) * 1024 + (crc32(name.encode()) & 1023)
