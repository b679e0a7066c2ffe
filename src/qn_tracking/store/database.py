"""The database of the index: its tables, and how it is opened, made, thrown away or kept in memory.

It is a rollback-journal database with the journal truncated, not deleted: WAL would make and delete
files in the same folder whose times show what is new.
"""

from __future__ import annotations

import os
import sqlite3
from os.path import join

from qn_tracking import files
from qn_tracking.errors import StorageError
from qn_tracking.store.fields import FIELDS, PARTS

NAME = ".index.sqlite"
WAITS = (1.0, 2.5)
"""Seconds to wait for another process that holds the index: until a word is said, and then."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entry (
  n INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL,
  stamp INTEGER, labelled INTEGER NOT NULL DEFAULT 0, problem TEXT
);
CREATE TABLE run (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, {}, labels TEXT);
CREATE TABLE config  (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE TABLE results (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE TABLE metrics (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE TABLE facts   (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE TABLE rest    (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE TABLE field (path TEXT PRIMARY KEY) WITHOUT ROWID;
""".format(", ".join(field.sql for field in FIELDS))
_NAMES = ("meta", "entry", "run", "field", *PARTS)
VERSION = int.from_bytes(_TABLES.encode(), "big") % (2**31 - 1)
"""Of the tables: an index of another version is rebuilt."""
OURS = int.from_bytes(b"qnti", "big")
"""In the header of the database: one of another program is not for us to empty."""
# Each with the order of listing behind it: the newest of what an index finds need no sorting.
_INDEXES = """
CREATE INDEX IF NOT EXISTS entry_open ON entry(n) WHERE kind = 1;
CREATE INDEX IF NOT EXISTS entry_problem ON entry(n) WHERE problem IS NOT NULL;
CREATE INDEX IF NOT EXISTS run_at ON run(at);
""" + "".join(
    f'CREATE INDEX IF NOT EXISTS run_{field.name} ON run("{field.name}", at);\n'
    for field in FIELDS
    if field.indexed
)


def is_broken(error: sqlite3.Error) -> bool:
    """Whether the file is to blame, and not the disk, a lock or a permission."""
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_FORMAT"))


def is_held(error: Exception) -> bool:
    """Whether another process holds the index."""
    name = getattr(error, "sqlite_errorname", "")
    return isinstance(error, BlockingIOError) or name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def connect(experiments: str, *, discard: bool, wait: float) -> sqlite3.Connection:
    """The database of a folder, made if there is none of our version; `discard` a broken one.

    `wait` is for how many seconds it waits for another process, each time. Raises sqlite3.Error
    and OSError, also for a database that is not ours; `is_held` is true of those after a wait.
    """
    path = join(experiments, NAME)
    _check_ours(path)
    if not discard:
        try:
            # An index of another version, or an empty file, is rebuilt.
            if (db := _of_our_version(path, "rw", wait)) is not None:
                return db
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorname", "") != "SQLITE_CANTOPEN" or not _creatable(path):
                raise
    return _make(experiments, path, discard, wait)


def left(experiments: str) -> sqlite3.Connection | None:
    """The database as it was left, only to be read; None if there is none of our version.

    Raises sqlite3.Error, also at once if another process is writing it, and OSError.
    """
    path = join(experiments, NAME)
    if not os.path.lexists(path):
        return None
    _check_ours(path)
    return _of_our_version(path, "ro", 0.0)


def _of_our_version(path: str, mode: str, wait: float) -> sqlite3.Connection | None:
    """The database that is there; None if it is of another version."""
    db = _connect(path, mode, wait)
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] == VERSION:
            return db
    except BaseException:
        db.close()
        raise
    db.close()
    return None


def _check_ours(path: str) -> None:
    """Raises OSError for a link in place of a file that SQLite would write, and for a database of
    another program.
    """
    files.check_file(path)
    files.check_file(path + "-journal")
    try:
        fd = files.open_file(path)
    except FileNotFoundError:
        return
    try:
        head = os.read(fd, 100)
    finally:
        os.close(fd)
    if head[:15] != b"SQLite format 3" or head[68:72] == OURS.to_bytes(4, "big"):
        return  # whatever else it holds, it is a cache with our name, and is rebuilt
    db = _connect(path, "ro&immutable=1", 0.0)
    try:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error:
        tables = {""}
    finally:
        db.close()
    # One that we made before it had an application_id has our tables, and an empty one has none.
    if os.path.lexists(path + "-wal") or (tables and not tables.issuperset(_NAMES)):
        raise OSError("is a database of another program; move it away")


def _creatable(path: str) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _connect(path: str, mode: str, wait: float) -> sqlite3.Connection:
    name = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(f"file:{name}?mode={mode}", uri=True, timeout=wait, isolation_level=None)


def _make(experiments: str, path: str, discard: bool, wait: float) -> sqlite3.Connection:
    """A database with empty tables, made by one process at a time."""
    lock = files.open_file(join(experiments, ".index.lock"), os.O_RDWR | os.O_CREAT)
    try:
        files.lock_soon(lock, wait)
        if discard and not _sound(path, wait):
            for name in (path, path + "-journal"):
                try:  # noqa: SIM105  contextlib costs a listing two milliseconds
                    os.unlink(name)
                except FileNotFoundError:
                    pass
        _ignored(experiments)
        db = _connect(path, "rwc", wait)
        try:
            db.execute("PRAGMA journal_mode = TRUNCATE")
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                for table in _NAMES:
                    db.execute(f"DROP TABLE IF EXISTS {table}")
                _create(db)
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db
    finally:
        os.close(lock)


def _sound(path: str, wait: float) -> bool:
    """Whether another process has rebuilt the index since we found it broken."""
    try:
        db = _connect(path, "rw", wait)
    except sqlite3.Error:
        return False
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            return False
        for table in _NAMES:
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
    db.execute(f"PRAGMA application_id = {OURS}")
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


def in_memory(experiments: str, *, copy: bool) -> sqlite3.Connection:
    """An index in memory; a copy of the one on disk if that can be read."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    path = join(experiments, NAME)
    if copy and os.path.lexists(path):
        try:
            _check_ours(path)
            source = _connect(path, "ro", 0.2)
            try:
                # A copy waits without a limit for a process that locks the file meanwhile.
                source.execute("BEGIN")
                if source.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                    source.backup(db)
                    return db
            finally:
                source.close()
        except (sqlite3.Error, OSError):
            db.close()
            db = sqlite3.connect(":memory:", isolation_level=None)
    _create(db)
    return db


def make_indexes(db: sqlite3.Connection) -> None:
    """Makes those that are not there yet; quicker after the rows than before them."""
    for statement in _INDEXES.split(";"):
        if statement.strip():
            db.execute(statement)


class Writing:
    """A transaction that writes; the disk is synced at its end, where there is one."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("PRAGMA journal_mode = TRUNCATE")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA cache_size = -65536")
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:
            self._db.execute("ROLLBACK")
