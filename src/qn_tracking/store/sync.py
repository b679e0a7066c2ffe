"""Whether the index still says what the files say, and taking in what they say now.

It is asked at every use, the cheapest question first:

- The folder's times show whether a name was added, removed or replaced. They are taken *before* the
  folder is listed; both mtime and ctime count; and times younger than two seconds are not trusted,
  for a change in the same tick would leave them alone.
- An edit in place leaves the folder alone. So the rows to be printed are looked at each time, and
  of the others a rolling 2,000 more: 100,000 are all seen in 50 calls, or at once with `fresh`.
- Runs without a record are looked at each time, until they have crashed; new ones are found by the
  times of `experiments/runs/`.
"""

from __future__ import annotations

import os
import sqlite3
from os.path import join

from qn_tracking.errors import QnError, StorageError, printable
from qn_tracking.files import inside
from qn_tracking.ids import is_id
from qn_tracking.store.database import Writing, make_indexes
from qn_tracking.store.fields import PARTS
from qn_tracking.store.stamps import (
    folder_stamp,
    labels_stamp,
    labels_stamps,
    stamp as stamp_of,
    young,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from qn_tracking.store.entry import Row

ROLLING = 2000

GOOD, ACTIVE, CRASHED, BAD = range(4)
"""What an entry is: a record; a run that is going on or unknown; one that died; a bad file."""


# -------------------------------------------------------------------------------------------- sync


class Sync:
    """Keeps the tables of one folder true; `writable` where what it finds can be kept."""

    def __init__(self, experiments: str, db: sqlite3.Connection, *, writable: bool) -> None:
        self.experiments = experiments
        self.db = db
        self.writable = writable

    def run(
        self, *, fresh: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Takes in whatever has changed since."""
        # The folders first: what changes while they are listed will be seen by the next call.
        folder, folder_young = folder_stamp(self.experiments)
        runs, runs_young = folder_stamp(join(self.experiments, "runs"))
        meta = dict(self.db.execute("SELECT key, value FROM meta"))
        changed = fresh or meta.get("folder") != folder
        if changed or meta.get("runs") != runs:
            with Writing(self.db):
                gone, recorded = False, None
                if changed:
                    gone, recorded = self._check_all(fresh, progress)
                    self._check_crashed()
                if gone or fresh or meta.get("runs") != runs:
                    self._check_runs(fresh, recorded)
                self._remember("folder", None if folder_young else folder)
                self._remember("runs", None if runs_young else runs)
                make_indexes(self.db)
        else:
            self._roll(meta.get("cursor") or 0)
        self._check_labels(meta.get("labels"))
        self._check_active()

    def _check_labels(self, known: int | None) -> None:
        """Takes in labels that came by git, or from a process without the index."""
        stamp, is_young, names = labels_stamps(self.experiments)
        if stamp == (known or 0):
            return
        of = {name for (name,) in self.db.execute("SELECT name FROM entry WHERE labelled != 0")}
        with Writing(self.db):
            self._relabel(sorted(of.union(names)))
            self._remember("labels", None if is_young else stamp)

    def _remember(self, key: str, value: int | None) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _check_all(
        self, fresh: bool, progress: Callable[[int, int], None] | None
    ) -> tuple[bool, set[str]]:
        """Compares every file with its entry; returns whether any has vanished, and all names."""
        known = self._known()
        recorded = set(known)
        todo: list[str] = []
        take, look = known.pop, os.lstat
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
                    except OSError:  # gone since: reading says so
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
        # What was refused as no folder of a run has no stamp, and is looked at again.
        self._delete([n for n, *_ in self._entries("WHERE kind = 3 AND stamp = 0")])
        try:
            names = set(os.listdir(inside(self.experiments, "runs")))
        except StorageError:
            names = {"runs"}
        except OSError:
            names = set()
        names.difference_update(self._known() if recorded is None else recorded)
        known = {name: n for n, name, _, _ in self._entries("WHERE kind IN (1, 2)")}
        self._delete([n for name, n in known.items() if name not in names])
        for name in sorted(names):
            if (name not in known or fresh) and is_id(name):
                self._survey(name, known.get(name), None)

    def _check_crashed(self) -> None:
        """Finds runs that had crashed and go on: the record that such a run gets has come and gone,
        and its journal is younger.
        """
        from qn_tracking.store.unfinished import signature

        for n, name, _, stamp in list(self._entries("WHERE kind = 2")):
            if stamp != signature(self.experiments, name):
                self._survey(name, n, None)

    def _check_active(self) -> None:
        """Updates the status of runs that were running or unknown."""
        active = list(self._entries("WHERE kind = 1"))
        if not active:
            return
        from qn_tracking.store.unfinished import survey

        changed = []
        for n, name, _, stamp in active:
            try:
                found = survey(self.experiments, name, stamp)
            except StorageError:
                found = None
            if found is None or found.signature != stamp or found.final:
                changed.append((name, n))
        if changed:
            with Writing(self.db):
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
            with Writing(self.db):
                self._read([(name, n) for n, name in stale], None)
                make_indexes(self.db)
        last = rows[-1][0] if len(rows) == ROLLING else 0
        if last != cursor and self.writable:
            try:
                # Nothing depends on it, so it does not wait for other processes and is not synced.
                (wait,) = self.db.execute("PRAGMA busy_timeout").fetchone()
                self.db.execute("PRAGMA busy_timeout = 0")
                self.db.execute("PRAGMA journal_mode = TRUNCATE")
                self.db.execute("PRAGMA synchronous = OFF")
                self._remember("cursor", last)
            except sqlite3.OperationalError:
                pass
            finally:
                self.db.execute(f"PRAGMA busy_timeout = {wait}")
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
                    info = os.lstat(name + ".json", dir_fd=folder)
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
        labels = [row[1] for row in rows if row[4] != labels_stamp(self.experiments, row[1])]
        dead = [(row[0], row[1], row[3]) for row in rows if row[2] == CRASHED]
        if dead:
            from qn_tracking.store.unfinished import signature

            dead = [d for d in dead if d[2] != signature(self.experiments, d[1])]
        if not stale and not labels and not dead:
            return True
        with Writing(self.db):
            changed = self._read([(name, n) for n, name in stale], None)
            again = {name for _, name in stale}
            changed |= self._relabel([name for name in labels if name not in again])
            for n, name, _ in dead:
                self._survey(name, n, None)
        return not changed and not dead

    def relabel(self, names: Sequence[str]) -> None:
        """Takes in labels that we have changed."""
        with Writing(self.db):
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
        from qn_tracking.files import load
        from qn_tracking.store.entry import Fields, Rows, make_row, parsers

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
                stamp = None if young(info) else stamp_of(info)
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
            info = os.lstat(f"{self.experiments}/{name}.json")
        except OSError:
            return 0  # as `_stale` has it
        return None if young(info) else stamp_of(info)

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
        from qn_tracking.store.entry import Fields, Rows, make_row, parsers
        from qn_tracking.store.unfinished import survey

        try:
            found = survey(self.experiments, name, known)
        except StorageError as error:
            self._set_bad(name, n, 0, self._relative(error))
            return
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
        labelled = labels_stamp(self.experiments, name)
        if not labelled:
            return None, 0, None
        from qn_tracking.store import labels

        found, problem = labels.survey(self.experiments, name)
        return found, labelled, None if problem is None else self._relative(problem)

    def _relative(self, problem: object) -> str:
        """What is wrong with a file, named from within our folder: it may be called otherwise."""
        return str(problem).removeprefix(printable(join(self.experiments, "")))

    def _relabel(self, names: Iterable[str]) -> bool:
        """Takes in labels that have changed."""
        import json

        from qn_tracking.store.entry import join_labels, parsers

        _, dumps = parsers(1)
        changed = False
        for name in names:
            found = self.db.execute(
                "SELECT e.n, e.labelled, t.doc, e.kind FROM entry e JOIN rest t ON t.n = e.n"
                " WHERE e.name = ?",
                (name,),
            ).fetchone()
            if found is None or found[1] == labels_stamp(self.experiments, name):
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
