"""The index: a table of what the files say, so that a question need not open them all.

The JSON files are the truth. `experiments/.index.sqlite` is derived from them, may be deleted at
any time and rebuilds itself. Whether it is still true is asked at every use, the cheapest question
first:

- The folder's times tell whether a name came, went or was replaced. They are taken *before* the
  folder is listed; both mtime and ctime count; and times younger than two seconds are not trusted,
  for a change in the same tick would leave them alone.
- An edit in place leaves the folder alone. So the rows to be printed are looked at each time, and
  of the others a rolling 2,000 more: 100,000 are all seen in 50 calls, or at once with `fresh`.
- Runs without a record are looked at each time, until they have crashed; new ones are found by the
  times of `experiments/runs/`.

It is a rollback-journal database with the journal truncated, not deleted: WAL would make and delete
files in the very folder whose times tell what is new. Where it cannot be written, it is in memory.
"""

from __future__ import annotations

import os
import sqlite3
import time
from os.path import isdir, join
from zlib import crc32

from qn_tracking.errors import QnError, StorageError, printable
from qn_tracking.ids import is_id
from qn_tracking.store.entry import (
    HOMES,
    PARTS,
    STEP,
    Fields,
    Row,
    Rows,
    join_labels,
    make_row,
    parsers,
)
from qn_tracking.store.where import RECORD, Column, json_path, near, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeVar

    from qn_tracking.store.where import Path

    T = TypeVar("T")

NAME = ".index.sqlite"
YOUNG_NS = 2_000_000_000
ROLLING = 2000
WAIT_SECONDS = 120.0
WHERE_INDEXES = 24

GOOD, ACTIVE, CRASHED, BAD = range(4)
"""What an entry is: a record; a run that is going on or unknown; one that died; a bad file."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entry (
  n INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL,
  stamp INTEGER, labelled INTEGER NOT NULL DEFAULT 0, problem TEXT
);
CREATE TABLE run (
  n INTEGER PRIMARY KEY, at INTEGER NOT NULL, id TEXT NOT NULL, status TEXT, started TEXT,
  wall REAL, runs INTEGER, seed INTEGER, environment TEXT, brain TEXT, family TEXT,
  label TEXT, label_key TEXT, digest TEXT, "commit" TEXT, dirty INTEGER,
  episodes INTEGER, steps INTEGER, success REAL, reward REAL,
  tags TEXT, notes TEXT, labels TEXT, curve TEXT, curve_of TEXT
);
CREATE TABLE config  (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE TABLE results (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE TABLE metrics (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE TABLE facts   (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE TABLE rest    (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE TABLE field (path TEXT PRIMARY KEY) WITHOUT ROWID;
"""
VERSION = crc32(_TABLES.encode(), 2) >> 1
"""Of the tables: an index of any other is made anew."""
# Each with the order of listing behind it: the newest of what an index finds need no sorting.
_INDEXES = """
CREATE INDEX IF NOT EXISTS entry_open ON entry(n) WHERE kind = 1;
CREATE INDEX IF NOT EXISTS entry_problem ON entry(n) WHERE problem IS NOT NULL;
CREATE INDEX IF NOT EXISTS run_at ON run(at);
CREATE INDEX IF NOT EXISTS run_status ON run(status, at);
CREATE INDEX IF NOT EXISTS run_seed ON run(seed, at);
CREATE INDEX IF NOT EXISTS run_environment ON run(environment, at);
CREATE INDEX IF NOT EXISTS run_brain ON run(brain, at);
CREATE INDEX IF NOT EXISTS run_family ON run(family, at);
CREATE INDEX IF NOT EXISTS run_label ON run(label_key, at);
CREATE INDEX IF NOT EXISTS run_digest ON run(digest, at);
CREATE INDEX IF NOT EXISTS run_commit ON run("commit", at);
CREATE INDEX IF NOT EXISTS run_dirty ON run(dirty, at);
CREATE INDEX IF NOT EXISTS run_success ON run(success, at);
CREATE INDEX IF NOT EXISTS run_reward ON run(reward, at);
"""
_FIELD_COLUMNS = {
    ("id",): "id",
    ("status",): "status",
    ("seed",): "seed",
    ("subject", "environment"): "environment",
    ("subject", "brain"): "brain",
    ("subject", "family"): "family",
    ("config", "digest"): "digest",
    ("results", "success_rate"): "success",
    ("results", "avg_reward"): "reward",
    ("notes",): "notes",
}


def consult(
    experiments: str,
    ask: Callable[[Index], T],
    *,
    fresh: bool = False,
    warn: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> T:
    """Asks the index something, after it has looked whether it is still true.

    A broken index is thrown away and rebuilt; where none can be written, one is made in memory,
    with a warning. Raises StorageError if there is no such folder.
    """
    if not isdir(experiments):
        raise StorageError("no such folder", file=experiments)
    cause = ""
    for attempt in range(2):
        db = None
        try:
            db = _open(experiments, discard=attempt > 0)
            index = Index(experiments, db, writable=True)
            index.sync(fresh=fresh, progress=progress)
            return ask(index)
        except sqlite3.Error as error:
            cause = str(error)
            if not _broken(error):
                break
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            break
        finally:
            if db is not None:
                db.close()
    db = _in_memory(experiments, copy=not fresh)
    try:
        index = Index(experiments, db, writable=False)
        try:
            index.sync(fresh=fresh, progress=progress)
        except sqlite3.Error:
            db.close()
            db = _in_memory(experiments, copy=False)
            index = Index(experiments, db, writable=False)
            index.sync(progress=progress)
        if warn is not None:
            warn(f"{join(experiments, NAME)}: {cause}; indexing in memory, for this once")
        return ask(index)
    except sqlite3.Error as error:
        raise StorageError(str(error), file=join(experiments, NAME)) from None
    finally:
        db.close()


def _broken(error: sqlite3.Error) -> bool:
    """Whether the file is to blame, and not the disk, a lock or a permission."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_FORMAT"))


def _open(experiments: str, *, discard: bool) -> sqlite3.Connection:
    path = join(experiments, NAME)
    if not discard:
        try:
            db = _connect(path, "rw")
            try:
                # An index of another version, or an empty file, is made anew.
                if db.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                    return db
            except BaseException:
                db.close()
                raise
            db.close()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorname", "") != "SQLITE_CANTOPEN" or not _creatable(path):
                raise
    return _make(experiments, path, discard)


def _creatable(path: str) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _connect(path: str, mode: str) -> sqlite3.Connection:
    name = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(
        f"file:{name}?mode={mode}", uri=True, timeout=WAIT_SECONDS, isolation_level=None
    )


def _make(experiments: str, path: str, discard: bool) -> sqlite3.Connection:
    """A database with empty tables, made by one process at a time."""
    import fcntl

    lock = os.open(join(experiments, ".index.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if discard and not _sound(path):
            for name in (path, path + "-journal"):
                try:  # noqa: SIM105  contextlib costs a listing two milliseconds
                    os.unlink(name)
                except FileNotFoundError:
                    pass
        _ignored(experiments)
        db = _connect(path, "rwc")
        try:
            db.execute("PRAGMA journal_mode = TRUNCATE")
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                old = "SELECT name FROM sqlite_master WHERE type = 'table'"
                for (table,) in db.execute(old + " AND name NOT LIKE 'sqlite%'").fetchall():
                    quoted = table.replace('"', '""')
                    db.execute(f'DROP TABLE "{quoted}"')
                _create(db)
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db
    finally:
        os.close(lock)


def _sound(path: str) -> bool:
    """Whether another process has rebuilt the index since we found it broken."""
    try:
        db = _connect(path, "rw")
    except sqlite3.Error:
        return False
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            return False
        for table in ("meta", "entry", "run", "field", *PARTS):
            db.execute(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608
        return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error:
        return False
    finally:
        db.close()


def _create(db: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";"):
        if statement.strip():
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")


def _ignored(experiments: str) -> None:
    """Keeps the index out of git, also where no run has ever been tracked."""
    name = join(experiments, ".gitignore")
    if not os.path.lexists(name):
        from qn_tracking.store import paths
        from qn_tracking.store.write import publish

        try:  # noqa: SIM105
            publish(name, paths.IGNORED.encode())
        except StorageError:
            pass


def _in_memory(experiments: str, *, copy: bool) -> sqlite3.Connection:
    """An index in memory; a copy of the one on disk if that can be read."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    path = join(experiments, NAME)
    if copy and os.path.isfile(path):
        try:
            source = _connect(path, "ro")
            try:
                source.execute("PRAGMA busy_timeout = 2000")
                if source.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                    source.backup(db)
                    return db
            finally:
                source.close()
        except sqlite3.Error:
            db.close()
            db = sqlite3.connect(":memory:", isolation_level=None)
    _create(db)
    return db


# ------------------------------------------------------------------------------------------ stamps


def _stamp(info: os.stat_result) -> int:
    """A file's times, size and number as one integer; what is replaced or edited changes it."""
    return hash((info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino))


def _young(info: os.stat_result) -> bool:
    """Whether a change in the same tick could have left these times alone."""
    return info.st_ctime_ns > time.time_ns() - YOUNG_NS


def _folder_stamp(path: str) -> tuple[int, bool]:
    try:
        info = os.stat(path)
    except OSError:
        return 0, False
    # The size of a folder is no more than its times are.
    return hash((info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev)), _young(info)


def _labels_stamp(experiments: str, name: str) -> int:
    try:
        return _stamp(os.stat(f"{experiments}/runs/{name}/labels.json"))
    except OSError:
        return 0


# ------------------------------------------------------------------------------------------- index


class Index:
    """One connection to the index of one folder; made by `consult`."""

    def __init__(self, experiments: str, db: sqlite3.Connection, *, writable: bool) -> None:
        self.experiments = experiments
        self.db = db
        self.writable = writable
        self._ready = False

    # --------------------------------------------------------------------------------------- true?

    def sync(
        self, *, fresh: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Takes in whatever has changed since."""
        # The folders first: what changes while they are listed will be seen by the next call.
        folder, folder_young = _folder_stamp(self.experiments)
        runs, runs_young = _folder_stamp(join(self.experiments, "runs"))
        meta = dict(self.db.execute("SELECT key, value FROM meta"))
        changed = fresh or meta.get("folder") != folder
        if changed or meta.get("runs") != runs:
            with _Writing(self):
                gone, recorded = False, None
                if changed:
                    gone, recorded = self._check_all(fresh, progress)
                if gone or fresh or meta.get("runs") != runs:
                    self._check_runs(fresh, recorded)
                self._remember("folder", None if folder_young else folder)
                self._remember("runs", None if runs_young else runs)
                self._index()
        else:
            self._roll(meta.get("cursor") or 0)
        self._check_active()

    def _remember(self, key: str, value: int | None) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _index(self) -> None:
        for statement in _INDEXES.split(";"):
            if statement.strip():
                self.db.execute(statement)

    def _check_all(
        self, fresh: bool, progress: Callable[[int, int], None] | None
    ) -> tuple[bool, set[str]]:
        """Compares every file with its entry; tells whether any has vanished, and all names."""
        known = self._known()
        recorded = set(known)
        todo: list[str] = []
        take, look = known.pop, os.stat
        folder = os.open(self.experiments, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Faster than scandir by a sixth: this loop is what noticing one file of many costs.
            for file in os.listdir(folder):
                if file[-5:] != ".json" or file[0] == ".":
                    continue
                name = file[:-5]
                old = take(name, None)
                if old == -1:  # no id, and that will not change
                    continue
                if old is not None:
                    try:
                        info = look(file, dir_fd=folder)
                        if old == hash(
                            (info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino)
                        ):
                            continue
                    except OSError:  # gone since, or a loop of links: reading says what it is
                        pass
                elif not is_id(name):
                    key = printable(name)
                    if take(key, None) is None:
                        self._set_bad(key, None, -1, f"{key}.json: its name is not an id")
                    continue
                todo.append(name)
        finally:
            os.close(folder)
        recorded.difference_update(known)
        recorded.update(todo)
        gone = self._numbers(known)
        self._delete(list(gone.values()))
        numbers = self._numbers(todo)
        self._read([(name, numbers.get(name)) for name in todo], progress)
        if fresh:
            self._relabel([name for _, name, _, _ in self._entries("")])
        return bool(gone), recorded

    def _known(self) -> dict[str, int]:
        """The stamps of all files, by name; 0 where it is not to be trusted."""
        # Two long texts are fetched in a third of the time that 100,000 rows take.
        names, stamps = self.db.execute(
            "SELECT group_concat(name, '\n'), group_concat(ifnull(stamp, 0), ' ')"
            " FROM entry WHERE kind IN (0, 3)"
        ).fetchone()
        if names is None:
            return {}
        return dict(zip(names.split("\n"), map(int, stamps.split(" ")), strict=True))

    def _numbers(self, names: Iterable[str]) -> dict[str, int]:
        """The numbers of those that have an entry, of whatever kind."""
        out = {}
        for name in names:
            row = self.db.execute("SELECT n FROM entry WHERE name = ?", (name,)).fetchone()
            if row is not None:
                out[name] = row[0]
        return out

    def _check_runs(self, fresh: bool, recorded: set[str] | None) -> None:
        """Finds runs without a record that came or went."""
        try:
            names = set(os.listdir(join(self.experiments, "runs")))
        except OSError:
            names = set()
        names.difference_update(self._known() if recorded is None else recorded)
        known = {name: n for n, name, _, _ in self._entries("WHERE kind IN (1, 2)")}
        self._delete([n for name, n in known.items() if name not in names])
        for name in sorted(names):
            if (name not in known or fresh) and is_id(name):
                self._survey(name, known.get(name), None)

    def _check_active(self) -> None:
        """Looks how the runs stand that were going on, or that nobody could tell."""
        active = list(self._entries("WHERE kind = 1"))
        if not active:
            return
        from qn_tracking.store.unfinished import survey

        changed = []
        for n, name, _, stamp in active:
            found = survey(self.experiments, name, stamp)
            if found is None or found.signature != stamp or found.final:
                changed.append((name, n))
        if changed:
            with _Writing(self):
                for name, n in changed:
                    self._survey(name, n, None)

    def _roll(self, cursor: int) -> None:
        """Looks at the next so many files for an edit in place."""
        rows = self.db.execute(
            "SELECT n, name, kind, stamp FROM entry WHERE n > ? ORDER BY n LIMIT ?",
            (cursor, ROLLING),
        ).fetchall()
        stale = self._stale(rows)
        if stale:
            with _Writing(self):
                self._read([(name, n) for n, name in stale], None)
                self._index()
        last = rows[-1][0] if len(rows) == ROLLING else 0
        if last != cursor and self.writable:
            try:
                # Nothing depends on it, so it waits for nobody and is not synced.
                self.db.execute("PRAGMA busy_timeout = 0")
                self.db.execute("PRAGMA journal_mode = TRUNCATE")
                self.db.execute("PRAGMA synchronous = OFF")
                self._remember("cursor", last)
            except sqlite3.OperationalError:
                pass
            finally:
                self.db.execute(f"PRAGMA busy_timeout = {int(WAIT_SECONDS * 1000)}")
                self.db.execute("PRAGMA synchronous = NORMAL")

    def _stale(self, rows: Iterable[tuple[int, str, int, int | None]]) -> list[tuple[int, str]]:
        """Those whose file is not what the entry says."""
        stale = []
        try:
            folder = os.open(self.experiments, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            for n, name, kind, old in rows:
                if kind not in (GOOD, BAD) or old == -1:
                    continue
                try:
                    info = os.stat(name + ".json", dir_fd=folder)
                    now = hash((info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino))
                except OSError:
                    now = 0
                if now != old:
                    stale.append((n, name))
        finally:
            os.close(folder)
        return stale

    def still_true(self, names: Sequence[str]) -> bool:
        """Looks at the files and labels of rows to be shown; takes in what has changed."""
        marks = ",".join("?" * len(names))
        rows = self.db.execute(
            f"SELECT n, name, kind, stamp, labelled FROM entry WHERE name IN ({marks})",  # noqa: S608
            tuple(names),
        ).fetchall()
        stale = self._stale(row[:4] for row in rows)
        # A file that was read a moment ago is as young as it was; it is only read again.
        labels = [row[1] for row in rows if row[4] != _labels_stamp(self.experiments, row[1])]
        dead = [(row[0], row[1], row[3]) for row in rows if row[2] == CRASHED]
        if dead:
            from qn_tracking.store.unfinished import CRASHED as STATUS, signature

            dead = [d for d in dead if d[2] != signature(self.experiments, d[1], STATUS)]
        if not stale and not labels and not dead:
            return True
        with _Writing(self):
            changed = self._read([(name, n) for n, name in stale], None)
            again = {name for _, name in stale}
            changed |= self._relabel([name for name in labels if name not in again])
            for n, name, _ in dead:
                self._survey(name, n, None)
        return not changed and not dead

    def relabel(self, names: Sequence[str]) -> None:
        """Takes in labels that we have changed."""
        with _Writing(self):
            self._relabel(names)

    def _entries(self, where: str) -> Iterable[tuple[int, str, int, int | None]]:
        return self.db.execute(f"SELECT n, name, kind, stamp FROM entry {where}").fetchall()  # noqa: S608

    # ----------------------------------------------------------------------------------- taking in

    def _read(
        self,
        todo: Sequence[tuple[str, int | None]],
        progress: Callable[[int, int], None] | None,
    ) -> bool:
        """Reads files into entries; True if any of them says something new."""
        if not todo:
            return False
        from qn_tracking.store.read import load

        fields = Fields(self.db)
        parse, dumps = parsers(len(todo), fields)
        rows = Rows(self.db)
        changed = False
        for count, (name, n) in enumerate(sorted(todo)):
            if progress is not None and count % 500 == 0:
                progress(count, len(todo))
            file = f"{self.experiments}/{name}.json"
            stamp: int | None = None
            try:
                data, info = load(file)
                stamp = None if _young(info) else _stamp(info)
                doc = parse(data, file)
                row = make_row(doc, name, file, dumps)
            except FileNotFoundError:
                if n is not None:
                    self._delete([n])
                    changed = True
                continue
            except QnError as error:
                changed = True
                if stamp is None:
                    stamp = self._stamp_of_bad(name)
                rows.restart()
                self._set_bad(name, n, stamp, self._relative(error))
                continue
            if n is not None:
                if not changed:
                    changed = not self._same(n, row)
                self._delete([n])
            labels, labelled, problem = self._labels(name)
            row.label(labels, dumps)
            rows.add(n, name, GOOD, stamp, labelled, problem, row)
            changed = changed or n is None
        rows.flush()
        fields.flush()
        if progress is not None and todo:
            progress(len(todo), len(todo))
        return changed

    def _stamp_of_bad(self, name: str) -> int | None:
        try:
            info = os.stat(f"{self.experiments}/{name}.json")
        except OSError:
            return 0  # as `_stale` has it
        return None if _young(info) else _stamp(info)

    def _same(self, n: int, row: Row) -> bool:
        """Whether an entry that was young says just what it said."""
        for part in PARTS:
            found = self.db.execute(f"SELECT doc FROM {part} WHERE n = ?", (n,)).fetchone()  # noqa: S608
            if found is None or found[0] != row.parts[part]:
                return False
        found = self.db.execute("SELECT curve FROM run WHERE n = ?", (n,)).fetchone()
        return found is not None and found[0] == row.columns["curve"]

    def _set_bad(self, name: str, n: int | None, stamp: int | None, problem: str) -> None:
        if n is not None:
            self._delete([n])
        self.db.execute(
            "INSERT OR REPLACE INTO entry(n, name, kind, stamp, problem) VALUES (?, ?, ?, ?, ?)",
            (n, name, BAD, stamp, problem),
        )

    def _survey(self, name: str, n: int | None, known: int | None) -> None:
        """Takes in how a run without a record stands."""
        from qn_tracking.store import paths
        from qn_tracking.store.unfinished import survey

        found = survey(self.experiments, name, known)
        if n is not None:
            self._delete([n])
        if found is None:
            if os.path.lexists(paths.record(self.experiments, name)):
                self._read([(name, None)], None)  # it ended just now
            return
        file = paths.run_folder(self.experiments, name)
        _, dumps = parsers(1)
        problem = None if found.problem is None else self._relative(found.problem)
        try:
            row = make_row(found.doc, name, file, dumps)
        except QnError as error:
            problem = problem or self._relative(error)
            bare = {k: found.doc[k] for k in ("schema", "id", "status", "results")}
            row = make_row({**bare, "started": "1970-01-01T00:00:00Z"}, name, file, dumps)
        labels, labelled, fault = self._labels(name)
        row.label(labels, dumps)
        fields = Fields(self.db)
        fields.add(found.doc)
        fields.flush()
        kind = CRASHED if found.final else ACTIVE
        rows = Rows(self.db)
        rows.add(n, name, kind, found.signature, labelled, problem or fault, row)
        rows.flush()

    def _labels(self, name: str) -> tuple[dict[str, Any] | None, int, str | None]:
        labelled = _labels_stamp(self.experiments, name)
        if not labelled:
            return None, 0, None
        from qn_tracking.store import labels

        try:
            return labels.read(self.experiments, name), labelled, None
        except StorageError as error:
            return None, labelled, self._relative(error)

    def _relative(self, problem: object) -> str:
        """What is wrong with a file, named from within our folder: it may be called otherwise."""
        return str(problem).removeprefix(printable(join(self.experiments, "")))

    def _relabel(self, names: Iterable[str]) -> bool:
        """Takes in labels that have changed."""
        import json

        _, dumps = parsers(1)
        changed = False
        for name in names:
            found = self.db.execute(
                "SELECT e.n, e.labelled, t.doc, e.kind FROM entry e JOIN rest t ON t.n = e.n"
                " WHERE e.name = ?",
                (name,),
            ).fetchone()
            if found is None or found[1] == _labels_stamp(self.experiments, name):
                continue
            changed = True
            labels, labelled, problem = self._labels(name)
            doc = json.loads(found[2])
            tags, notes, text = join_labels(doc.get("tags") or {}, doc.get("notes"), labels, dumps)
            self.db.execute(
                "UPDATE run SET tags = ?, notes = ?, labels = ? WHERE n = ?",
                (tags, notes, text, found[0]),
            )
            self.db.execute(
                "UPDATE entry SET labelled = ?, problem = ? WHERE n = ?",
                (labelled, problem, found[0]),
            )
        return changed

    def _delete(self, numbers: Sequence[int]) -> None:
        if numbers:
            for table in ("entry", "run", *PARTS):
                delete = f"DELETE FROM {table} WHERE n = ?"  # noqa: S608
                self.db.executemany(delete, [(n,) for n in numbers])

    # -------------------------------------------------------------------------------------- asking

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

    def find(self, path: Path) -> Column:
        """Where a field is kept. Raises UsageError if no document has it, naming the near ones."""
        from qn_tracking.errors import UsageError

        names = [step for step in path if type(step) is str]
        if not self._has(path) and self.db.execute("SELECT 1 FROM field LIMIT 1").fetchone():
            raise UsageError(
                f"no stored field {shown(path)}", file="--where", hint=near(path, self.fields())
            )
        column = _FIELD_COLUMNS.get(path)
        if column is not None:
            return Column("run", f'run."{column}"', None)
        top = names[0]
        table, inner = (top, path[1:]) if top in HOMES else ("rest", path)
        doc = f"{table}.doc"
        if path[:2] == ("results", "curve"):
            table, doc, inner = "run", "run.curve", path[2:]
        elif path[:2] == ("results", "metrics"):
            table, doc, inner = "metrics", "metrics.doc", path[2:]
        elif top == "tags":
            table, doc, inner = "run", "run.tags", path[1:]
        literal = json_path(inner)
        return Column(table, f"json_extract({doc}, {literal})", f"json_type({doc}, {literal})")

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
        """Makes a field that is asked for the first time fast for all time."""
        if not self.writable or column.kind is None or self.total() < ROLLING:
            return
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
        with _Writing(self):
            for old in made[: len(made) - WHERE_INDEXES + 1 if len(made) >= WHERE_INDEXES else 0]:
                self.db.execute(f"DROP INDEX IF EXISTS {old}")
            self.db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {column.table}({bare}, at)")

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
            doc = {**rest, "config": json.loads(row[1]), "facts": json.loads(row[3])}
            doc["results"] = results
            ordered = {key: doc[key] for key in RECORD if key in doc}
            doc = {**ordered, **{key: doc[key] for key in doc if key not in ordered}}
            doc["labels"] = json.loads(row[5]) if row[5] else {"tags": {}, "notes": []}
            out[n] = doc
        return out


class _Writing:
    """A transaction that writes; the disk is synced at its end, where there is one."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def __enter__(self) -> None:
        db = self._index.db
        if not self._index._ready:
            db.execute("PRAGMA journal_mode = TRUNCATE")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA cache_size = -65536")
            self._index._ready = True
        db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        db = self._index.db
        if error is None:
            db.execute("COMMIT")
        elif db.in_transaction:
            db.execute("ROLLBACK")
