"""The index: a table of what the files say, so that a question need not open them all.

The JSON files are the truth. `experiments/.index.sqlite` is derived from them, may be deleted at
any time and rebuilds itself: `sync` keeps it true, `database` keeps its file. Where it cannot be
written, it is in memory.
"""

from __future__ import annotations

import sqlite3
from os.path import isdir, join

from qn_tracking.errors import StorageError, printable
from qn_tracking.files import cause_of
from qn_tracking.store.database import (
    NAME,
    WAITS,
    Writing,
    connect,
    in_memory,
    is_broken,
    is_held,
)
from qn_tracking.store.fields import BY_PATH, HOMES, STEP, Column
from qn_tracking.store.sync import ROLLING, Sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeVar

    from qn_tracking.store.where import Path

    T = TypeVar("T")

WHERE_INDEXES = 24
NO_FOLDER = "--experiments-dir names another; a run that is recorded makes it"
_held: set[str] = set()
"""Folders whose index another process held when it was last asked for."""


def consult(
    experiments: str,
    ask: Callable[[Index], T],
    *,
    fresh: bool = False,
    warn: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> T:
    """Asks the index something, after it has looked whether it is still true.

    A broken index is thrown away and rebuilt; where none can be written, or another process holds
    it for seconds, one is made in memory, with a warning. Raises StorageError if there is no such
    folder.
    """
    if not isdir(experiments):
        raise StorageError("no such folder", file=experiments, hint=NO_FOLDER)
    cause = ""
    # The next question of a command need not wait once more.
    told = experiments in _held
    waits, discard = [0.0] if told else list(WAITS), False
    while True:
        db = None
        try:
            db = connect(experiments, discard=discard, wait=waits[0])
            index = Index(experiments, db, writable=True)
            index.sync.run(fresh=fresh, progress=progress)
            _held.discard(experiments)
            return ask(index)
        except (sqlite3.Error, OSError) as error:
            if is_held(error):
                cause = "another process holds it"
                _held.add(experiments)
                if len(waits) == 1:
                    break
                waits.pop(0)
                if warn is not None:
                    warn(f"{join(experiments, NAME)}: {cause}; waiting {waits[0]:.1f} s for it")
            elif isinstance(error, OSError):
                cause = cause_of(error)
                break
            else:
                cause = str(error)
                if discard or not is_broken(error):
                    break
                discard = True
        finally:
            if db is not None:
                db.close()
    db = in_memory(experiments, copy=not fresh)
    try:
        index = Index(experiments, db, writable=False)
        try:
            index.sync.run(fresh=fresh, progress=progress)
        except sqlite3.Error:
            db.close()
            db = in_memory(experiments, copy=False)
            index = Index(experiments, db, writable=False)
            index.sync.run(progress=progress)
        if warn is not None and not told:
            warn(f"{join(experiments, NAME)}: {cause}; indexing in memory, for this once")
        return ask(index)
    except sqlite3.Error as error:
        raise StorageError(str(error), file=join(experiments, NAME)) from None
    finally:
        db.close()


class Index:
    """What can be asked of the index of one folder; made by `consult`."""

    def __init__(self, experiments: str, db: sqlite3.Connection, *, writable: bool) -> None:
        self.experiments = experiments
        self.db = db
        self.sync = Sync(experiments, db, writable=writable)
        self._record: frozenset[str] = frozenset()

    def problems(self) -> list[tuple[str, str]]:
        """Names of what cannot be read, and the line that says why."""
        folder = printable(join(self.experiments, ""))
        # Sorted here: SQLite would rather walk all names in order than find these by their index.
        rows = self.db.execute("SELECT name, problem FROM entry WHERE problem IS NOT NULL")
        return sorted((name, folder + problem) for name, problem in rows)

    def total(self) -> int:
        """How many experiments there are, with those that have no record."""
        found = self.db.execute("SELECT count(*) FROM run").fetchone()
        return int(found[0])

    def names(self, prefix: str, limit: int) -> list[str]:
        """Names of entries that begin so, in order."""
        rows = self.db.execute(
            "SELECT name FROM entry WHERE name >= ? AND name < ? AND stamp IS NOT -1"
            " ORDER BY name LIMIT ?",
            (prefix, prefix + "\U0010ffff", limit),
        )
        return [name for (name,) in rows]

    def newest(self, number: int) -> str | None:
        """The id of the latest (1), the one before (2), …"""
        row = self.db.execute(
            "SELECT id FROM run ORDER BY at DESC LIMIT 1 OFFSET ?", (number - 1,)
        ).fetchone()
        return row[0] if row else None

    def kind(self, name: str) -> int | None:
        """What an entry is; None if there is none."""
        row = self.db.execute("SELECT kind FROM entry WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def fields(self) -> list[Path]:
        """The paths of all fields that any document has."""
        return [tuple(path.split(STEP)) for (path,) in self.db.execute("SELECT path FROM field")]

    @property
    def record(self) -> frozenset[str]:
        """The names of the fields of a record: those that the stored records have."""
        if not self._record:
            rows = self.db.execute("SELECT path FROM field WHERE instr(path, ?) = 0", (STEP,))
            self._record = frozenset(name for (name,) in rows)
        return self._record

    def resolve(self, path: Path) -> Path:
        """From the record to a field that `where.field` has read.

        `config.brain` is `config.data.brain`, as nothing else of a configuration has that name.
        """
        from qn_tracking.store import where

        path = where.resolve(path, self.record)
        if path[0] == "config" and len(path) > 1 and not self._has(path):
            inner = ("config", "data", *path[1:])
            return inner if self._has(inner) else path
        return path

    def shown(self, path: Path) -> str:
        """A path as `--where` would take it."""
        from qn_tracking.store import where

        return where.shown(path, self.record)

    def find(self, path: Path) -> Column:
        """Where a field is kept. Raises UsageError if no document has it, naming the near ones."""
        from qn_tracking.errors import UsageError
        from qn_tracking.store import where

        path = self.resolve(path)
        if not self._has(path) and self.record:
            hint = where.near(path, self.fields(), self.record)
            raise UsageError(f"no stored field {self.shown(path)}", file="--where", hint=hint)
        field = BY_PATH.get(path)
        if field is not None:
            return Column("run", f'run."{field.name}"', None)
        top = next(step for step in path if type(step) is str)
        table, inner = (top, path[1:]) if top in HOMES else ("rest", path)
        doc = f"{table}.doc"
        if path[:2] == ("results", "curve"):
            table, doc, inner = "run", "run.curve", path[2:]
        elif path[:2] == ("results", "metrics"):
            table, doc, inner = "metrics", "metrics.doc", path[2:]
        elif top == "tags":
            table, doc, inner = "run", "run.tags", path[1:]
        literal = where.json_path(inner)
        return Column(table, f"json_extract({doc}, {literal})", f"json_type({doc}, {literal})")

    def values(self, column: Column, rows: Sequence[int] | None = None) -> dict[int, Any]:
        """A field by the number of the row: of these rows, or of all."""
        kind = column.kind or "NULL"
        sql = f"SELECT n, {column.expression}, {kind} FROM {column.table}"  # noqa: S608
        if rows is None or len(rows) > 5000:
            return {n: _value(value, kind) for n, value, kind in self.db.execute(sql)}
        out: dict[int, Any] = {}
        for i in range(0, len(rows), 500):
            some = rows[i : i + 500]
            marks = ",".join("?" * len(some))
            for n, value, kind in self.db.execute(f"{sql} WHERE n IN ({marks})", some):
                out[n] = _value(value, kind)
        return out

    def _has(self, path: Path) -> bool:
        names = []
        for step in path:
            if type(step) is int:
                break
            names.append(step)
        if path[0] == "tags" and len(path) == 2:
            return True  # labels may hold any
        found = self.db.execute("SELECT 1 FROM field WHERE path = ?", (STEP.join(names),))
        return found.fetchone() is not None

    def index_field(self, column: Column) -> None:
        """Makes an index for a field, so that the next question about it is fast."""
        if not self.sync.writable or column.kind is None or self.total() < ROLLING:
            return
        from zlib import crc32  # an import that a plain listing saves

        name = f"where_{crc32(column.expression.encode()):08x}"
        made = [
            row[0]
            for row in self.db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'where_%'"
                " ORDER BY rowid"
            )
        ]
        if name in made:
            return
        bare = column.expression.replace(f"{column.table}.", "", 1)
        with Writing(self.db):
            for old in made[: len(made) - WHERE_INDEXES + 1 if len(made) >= WHERE_INDEXES else 0]:
                self.db.execute(f"DROP INDEX IF EXISTS {old}")
            self.db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {column.table}({bare}, at)")

    def results(self, prefix: str) -> Iterator[dict[str, Any]]:
        """The results of the experiments whose names begin so, with `id`, `status` and `seed`."""
        import orjson  # of 10,000 runs json takes three times as long

        rows = self.db.execute(
            "SELECT r.id, r.status, r.seed, r.wall_seconds, r.curve, s.doc, m.doc"
            " FROM entry e JOIN run r ON r.n = e.n JOIN results s ON s.n = e.n"
            " JOIN metrics m ON m.n = e.n WHERE e.name >= ? AND e.name < ? ORDER BY e.name",
            (prefix, prefix + "\U0010ffff"),
        )
        for id, status, seed, wall_seconds, curve, doc, metrics in rows:
            results = orjson.loads(doc) or {}
            results["metrics"] = orjson.loads(metrics) or {}
            results["curve"] = orjson.loads(curve) if curve else []
            about = {"id": id, "status": status, "seed": seed, "wall_seconds": wall_seconds}
            yield {**about, "results": results}

    def documents(self, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Whole documents, with the labels that were added as `labels`."""
        import json

        out = {}
        for n in numbers:
            row = self.db.execute(
                "SELECT t.doc, c.doc, s.doc, f.doc, r.curve, r.labels, m.doc"
                " FROM rest t JOIN config c ON c.n = t.n JOIN results s ON s.n = t.n"
                " JOIN metrics m ON m.n = t.n JOIN facts f ON f.n = t.n JOIN run r ON r.n = t.n"
                " WHERE t.n = ?",
                (n,),
            ).fetchone()
            if row is None:
                continue
            rest = json.loads(row[0])
            results = json.loads(row[2])
            of = {"curve_of": results.pop("curve_of")} if "curve_of" in results else {}
            metrics = json.loads(row[6])
            results |= {"metrics": metrics} if metrics is not None else {}
            results |= {"curve": json.loads(row[4])} if row[4] is not None else {}
            results |= of
            parts = {"config": json.loads(row[1]), "results": results, "facts": json.loads(row[3])}
            doc = {key: parts.get(key, value) for key, value in rest.items()}
            doc["labels"] = json.loads(row[5]) if row[5] else {"tags": {}, "notes": []}
            out[n] = doc
        return out


def _value(value: Any, kind: str | None) -> Any:
    """What SQLite has taken out of JSON, as Python has it."""
    if kind in ("true", "false"):
        return kind == "true"
    if kind in ("array", "object"):
        import json

        return json.loads(value)
    return value
