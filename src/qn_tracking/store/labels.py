"""Tags and notes that are added later: `experiments/labels/<id>/<random>.json`, which git carries.

Records are never rewritten, and neither is a label: each change is a file of its own. Those of two
people are both there after a merge, and none of it conflicts. Of one tag the latest change wins, by
its time, then by the name of its file. What was added before is in `runs/<id>/labels.json`, or
beside a study; it comes first.
"""

from __future__ import annotations

import os
from os.path import join

from qn_tracking.errors import StorageError
from qn_tracking.ids import microseconds, utc
from qn_tracking.records.limits import MAX_BYTES
from qn_tracking.records.schema import LABEL, LABELS
from qn_tracking.store import paths
from qn_tracking.store.read import load, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Labels = dict[str, Any]

KEYS = ("schema", "at", "tags", "notes", "artifacts")


def path(experiments: str, id: str, folder: str | None = None) -> str:
    """The file of labels that were added before each had its own."""
    return join(folder or paths.run_folder(experiments, id), "labels.json")


def read(experiments: str, id: str, folder: str | None = None) -> Labels:
    """`tags`, a mapping of text, and `notes`, a list of `at` and `text`; both empty without a file;
    `artifacts` if any were attached.

    Raises StorageError for the first file that cannot be read.
    """
    found, problem = survey(experiments, id, folder)
    if problem is not None:
        raise problem
    return found


def survey(
    experiments: str, id: str, folder: str | None = None
) -> tuple[Labels, StorageError | None]:
    """The labels of the files that can be read, and what is wrong with the first that cannot."""
    problem: StorageError | None = None
    try:
        found = _before(path(experiments, id, folder))
    except StorageError as error:
        found, problem = {"tags": {}, "notes": []}, error
    changes = []
    try:
        place = paths.labels_folder(experiments, id)
        for name in files(place):
            try:
                file = join(place, name)
                changes.append((*parsed(load(file)[0], file), name))
            except FileNotFoundError:  # gone since
                continue
            except StorageError as error:
                problem = problem or error
    except StorageError as error:
        problem = problem or error
    for _, doc, _ in sorted(changes, key=lambda one: (one[0], one[2])):
        for key, value in doc["tags"].items():
            found["tags"].pop(key, None)
            if value is not None:
                found["tags"][key] = value
        # A note that was here before may come again, as a file of its own.
        found["notes"] += [note for note in doc["notes"] if note not in found["notes"]]
        if "artifacts" in doc:
            found.setdefault("artifacts", []).extend(doc["artifacts"])
    if changes:
        found["notes"].sort(key=lambda note: str(note["at"]))
    return found, problem


def files(folder: str) -> list[str]:
    """The names of the changes in the folder of an experiment's labels. Raises StorageError."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        from qn_tracking.files import os_error

        raise os_error(folder, error) from None
    return sorted(name for name in names if name.endswith(".json") and name[0] != ".")


def _before(file: str) -> Labels:
    try:
        doc = LABELS.current(parse(load(file)[0], file), file)
    except FileNotFoundError:
        return {"tags": {}, "notes": []}
    except StorageError as error:
        if error.hint == "ENOTDIR":  # no folder of a run, and so no labels in it
            return {"tags": {}, "notes": []}
        raise
    return _checked(doc, file, removed=False)


def parsed(data: bytes, file: str) -> tuple[int, Labels]:
    """The time of a change and what it says, from the bytes of its file. Raises StorageError."""
    doc = LABEL.current(parse(data, file), file)
    at = doc.get("at")
    try:
        return microseconds(at if type(at) is str else ""), _checked(doc, file, removed=True)
    except (ValueError, OverflowError):
        raise StorageError("expected a time", file=file, field="at") from None


def _checked(doc: Labels, file: str, *, removed: bool) -> Labels:
    """Tags and notes of a file; a tag that was `removed` has no text."""
    known = KEYS if removed else ("schema", "tags", "notes")
    if unknown := min(doc.keys() - {*known}, default=None):
        raise StorageError(f"unknown key {unknown!r}", file=file)
    tags, notes = doc.get("tags", {}), doc.get("notes", [])
    if type(tags) is not dict or not all(
        type(value) is str or (removed and value is None) for value in tags.values()
    ):
        raise StorageError("expected a mapping of text", file=file, field="tags")
    if type(notes) is not list or not all(
        type(note) is dict and type(note.get("text")) is str and type(note.get("at")) is str
        for note in notes
    ):
        raise StorageError("expected a list of notes", file=file, field="notes")
    found = {"tags": dict(tags), "notes": list(notes)}
    if artifacts := doc.get("artifacts"):
        if type(artifacts) is not list or not all(type(one) is dict for one in artifacts):
            raise StorageError("expected a list of artifacts", file=file, field="artifacts")
        found["artifacts"] = artifacts
    return found


def change(
    experiments: str,
    id: str,
    edit: Callable[[Labels], None],
    folder: str | None = None,
) -> Labels:
    """Applies an edit to the labels, durably; returns them. Raises StorageError."""
    found = read(experiments, id, folder)
    tags, notes = dict(found["tags"]), list(found["notes"])
    edit(found)
    changed = {key: value for key, value in found["tags"].items() if tags.get(key) != value}
    changed |= dict.fromkeys(tags.keys() - found["tags"].keys())
    added = [note for note in found["notes"] if note not in notes]
    if changed or added:
        add(experiments, id, {"tags": changed, "notes": added})
    return found


def add(experiments: str, id: str, said: Mapping[str, Any]) -> str:
    """Writes a change, durably; returns its file. Raises StorageError."""
    import json

    from qn_tracking.store.write import make_folder, publish

    place = paths.labels_folder(experiments, id)
    kept = {key: value for key, value in said.items() if value}
    doc = {"schema": LABEL.version, "at": _next(place), **kept}
    data = (json.dumps(doc, indent=2, ensure_ascii=False) + "\n").encode()
    file = join(place, f"{os.urandom(8).hex()}.json")
    if len(data) > MAX_BYTES:
        raise StorageError(f"would be larger than {MAX_BYTES >> 20} MiB", file=file)
    parsed(data, file)  # what could not be read again would hide all labels
    make_folder(place)
    publish(file, data)
    return file


def _next(place: str) -> str:
    """The time now; later than any change that is here, whatever the clocks of others said."""
    import time

    latest = 0
    for name in files(place):
        try:
            file = join(place, name)
            latest = max(latest, parsed(load(file)[0], file)[0])
        except (FileNotFoundError, StorageError):
            continue
    return utc(max(time.time(), (latest + 1) / 1_000_000))


def take(experiments: str, id: str, changes: Mapping[str, bytes]) -> int:
    """Adds changes of another folder that are not here, by the names of their files; how many.

    Raises StorageError for a file or a name that is not that of a label.
    """
    from qn_tracking.store.write import make_folder, publish

    place, count = paths.labels_folder(experiments, id), 0
    for name, data in changes.items():
        file = join(place, name)
        if "/" in name or name[0] == "." or not name.endswith(".json"):
            raise StorageError("is not the name of a label", file=file)
        parsed(data, file)
        if not os.path.lexists(file):
            make_folder(place)
            publish(file, data)
            count += 1
    return count


def merged(tags: Labels, labels: Labels) -> Labels:
    """The tags of a record with those that were added later; a later one wins."""
    return {**tags, **labels["tags"]}
