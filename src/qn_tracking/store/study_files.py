"""The files of studies, by id and name. Nothing heavy is imported: a list names studies, too."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from os.path import dirname, join, lexists

from qn_tracking import files
from qn_tracking.errors import StorageError, UsageError
from qn_tracking.ids import check_id, is_id
from qn_tracking.records.schema import STUDY
from qn_tracking.store import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

BEFORE = "campaigns"
"""The folder of studies that were declared before schema 2."""


def path(experiments: str, id: str) -> str:
    """The file of a study. Raises StorageError for a link in place of a folder of studies."""
    name = join(files.inside(experiments, "studies", check_id(id)), "study.json")
    before = join(files.inside(experiments, BEFORE), f"{id}.json")
    return before if not lexists(name) and lexists(before) else name


def folder(experiments: str, id: str) -> str:
    """The folder of a study, with the labels that were added to it."""
    return files.inside(experiments, "studies", check_id(id))


def gathered_path(experiments: str, id: str) -> str:
    """The file of a study that was gathered afterwards."""
    return join(files.inside(experiments, "studies", check_id(id)), "gathered.json")


def kind(experiments: str, id: str) -> str | None:
    """Whether the study of this id is declared or gathered; None if there is none."""
    if lexists(path(experiments, id)):
        return "declared"
    return "gathered" if lexists(gathered_path(experiments, id)) else None


def named(experiments: str, name: str) -> str | None:
    """The id of the study of this name, also of one that was gathered.

    Raises UsageError for a name that several studies have, as one of another machine may: which one
    is meant is not guessed; and StorageError for a file that cannot be read and has the name in it.
    """
    found = [id for id in ids(experiments) if name_of(experiments, id) == name]
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} studies are called {name}", hint=f"by id: {', '.join(found)}"
        )
    if not found:
        for error, data in _unreadable(experiments):
            if re.search(rb'"name":\s*"%b"' % re.escape(os.fsencode(name)), data):
                raise error
    return found[0] if found else None


def hint_of_unreadable(experiments: str) -> str | None:
    """That some study, which may be the one that is looked for, cannot be read."""
    found = [*dict.fromkeys(error.file for error, _ in _unreadable(experiments))]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"cannot be read: {found[0]}{more}" if found else None


def _unreadable(experiments: str) -> Iterator[tuple[StorageError, bytes]]:
    """What is wrong with each file of a study that is no JSON, and what is in it."""
    for id in ids(experiments):
        for place in (path, gathered_path):
            data = b""
            try:
                name = place(experiments, id)
                data, _ = read.load(name)
                read.parse(data, name)
            except FileNotFoundError:
                continue
            except StorageError as error:
                yield error, data


def names(experiments: str) -> list[str]:
    """The names of all studies, the latest last; of one without a name its id."""
    return [name_of(experiments, id) or id for id in ids(experiments)]


def name_of(experiments: str, id: str) -> str | None:
    """The name of a study, if it has one and its file can be read."""
    found = summary(experiments, id)
    return None if found is None else found[0]


def summary(experiments: str, id: str) -> tuple[str | None, int] | None:
    """The name of a study, and how many runs were declared; None if its file cannot be read."""
    try:
        names = path(experiments, id), gathered_path(experiments, id)
    except StorageError:  # something else lies there
        return None
    return _summary(names, id)


def summary_in(place: str, id: str) -> tuple[str | None, int]:
    """The same of a study whose folder is in the trash."""
    found = _summary((join(place, "study.json"), join(place, "gathered.json")), id)
    return found or (None, 0)


def _summary(names: Sequence[str], id: str) -> tuple[str | None, int] | None:
    for name in names:
        with suppress(OSError, StorageError):
            data, _ = read.load(name)
            doc = read.parse(data, id)
            doc = doc if name.endswith("gathered.json") else STUDY.current(doc, name)
            called, runs = doc.get("name"), doc.get("runs")
            runs = _with_later(dirname(name), doc, runs) if type(runs) is int else 0
            return called if type(called) is str else None, runs
    return None


def _with_later(place: str, doc: dict[str, Any], runs: int) -> int:
    """The runs of a study with those that were added later, as far as they can be read."""
    seeds, arms = _length(doc.get("seeds")), _length(doc.get("arms"))
    later = [name for name in os.listdir(place) if name.startswith(("extension-", "addition-"))]
    for name in sorted(later, reverse=True):  # extensions first: no seed is added after an arm
        if name.startswith("addition-"):
            runs += seeds
            continue
        with suppress(FileNotFoundError, StorageError):
            more = _length(read.parse(read.load(join(place, name))[0], name).get("seeds"))
            seeds, runs = seeds + more, runs + more * arms
    return runs


def _length(value: Any) -> int:
    return len(value) if type(value) is list else 0


def ids(experiments: str) -> list[str]:
    """The ids of all studies, also of those in a folder of the time before schema 2."""
    from qn_tracking.store.write import naming

    names: set[str] = set()
    for place, end in (("studies", ""), (BEFORE, ".json")):
        with naming(join(experiments, place)), suppress(FileNotFoundError):
            found = os.listdir(files.inside(experiments, place))
            names.update(name.removesuffix(end) for name in found if name.endswith(end))
    return sorted(filter(is_id, names))
