"""The version of each kind of file, and the steps that bring an older one up to date.

A file carries the number of its schema. One that is older is upgraded step by step when it is read,
and never rewritten; one that is newer than this program is refused. Nothing heavy is imported here:
a listing reads records with this.
"""

from __future__ import annotations

from qn_tracking.errors import StorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Doc = dict[str, Any]
    Upgrade = Callable[[Doc], Doc]


class Schema:
    """A kind of file: its version today, and the step from each older version to the next."""

    def __init__(self, kind: str, version: int, upgrades: dict[int, Upgrade]) -> None:
        self.kind = kind
        self.version = version
        self._upgrades = upgrades

    def current(self, doc: Doc, file: str) -> Doc:
        """The document as today's version has it; the one that is given stays as it is.

        Raises StorageError for a schema that is no number, or is newer than this program.
        """
        schema = doc.get("schema")
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
        while schema < self.version:
            doc = {**self._upgrades[schema](doc), "schema": schema + 1}
            schema += 1
        return doc


def _renamed(doc: Any, names: dict[str, str]) -> Any:
    """A mapping with some keys called otherwise, in their places; anything else as it is."""
    if type(doc) is not dict:
        return doc
    return {names.get(key, key): value for key, value in doc.items()}


def _settings_2(doc: Doc) -> Doc:
    """In the settings of a configuration, `runs` is called `episodes` since version 2."""
    config = doc.get("config")
    if type(config) is not dict or "runs" not in (config.get("settings") or ()):
        return doc
    settings = _renamed(config["settings"], {"runs": "episodes"})
    return {**doc, "config": {**config, "settings": settings}}


# What version 1 called a session is a run, its runs are episodes, and a campaign is a study.


def run_info(doc: Doc) -> Doc:
    """What a run wrote before its first episode, which carries no schema number."""
    return _settings_2(_renamed(doc, {"runs": "episodes", "campaign": "study"}))


def _study_2(doc: Doc) -> Doc:
    return _settings_2(_renamed(doc, {"sessions": "runs", "runs": "episodes"}))


def _submission_2(doc: Doc) -> Doc:
    doc = _renamed(doc, {"sessions": "runs", "runs": "episodes", "campaign": "study"})
    for part in ("study", "aggregates"):
        if part in doc:
            doc = {**doc, part: _renamed(doc[part], {"sessions": "runs"})}
    return _settings_2(doc)


def _verification_2(doc: Doc) -> Doc:
    doc = _renamed(doc, {"sessions": "runs"})
    if "replication" in doc:
        doc = {**doc, "replication": _renamed(doc["replication"], {"sessions": "runs"})}
    return doc


RECORD = Schema("record", 2, {1: run_info})
STUDY = Schema("study", 2, {1: _study_2})
SUBMISSION = Schema("submission", 2, {1: _submission_2})
VERIFICATION = Schema("verification", 2, {1: _verification_2})
