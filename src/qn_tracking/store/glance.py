"""What a folder of experiments holds, at one look: for the completion of a shell.

The index is read as it was left, without making it true first, and never written: a key that was
pressed may neither wait for another process nor start one's work. Ids come from the names of files.
What cannot be read is not there. Texts may be of strangers, and are as they are stored.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from functools import cached_property
from os.path import join

from qn_tracking.errors import QnError
from qn_tracking.ids import is_id
from qn_tracking.store import database, study_files
from qn_tracking.store.fields import STEP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from qn_tracking.store.where import Path

MOST = 2000
"""So many of the newest runs are asked for what they have: tags, seeds, names."""
FEW = 200
"""So many of the newest runs are described."""


class Glance:
    """One folder of experiments, read once for each question."""

    def __init__(self, experiments: str) -> None:
        self._folder = experiments

    @cached_property
    def records(self) -> list[str]:
        """The ids of the runs that have a record, newest first."""
        names = _names(self._folder)
        return sorted((n[:-5] for n in names if n[-5:] == ".json" and is_id(n[:-5])), reverse=True)

    @cached_property
    def unfinished(self) -> list[str]:
        """The ids of the runs that have none, newest first."""
        names = {name for name in _names(join(self._folder, "runs")) if is_id(name)}
        return sorted(names.difference(self.records), reverse=True)

    @property
    def trashed(self) -> list[str]:
        """What is in the trash, newest first."""
        return sorted(filter(is_id, _names(join(self._folder, ".trash"))), reverse=True)

    @cached_property
    def studies(self) -> list[str]:
        """The names of studies, and the ids of those without one; the latest first."""
        try:
            return study_files.names(self._folder)[::-1]
        except (QnError, OSError):
            return []

    def arms(self, study: str) -> list[str]:
        """The names of the arms of a study, which is named or of this id."""
        with suppress(QnError, OSError, ValueError, AttributeError, TypeError, KeyError):
            from qn_tracking.store import read

            named = study_files.named(self._folder, study)
            id = named or study
            places = study_files.path(self._folder, id), study_files.gathered_path(self._folder, id)
            for place in filter(os.path.isfile, places):
                doc = read.parse(read.load(place)[0], place)
                return [name for arm in doc["arms"] if type(name := arm["name"]) is str]
        return []

    def about(self) -> dict[str, str]:
        """What the newest runs are, in a few words, by id."""
        rows = self._rows(
            "SELECT id, config, brain, environment, status FROM run ORDER BY at DESC LIMIT ?", FEW
        )
        return {id: ", ".join(filter(None, words)) for id, *words in rows}

    def fields(self) -> list[Path]:
        """The paths of all fields that any record has."""
        return [tuple(path.split(STEP)) for (path,) in self._rows("SELECT path FROM field")]

    def values(self, column: str) -> list[str]:
        """The values in a column of the index, of the newest runs first."""
        rows = self._rows(f'SELECT "{column}" FROM run ORDER BY at DESC LIMIT ?', MOST)  # noqa: S608
        return list(dict.fromkeys(str(value) for (value,) in rows if value is not None))

    def tags(self, id: str | None = None) -> dict[str, list[str]]:
        """The values of each tag of the newest runs, or of one."""
        import json

        condition, most = ("", MOST) if id is None else ("AND id = ?", id)
        rows = self._rows(
            f"SELECT tags FROM run WHERE tags IS NOT NULL {condition}"  # noqa: S608
            f" ORDER BY at DESC{' LIMIT ?' if id is None else ''}",
            most,
        )
        found: dict[str, dict[str, None]] = {}
        for (text,) in rows:
            with suppress(ValueError, AttributeError):
                for key, value in json.loads(text).items():
                    found.setdefault(key, {})[f"{value}"] = None
        return {key: list(values) for key, values in found.items()}

    def artifacts(self, id: str) -> list[str]:
        """The names of the artifacts of a run."""
        from qn_tracking.store import artifacts

        try:
            return [one.name for one in artifacts.of(self._folder, id) if one.name is not None]
        except (QnError, OSError):
            return []

    def _rows(self, sql: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        try:
            db = database.left(self._folder)
            if db is None:
                return []
            with closing(db):
                return db.execute(sql, values).fetchall()
        except (sqlite3.Error, OSError, QnError):
            return []


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
