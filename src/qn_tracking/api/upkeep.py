"""What becomes of experiments after their runs: labels, artifacts, trash, faults."""

from __future__ import annotations

import os

from qn_tracking.api.folder import Folder
from qn_tracking.api.selection import Selection
from qn_tracking.errors import StorageError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from qn_tracking.api.folder import Ids
    from qn_tracking.records.model import Artifact, Experiment
    from qn_tracking.store.check import Report
    from qn_tracking.store.garbage import Garbage
    from qn_tracking.store.index import Index


class Upkeep(Folder):
    """The experiments of a folder, looked after; see `Experiments`."""

    def stats(self) -> dict[str, Any]:
        """How many experiments there are, of what, and how many bytes they take."""
        from qn_tracking.store import summary

        counts = self.consult(summary.counts)
        return {"experiments_dir": self.folder, **counts, "bytes": summary.sizes(self.folder)}

    def tag(
        self, id: str, tags: Mapping[str, str] | None = None, *, remove: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Adds or changes tags, and removes tags that were added later; returns the labels.

        A study has tags and notes of its own, which its runs do not get. A record is never
        rewritten: its own tags stay. Raises UsageError.
        """
        from qn_tracking.redact import redact_text, redact_value

        given: dict[Any, Any] = dict(tags or {})
        remove = list(remove)
        if not given and not remove:
            raise UsageError("expected KEY=VALUE, or --remove KEY")
        for key, value in given.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise UsageError("expected texts by name", field="tags")
            if not key:
                raise UsageError("a tag needs a key")
            _check_label("the tag", f"{key}={value}")

        def edit(labels: dict[str, Any]) -> None:
            for key in remove:
                if labels["tags"].pop(key, None) is None:
                    raise UsageError(f"no tag {key} was added to it", file=id)
            labels["tags"] |= {redact_text(k): redact_value(v, k) for k, v in given.items()}

        return self._relabel(id, edit)

    def note(self, id: str, text: str) -> dict[str, Any]:
        """Adds a note; returns the labels. Raises UsageError."""
        import time

        from qn_tracking.ids import utc
        from qn_tracking.redact import redact_text

        _check_label("the note", text)
        note = {"at": utc(time.time()), "text": redact_text(text)}
        return self._relabel(id, lambda labels: labels["notes"].append(note))

    def _relabel(self, id: str, edit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        from qn_tracking.store import labels, studies

        study = self.study(id)
        if study is not None:
            place = studies.folder(self.folder, study.id)
            return labels.change(self.folder, study.id, edit, place)
        id = self.id(id)
        changed = labels.change(self.folder, id, edit)
        self.consult(lambda index: index.sync.relabel([id]))
        return changed

    def artifacts(self, id: str) -> tuple[Artifact, ...]:
        """The files and folders of a run, such as weights, those attached later last."""
        from qn_tracking.store import artifacts

        return artifacts.of(self.folder, self.id(id))

    def artifact(self, id: str, name: str, output: str | os.PathLike[str]) -> str:
        """Writes an artifact of a run to a path that must be free; returns the path.

        Raises UsageError for an unknown name, UnsupportedError if its bytes are not here.
        """
        from qn_tracking.store import artifacts

        found = artifacts.find(self.folder, self.id(id), name)
        return artifacts.fetch(self.folder, found, os.fsdecode(output))

    def attach(
        self,
        id: str,
        path: str | os.PathLike[str],
        type: str | None = None,
        *,
        name: str | None = None,
        keep: bool = True,
        keep_up_to: int | None = None,
    ) -> Artifact:
        """Adds a file or a folder to a run that is over, as `Recorder.log_artifact` does during it.

        The record is not rewritten: what was attached is a label. Raises StorageError for what
        cannot be read.
        """
        from attrs import evolve

        from qn_tracking.records.codec import plain
        from qn_tracking.store import artifacts, labels

        id, given = self.id(id), os.fsdecode(path)
        for what, text in (("the name", name), ("the type", type)):
            if text is not None:
                _check_label(what, text)
        limit = artifacts.MAX_KEPT if keep_up_to is None else keep_up_to
        place = self.folder if keep else None
        found = artifacts.take(given, place, limit=limit, say=self.warn)
        name = name or os.path.basename(os.path.abspath(given))
        found = evolve(found, name=name, type=type, path=os.path.abspath(found.path))
        labels.add(self.folder, id, {"artifacts": [plain(found)]})
        return found

    def lineage(self, id: str) -> list[tuple[tuple[str, str], ...]]:
        """Where the artifacts come from that a run has used: a chain of run and name for each."""
        from qn_tracking.store import artifacts

        return artifacts.chain(self.folder, self.id(id))

    def remove(self, id: str, *, force: bool = False) -> str:
        """Moves an experiment to the trash, or a study with its runs; returns where it is there.

        The runs of a gathered study stay. A study whose file cannot be read is known by its id
        only. Raises UsageError for what is running, or may be (unless `force`).
        """
        from qn_tracking.store import studies, trash

        try:
            study = self.study(id)
            whole = None if study is None else study.id
        except StorageError:
            if not studies.kind(self.folder, id):
                raise
            whole = id
        if whole is None:
            return trash.remove(self.folder, self.id(id), force=force)
        runs: list[str] = []
        if studies.kind(self.folder, whole) == "declared":
            runs = self.consult(lambda index: index.names(f"{whole}.s", 10**9))
        return trash.remove_study(self.folder, whole, runs, force=force)

    def trash(self, *, fold: bool = False) -> list[str]:
        """The ids of what is in the trash; with `fold` a study stands for its runs."""
        from qn_tracking.store import trash

        ids = trash.listed(self.folder)
        if fold:
            for study in trash.studies_listed(self.folder):
                inside = set(trash.runs_of(study, ids))
                ids = [id for id in ids if id not in inside]
        return ids

    def in_trash(self, text: str) -> str:
        """The whole id of what is meant in the trash. Raises UsageError for none or several."""
        from qn_tracking.store import trash

        return trash.find_study(self.folder, text) or trash.find(self.folder, text)

    def restore(self, id: str) -> str:
        """Takes an experiment out of the trash, or a study with its runs; returns the path of its
        record, or its folder.

        Raises UsageError if it is not there, StorageError if the id is taken.
        """
        from qn_tracking.store import trash

        study = trash.find_study(self.folder, id)
        if study is not None:
            return trash.restore_study(self.folder, study)
        return trash.restore(self.folder, self.in_trash(id))

    def garbage(self, older_than: str = "30d", *, remove: bool = False) -> tuple[Garbage, ...]:
        """What is in the trash for so long, and artifacts that old to which nothing refers.

        With `remove` it is cleared away for good. Raises UsageError for what is no age, and
        StorageError, before anything is removed, if a record cannot be read.
        """
        from qn_tracking.store import garbage
        from qn_tracking.store.filters import moment

        found = garbage.find(self.folder, moment(older_than) / 1_000_000)
        for one in found if remove else ():
            garbage.remove(one)
        return found

    def crashed(self) -> list[str]:
        """The ids of runs that died without a record, oldest first."""
        from qn_tracking.store.sync import CRASHED

        def ask(index: Index) -> list[str]:
            found = index.db.execute("SELECT id FROM run WHERE status = 'crashed'")
            return [id for (id,) in found if index.kind(id) == CRASHED]

        return sorted(self.consult(ask))

    def recover(self, id: str, *, force: bool = False) -> Experiment:
        """Makes the record of a run that died, from what its folder holds.

        Raises UsageError for a run that is not known to be dead (if it is unknown: unless `force`),
        and StorageError for what cannot be read.
        """
        from qn_tracking.store.recover import recover

        return recover(self.folder, self.id(id), force=force)

    def check(self, ids: Ids = ()) -> Report:
        """Checks every file of these experiments, or of all: what it must hold, and its digests."""
        from qn_tracking.store.check import check

        chosen = self.ids(ids) if isinstance(ids, Selection) or ids else []
        report = check(self.folder, chosen, self._progress("checking experiments"))
        if not chosen:
            # The index looks at every file as well: what was edited in place is true there again.
            self.consult(lambda index: None, fresh=True)
        return report


LONGEST_LABEL = 10_000
"""Characters of a tag or a note."""


def _check_label(what: str, text: str) -> None:
    if not isinstance(text, str):
        raise UsageError(f"{what}: expected text, got {text!r}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not valid Unicode text") from None
    if not text or len(text) > LONGEST_LABEL:
        raise UsageError(f"{what} must have 1 to {LONGEST_LABEL:,} characters")
