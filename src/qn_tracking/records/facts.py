"""Where a record, as plain data, has the facts about where its run came from.

For those who cannot wait for the import of the typed records in `provenance`.
"""

from __future__ import annotations

from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

METADATA = "metadata"
"""The plugin whose facts they are, in `facts` of a record."""
NOTHING: Mapping[str, Any] = {}


def metadata(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    """The facts; empty if there are none."""
    return mapping(mapping(doc.get("facts")).get(METADATA))


def section(doc: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of the facts, such as `git`, with every field that it holds."""
    return mapping(metadata(doc).get(name))


def sampled(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    """The summaries of what the plugin `resources` has sampled, by name; empty without."""
    return mapping(mapping(mapping(doc.get("facts")).get("resources")).get("series"))


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else NOTHING
