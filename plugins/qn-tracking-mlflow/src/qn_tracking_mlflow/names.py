"""Names that MLflow accepts.

It accepts letters, digits and `_-.: /`, at most 250 of them, and no path out of the folder. Any
other name becomes a similar one with a digest, so that different names stay different.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from posixpath import normpath
from typing import Any

from qn_tracking.plugin import canonical

LONGEST = 250
RECORD_TAG = "qn_tracking.record"
"""The tag of a complete run: the digest of its record."""
ID_TAG = "qn_tracking.id"
STUDY_TAG = "qn_tracking.study"
KIND_TAG = "qn_tracking.kind"
"""The tag of the parent of the runs of a study: `study`."""
PARENT_TAG = "mlflow.parentRunId"
FOLDER = "qn-tracking"
"""The folder of our files in the artifacts of a run."""
OWN_METRICS = frozenset(("success", "steps", "reward"))
SUMMARY = "summary/"

_FIT = re.compile(r"[/\w.\- :]+")
_UNFIT = re.compile(r"[^/\w.\- :]")


def safe(name: str, below: str = "") -> str:
    """Return the name after the prefix `below`; changed, if MLflow does not accept it."""
    path = normpath(name) if name else ""
    fits = len(below) + len(name) <= LONGEST
    if _FIT.fullmatch(name) and path == name and name[0] not in "./" and fits:
        return f"{below}{name}"
    return f"{below}{marked(name, LONGEST - len(below))}"


def marked(name: str, longest: int = LONGEST) -> str:
    """Return a name that MLflow accepts, and that is different for each text."""
    head = _UNFIT.sub("_", name).replace("/", "_").replace("..", "_").strip(". ")
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{head[: longest - 9] or '_'}-{digest}"


def of_metric(name: str) -> str:
    """Return the name of a count or a metric; it differs from the names that this plugin uses."""
    if name in OWN_METRICS or name.startswith(SUMMARY):
        return marked(name)
    return safe(name)


def of_tag(name: str) -> str:
    """Return the name of a tag of the user; it differs from those of MLflow and this plugin."""
    return safe(f"tag.{name}" if name.startswith(("mlflow.", "qn_tracking.")) else name)


def flat(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a configuration as text, by dotted names; a list is JSON."""
    out: dict[str, str] = {}
    for path, value in _leaves(data, ()):
        name = safe(".".join(path))
        if name in out:  # a.b, and b inside of a
            name = marked(canonical(list(path)).decode())
        out[name] = value if type(value) is str else canonical(value).decode()
    return out


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping) and (value or not path):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    else:
        yield path, value
