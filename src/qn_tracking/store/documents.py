"""Experiments as plain data, whether they have a record or not, and the texts of their runs."""

from __future__ import annotations

from contextlib import suppress
from os.path import dirname, getsize, isdir, join, lexists

from qn_tracking.errors import StorageError, UnsupportedError
from qn_tracking.files import inside
from qn_tracking.records import facts
from qn_tracking.store import fields, labels, paths, phases, read, series

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    Document = dict[str, Any]
    Warn = Callable[[str], None]

MOST_LIVES = 100
"""Earlier lives that are asked how many warnings they have."""


def load(experiments: str, id: str, warn: Warn | None = None) -> Document:
    """An experiment, with `labels` if any were added later.

    Of a run without a record it is what its folder says. Only the fields that the index has are
    checked: `check` checks all of them. Labels that cannot be read are warned of. Raises
    StorageError.
    """
    doc, _ = _stored(experiments, id, warn)
    added = _labels(experiments, id, warn)
    if any(added.values()):
        doc["labels"] = added
    return doc


def load_all(
    experiments: str, ids: Iterable[str], *, named: bool, warn: Warn, whole: bool = False
) -> Iterator[Document]:
    """Experiments as `load` returns them, with `whole` every field checked.

    Raises StorageError for one that was named and cannot be read; of those that filters found, it
    is left out with a warning.
    """
    for id in ids:
        try:
            if whole:
                check(experiments, id)
            yield load(experiments, id, warn)
        except StorageError as error:
            if named:
                raise
            warn(f"left out: {error}")


def _stored(experiments: str, id: str, warn: Warn | None) -> tuple[Document, str | None]:
    """The document of a record and its path; without a record, what the folder of the run says."""
    path = paths.record(experiments, id)
    try:
        doc = read.document(path)
    except FileNotFoundError:
        from qn_tracking.store.unfinished import survey

        run = survey(experiments, id)
        if run is None:
            raise StorageError("vanished", file=path) from None
        if run.problem and warn is not None:
            warn(run.problem)
        return run.doc, None
    fields.values(doc, path, str)
    return doc, path


def _labels(experiments: str, id: str, warn: Warn | None) -> dict[str, Any]:
    """The labels that can be read; what a file of labels holds says nothing of the record."""
    added, problem = labels.survey(experiments, id)
    if problem is not None and warn is not None:
        warn(str(problem))
    return added


def status(experiments: str, id: str) -> str | None:
    """The status of a record, or of a run that has none; None if there is neither."""
    from qn_tracking.store.unfinished import status_now

    for _ in range(2):  # a run may end between the two questions
        path = paths.record(experiments, id)
        if lexists(path):
            return str(read.document(path).get("status"))
        found = status_now(experiments, id)
        if found is not None:
            return found
    return None


def check(experiments: str, id: str) -> None:
    """Raises StorageError unless every field of a record is what it must be, or of what a run
    without one has written.
    """
    path = paths.record(experiments, id)
    if lexists(path):
        read.experiment(path)
        return
    from qn_tracking.store.unfinished import load_run

    load_run(paths.run_folder(experiments, id), id)


def with_labels(doc: Document) -> Document:
    """The tags that were added later among the others."""
    if "labels" not in doc:
        return doc
    return {**doc, "tags": labels.merged(doc.get("tags") or {}, doc["labels"])}


def describe(experiments: str, id: str, warn: Warn) -> Document:
    """An experiment with its path, its folder and its labels.

    Of a run without a record the results are computed from its episodes, unless these are so many
    that they are only counted, as in a listing. Raises StorageError.
    """
    folder = paths.run_folder(experiments, id)
    doc, path = _stored(experiments, id, warn)
    if path is None:
        doc |= _counted(join(folder, "episodes.jsonl"), doc["results"], warn)
    added = _labels(experiments, id, warn)
    return {"path": path, **doc, "labels": added, "folder": folder if isdir(folder) else None}


def _counted(journal: str, glanced: Document, warn: Warn) -> Document:
    """Results and digests of the episodes that a journal holds."""
    from qn_tracking.records.codec import plain
    from qn_tracking.records.stats import Tally
    from qn_tracking.store.unfinished import GLANCE

    if lexists(journal) and getsize(journal) > GLANCE:
        warn(f"{journal}: so many episodes are summed up when the run has a record")
        return {"results": glanced, "digests": None}
    tally = Tally()
    if lexists(journal):
        try:
            for episode in read.Lines(journal):
                tally.add(episode)
        except StorageError as error:
            warn(str(error))
    counted = {"results": plain(tally.results()), "digests": plain(tally.digests())}
    folder = dirname(journal)
    try:
        if of_phases := plain(phases.summarised(folder)):
            counted["phases"] = of_phases
        if (size := series.size(folder)) > GLANCE:
            warn(f"{size:,} bytes of series are summed up when the run has a record")
        elif size:
            counted["digests"], counted["series"] = map(
                plain, series.summarised(folder, tally.digests())
            )
    except StorageError as error:
        warn(str(error))
    return counted


def config_text(experiments: str, id: str) -> bytes:
    """The text of the configuration, as it was read.

    Raises UnsupportedError if it is not here, StorageError if it is not what the record names.
    """
    path = join(paths.run_folder(experiments, id), "config.yml")
    record = paths.record(experiments, id)
    doc = read.document(record) if lexists(record) else {"id": id}
    data = attached(experiments, doc, "config.yml")
    if data is None:
        raise UnsupportedError(
            "the text is not here",
            file=path,
            hint="run folders are not in git; qn-exp show has the resolved configuration",
        )
    return data


def earlier_warnings(experiments: str, doc: Document) -> int:
    """How many warnings the earlier lives of a run have, as far as their records are here."""
    lives = doc.get("lives")
    count = 0
    for number in range(1, min(len(lives) if type(lives) is list else 0, MOST_LIVES) + 1):
        with suppress(FileNotFoundError, StorageError):
            place = inside(paths.run_folder(experiments, doc["id"]), paths.LIVES)
            file = join(place, f"{number}.json")
            warnings = read.parse(read.load(file)[0], file).get("warnings")
            count += len(warnings) if type(warnings) is list else 0
    return count


def attached(experiments: str, doc: Document, name: str) -> bytes | None:
    """A text of a run; None if it is not here. StorageError if it is not what the record names."""
    from hashlib import sha256

    path = join(paths.run_folder(experiments, doc["id"]), name)
    try:
        data, _ = read.load(path)
    except FileNotFoundError:
        return None
    named = [one for one in attachments(doc) if one.get("name") == name]
    if named and named[0].get("sha256") != sha256(data).hexdigest():
        raise StorageError("is not the text that the record names", file=path, field="sha256")
    return data


def attachments(doc: Document) -> list[dict[str, Any]]:
    """What a document says of the texts of its run, whatever else stands among them."""
    found = doc.get("attachments")
    return [one for one in found if type(one) is dict] if type(found) is list else []


def attached_text(experiments: str, doc: Document, name: str) -> str | None:
    """A text of a run; None if it is not here. StorageError if it is not what the record names."""
    data = attached(experiments, doc, name)
    return None if data is None else data.decode(errors="replace")


def packages(experiments: str, doc: Document, warn: Warn) -> dict[str, str] | None:
    """Versions by name, if the list is here and is the one that the record names."""
    from hashlib import sha256

    from qn_tracking.studies.comparison import parse_packages

    recorded = facts.section(doc, "packages").get("sha256")
    try:
        path = join(paths.run_folder(experiments, doc["id"]), "packages.txt")
        data, _ = read.load(path)
    except (FileNotFoundError, StorageError):
        return None
    if recorded not in (None, sha256(data).hexdigest()):
        warn(f"{path}: not the list that the record names")
        return None
    return parse_packages(data.decode(errors="replace"))
