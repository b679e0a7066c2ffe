"""Tags and notes that are added later: `experiments/runs/<id>/labels.json`, or beside a study.

Records are never rewritten. Two who add at once wait for each other: the lock is on the folder.
"""

from __future__ import annotations

import os
from os.path import join

from qn_tracking import files
from qn_tracking.errors import StorageError
from qn_tracking.records.limits import MAX_BYTES
from qn_tracking.records.schema import LABELS
from qn_tracking.store import paths
from qn_tracking.store.read import load, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def path(experiments: str, id: str, folder: str | None = None) -> str:
    """The file of an experiment's labels, or of what has this `folder`."""
    return join(folder or paths.run_folder(experiments, id), "labels.json")


def read(experiments: str, id: str, folder: str | None = None) -> dict[str, Any]:
    """`tags`, a mapping of text, and `notes`, a list of `at` and `text`; both empty without a file.

    Raises StorageError.
    """
    file = path(experiments, id, folder)
    try:
        doc = LABELS.current(parse(load(file)[0], file), file)
    except FileNotFoundError:
        return {"tags": {}, "notes": []}
    except StorageError as error:
        if error.hint == "ENOTDIR":  # no folder of a run, and so no labels in it
            return {"tags": {}, "notes": []}
        raise
    if unknown := min(doc.keys() - {"schema", "tags", "notes"}, default=None):
        raise StorageError(f"unknown key {unknown!r}", file=file)
    tags, notes = doc.get("tags", {}), doc.get("notes", [])
    if type(tags) is not dict or not all(type(value) is str for value in tags.values()):
        raise StorageError("expected a mapping of text", file=file, field="tags")
    if type(notes) is not list or not all(
        type(note) is dict and type(note.get("text")) is str and type(note.get("at")) is str
        for note in notes
    ):
        raise StorageError("expected a list of notes", file=file, field="notes")
    return {"tags": tags, "notes": notes}


def change(
    experiments: str,
    id: str,
    edit: Callable[[dict[str, Any]], None],
    folder: str | None = None,
) -> dict[str, Any]:
    """Applies an edit to the labels, durably; returns them. Raises StorageError."""
    import json

    from qn_tracking.store.write import make_folder, naming, published, write_all

    folder = folder or paths.run_folder(experiments, id)
    file = path(experiments, id, folder)
    make_folder(folder)
    with naming(folder):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with naming(folder):
            files.lock(lock)
        labels = read(experiments, id, folder)
        edit(labels)
        text = json.dumps({"schema": LABELS.version, **labels}, indent=2, ensure_ascii=False) + "\n"
        data = text.encode()
        if len(data) > MAX_BYTES:
            raise StorageError(f"would be larger than {MAX_BYTES >> 20} MiB", file=file)
        with published(file, replace=True) as stream:
            write_all(stream.fileno(), data)
        return labels
    finally:
        os.close(lock)


def merged(tags: dict[str, Any], labels: dict[str, Any]) -> dict[str, Any]:
    """The tags of a record with those that were added later; a later one wins."""
    return {**tags, **labels["tags"]}
