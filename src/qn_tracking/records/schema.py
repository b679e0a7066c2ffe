"""The schema of each kind of stored file: its version, and the steps from older versions.

A file carries the number of its schema. An older file is upgraded step by step when it is read and
is never rewritten. A newer one is refused. This module imports nothing heavy, because listings
read records with it.
"""

from __future__ import annotations

from qn_tracking.errors import StorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Doc = dict[str, Any]
    Upgrade = Callable[[Doc], Doc]


class Schema:
    """A kind of file: its version today, and the step from each older version to the next.

    `unnumbered` is the version of files without a number, for a kind whose files once had none.
    """

    def __init__(
        self,
        kind: str,
        version: int,
        upgrades: Mapping[int, Upgrade],
        *,
        unnumbered: int | None = None,
    ) -> None:
        self.kind = kind
        self.version = version
        self._upgrades = upgrades
        self._unnumbered = unnumbered

    def current(self, doc: Doc, file: str) -> Doc:
        """The document in today's version; the given one is not changed.

        Raises StorageError if the schema is not a number, or newer than this program's.
        """
        schema = doc.get("schema", self._unnumbered)
        if type(schema) is not int or schema < 1:
            shown = "nothing" if schema is None else repr(schema)[:40]
            raise StorageError(f"expected a schema number, got {shown}", file=file, field="schema")
        if schema > self.version:
            raise StorageError(
                f"schema {schema} is newer than this program's {self.version}",
                file=file,
                field="schema",
                hint="upgrade qn-tracking",
            )
        for step in range(schema, self.version):
            doc = {**self._upgrades[step](doc), "schema": step + 1}
        return doc


def _renamed(doc: Any, names: Mapping[str, str]) -> Any:
    """A mapping with some keys renamed in place; anything else, unchanged.

    Where a new name is taken already, the mapping stays as it is, so that no value is lost.
    """
    if type(doc) is not dict:
        return doc
    renamed = {names.get(key, key): value for key, value in doc.items()}
    return renamed if len(renamed) == len(doc) else doc


def _renaming(names: Mapping[str, str], **parts: Mapping[str, str]) -> Upgrade:
    """The step that renames keys of a document, then keys inside some of its parts.

    In every kind of file, the settings of a configuration call `runs` `episodes`.
    """

    def upgrade(doc: Doc) -> Doc:
        doc = _renamed(doc, names)
        for part in parts.keys() & doc.keys():
            doc = {**doc, part: _renamed(doc[part], parts[part])}
        config = doc.get("config")
        if type(config) is dict and "settings" in config:
            settings = _renamed(config["settings"], {"runs": "episodes"})
            doc = {**doc, "config": {**config, "settings": settings}}
        return doc

    return upgrade


# In version 1, runs were called sessions, episodes runs, and a study a campaign.
_SESSIONS = {"sessions": "runs"}
_RUN_2 = _renaming({"runs": "episodes", "campaign": "study"})


def _record_2(doc: Doc) -> Doc:
    """Marks the failures of what stored the record, which version 1 knew by its name."""
    doc = _RUN_2(doc)
    failures = doc.get("failures")
    if type(failures) is not list or not failures:
        return doc
    marked = [
        {**one, "storage": True}
        if type(one) is dict and one.get("plugin") == "json_storage"
        else one
        for one in failures
    ]
    return {**doc, "failures": marked}


RECORD = Schema("record", 2, {1: _record_2})
RUN = Schema("run", 2, {1: _RUN_2}, unnumbered=1)


_OF_AN_ARM = ("config", "text", "config_file", "subject", "plugins")


def _study_3(doc: Doc) -> Doc:
    """Puts the one configuration of version 2 into an arm, which has the name of its file."""
    arm = {key: doc[key] for key in _OF_AN_ARM if key in doc}
    label = arm["config"].get("label") if type(arm.get("config")) is dict else None
    file = label.rpartition("/")[2] if type(label) is str else ""
    kept = {key: value for key, value in doc.items() if key not in _OF_AN_ARM}
    return {**kept, "arms": [{"name": file.rpartition(".")[0] or file, **arm}]}


# Since version 4 a script may be what is run: older programs are not to take it for anything else.
STUDY = Schema(
    "study",
    4,
    {1: _renaming({"sessions": "runs", "runs": "episodes"}), 2: _study_3, 3: lambda doc: doc},
)
SUBMISSION = Schema(
    "submission",
    2,
    {
        1: _renaming(
            {"sessions": "runs", "runs": "episodes", "campaign": "study"},
            study=_SESSIONS,
            aggregates=_SESSIONS,
        )
    },
)
VERIFICATION = Schema("verification", 2, {1: _renaming(_SESSIONS, replication=_SESSIONS)})
LABELS = Schema("labels", 1, {})
LABEL = Schema("label", 1, {})
GATHERED = Schema("gathered", 1, {})
EXTENSION = Schema("extension", 1, {})
ADDITION = Schema("addition", 1, {})
PRUNING = Schema("pruning", 1, {})
