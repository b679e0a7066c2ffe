"""Groups: experiments that share a value, such as their configuration or a stored field."""

from __future__ import annotations

from qn_tracking.errors import UsageError
from qn_tracking.store import where
from qn_tracking.store.fields import NAMES, label_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from qn_tracking.store.where import Path

    Key = tuple[Any, ...]

GROUPS: dict[str, tuple[tuple[Path, ...], ...]] = {
    "category": ((NAMES["environment"].path,), (NAMES["family"].path,)),
    # Another program's records have no digest.
    "config": ((NAMES["digest"].path, ("config", "sha256"), NAMES["config_file"].path),),
    **{
        name: ((NAMES[name].path,),)
        for name in ("brain", "environment", "family", "commit", "status")
    },
}
"""What a group shares, by name: several parts, each the first of its fields that is stored."""


class Grouping:
    """How experiments are put into groups: by one of `GROUPS`, or by a stored field.

    Raises UsageError for what is neither.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        if name in GROUPS:
            self._parts = GROUPS[name]
            return
        try:
            self._parts = ((where.field(name),),)
        except UsageError as error:
            hint = error.hint or f"known: {', '.join(GROUPS)}, or a stored field"
            raise UsageError(error.cause, file="--by", field=error.field, hint=hint) from None

    def paths(self) -> Iterator[Path]:
        """The fields that make a group."""
        for paths in self._parts:
            yield from paths

    def key(self, value_of: Callable[[Path], Any]) -> Key:
        """The group of an experiment, from a function that returns its fields."""

        def first(paths: Sequence[Path]) -> Any:
            return next((value for value in map(value_of, paths) if value is not None), None)

        return tuple(first(paths) for paths in self._parts)

    def key_of(self, doc: dict[str, Any]) -> Key:
        """The group of an experiment as plain data."""
        return self.key(lambda path: at(doc, _resolved(path, doc)))

    def label(self, key: Sequence[Any], config: str | None) -> str:
        """What a group is called; one by configuration, by the file and some of the digest."""
        if self.name == "config":
            file, digest = label_key(config or ""), str(key[0] or "")
            return f"{file} {digest[:8]}".strip() if digest != config else file
        if all(value in (None, "") for value in key):
            return f"no {self.name.rpartition('.')[2]}"
        return " · ".join("-" if value in (None, "") else str(value) for value in key)


def _resolved(path: Path, doc: dict[str, Any]) -> Path:
    """Where the field is in this document, by the rules of `Index.resolve`."""
    path = where.resolve(path, doc)
    if path[0] == "config" and at(doc, path) is None:
        return ("config", "data", *path[1:])
    return path


def at(doc: Any, path: Sequence[Any]) -> Any:
    """The value at the end of a path; None if there is none."""
    for step in path:
        inside = isinstance(doc, dict) and step in doc
        if isinstance(doc, list):
            inside = type(step) is int and step < len(doc)
        if not inside:
            return None
        doc = doc[step]
    return doc
