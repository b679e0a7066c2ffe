"""YAML as version 1.2's core schema means it, in plain data.

That is what people mean: `1e-8` is a number, `no` and `22:22` are text; but numbers may have
underscores, and merge keys (`<<`) are understood. Duplicate keys, tags, aliases that explode and
deep nesting are refused.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

from qn_tracking.errors import ConfigError, short
from qn_tracking.options import CHARACTERS, MAX_DEPTH, MAX_NODES
from qn_tracking.records.limits import MAX_INT

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_INT = re.compile(r"[-+]?([0-9][0-9_]*|0o[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0b[01][01_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_TYPES = {"int": int, "float": float, "bool": bool, "null": type(None)}
_MERGE = object()
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def parse(text: str, file: str) -> Any:
    """Plain data (dict, list, str, int, float, bool, None) from one YAML document.

    Raises ConfigError with line:column for bad syntax, and with the dotted field for a value that
    a configuration cannot hold: NaN, infinity, an integer beyond 2**53, a key that is not text.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(file).build(yaml.parse(text, Loader=loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{mark.line + 1}:{mark.column + 1}" if mark else None
        cause = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        if "nesting depth" in cause:  # of the parser itself, since PyYAML 6.0.4
            raise ConfigError(f"nested deeper than {MAX_DEPTH}", file=file, field=where) from None
        hint = "indent with spaces" if mark and _tab(text, mark.line) else None
        raise ConfigError(f"YAML: {cause}", file=file, field=where, hint=hint) from None
    except UnicodeEncodeError:  # of a command line that is not UTF-8
        raise ConfigError("not valid Unicode text", file=file) from None


def _tab(text: str, line: int) -> bool:
    lines = text.splitlines()
    return line < len(lines) and "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]


def differences(text: str, file: str) -> list[str]:
    """What PyYAML by itself, which reads version 1.1, makes of other values; one line for each.

    The text is one that `parse` takes.
    """
    import yaml

    builder = _Builder(file)
    builder.other = yaml.SafeLoader("")
    builder.build(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return builder.differences


class _Builder:
    """Builds data from parser events without recursion, counting what aliases would unfold."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: list[Any] = []
        self.stack: list[tuple[Any, str | None]] = []  # container, anchor
        self.path: list[str] = []
        self.keys: list[Any] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.sizes: list[int] = []
        self.merged: list[list[Any]] = []
        self.nodes = 0
        self.other: Any = None  # the loader to compare with
        self.differences: list[str] = []

    def fail(self, cause: str, mark: Any = None, hint: str | None = None) -> ConfigError:
        place = ".".join(self.path) or (f"{mark.line + 1}:{mark.column + 1}" if mark else None)
        return ConfigError(cause, file=self.file, field=place, hint=hint)

    def build(self, events: Any) -> Any:
        documents = 0
        for event in events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise self.fail("more than one YAML document", event.start_mark)
            elif kind == "ScalarEvent":
                self.scalar(event)
            elif kind == "AliasEvent":
                if event.anchor not in self.anchors:
                    raise self.fail(f"unknown alias *{event.anchor}", event.start_mark)
                value, size = self.anchors[event.anchor]
                self.count(size, event)
                if len(self.stack) + depth(value) > MAX_DEPTH:
                    raise self.fail(f"nested deeper than {MAX_DEPTH}", event.start_mark)
                self.add(value, event)
            elif kind in ("MappingStartEvent", "SequenceStartEvent"):
                self.tagged(event, ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"))
                self.count(1, event)
                if len(self.stack) >= MAX_DEPTH:
                    raise self.fail(f"nested deeper than {MAX_DEPTH}", event.start_mark)
                self.open({} if kind == "MappingStartEvent" else [], event)
            elif kind in ("MappingEndEvent", "SequenceEndEvent"):
                self.close(event)
        return self.root[0] if self.root else None

    def count(self, size: int, event: Any) -> None:
        self.nodes += size
        if self.nodes > MAX_NODES:
            raise self.fail(f"more than {MAX_NODES:,} values", event.start_mark)

    def tagged(self, event: Any, known: tuple[str, ...]) -> None:
        if event.tag not in (None, "!", *known):
            raise self.fail(f"tag {event.tag} is not supported", event.start_mark)

    def open(self, container: Any, event: Any) -> None:
        pending = self.keys[-1] if self.keys else None
        if isinstance(self.parent(), dict) and pending is None:
            raise self.fail("a key must be text", event.start_mark)
        self.stack.append((container, event.anchor))
        self.merged.append([])
        self.sizes.append(self.nodes - 1)
        self.keys.append(None)

    def close(self, event: Any) -> None:
        container, anchor = self.stack.pop()
        self.keys.pop()
        size = self.nodes - self.sizes.pop()
        for (
            source
        ) in self.merged.pop():  # the first one that has a key wins, and its own do above all
            for key, value in source.items():
                container.setdefault(key, _copy(value))
        if anchor:
            self.anchors[anchor] = (container, size)
        self.add(container, event)

    def parent(self) -> Any:
        return self.stack[-1][0] if self.stack else None

    def add(self, value: Any, event: Any) -> None:
        parent = self.parent()
        if parent is None:
            self.root.append(value)
        elif isinstance(parent, list):
            parent.append(value)
        elif self.keys[-1] is None:
            if type(value) is not str:
                shown = repr(value) if not isinstance(value, (dict, list)) else "a collection"
                raise self.fail(f"a key must be text, got {shown}", event.start_mark, "quote it")
            if value in parent:
                self.path.append(value)
                raise self.fail(f"duplicate key, again in line {event.start_mark.line + 1}")
            # Plain: in quotes it is a key like any other.
            is_merge = value == "<<" and getattr(event, "implicit", (False,))[0]
            if is_merge and self.merged[-1]:
                raise self.fail("duplicate key <<", event.start_mark)
            self.keys[-1] = _MERGE if is_merge else value
            self.path.append(value)
        elif self.keys[-1] is _MERGE:
            sources = value if isinstance(value, list) else [value]
            if not all(isinstance(source, dict) for source in sources):
                raise self.fail("expected a mapping to merge, or a list of them")
            self.merged[-1] = sources
            self.keys[-1] = None
            self.path.pop()
        else:
            # An alias shares its value; a copy keeps an override from changing both places.
            shared = isinstance(value, (dict, list)) and type(event).__name__ == "AliasEvent"
            parent[self.keys[-1]] = _copy(value) if shared else value
            self.keys[-1] = None
            self.path.pop()

    def scalar(self, event: Any) -> None:
        size = 1 + len(event.value) // CHARACTERS
        self.count(size, event)
        prefix = "tag:yaml.org,2002:"
        kinds = ("str", "int", "float", "bool", "null")
        self.tagged(event, tuple(prefix + kind for kind in kinds))
        if (event.tag in (None, "!") and not event.implicit[0]) or event.tag == prefix + "str":
            value: Any = event.value
        else:
            value = self.resolve(event.value, event)
            if event.tag not in (None, "!"):
                value = self.of_kind(event.tag.removeprefix(prefix), value, event)
            elif self.other is not None:
                self.compare(event.value, value)
        if event.anchor:
            self.anchors[event.anchor] = (value, size)
        self.add(value, event)

    def resolve(self, text: str, event: Any) -> Any:
        if text in _NULL:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if _INT.fullmatch(text):
            base = 0 if text.lstrip("+-")[:2] in ("0o", "0x", "0b") else 10
            value = int(text.replace("_", ""), base) if len(text) < 400 else MAX_INT
            if not -MAX_INT < value < MAX_INT:
                raise self.fail(f"{short(text, 40)} is beyond 2**53", event.start_mark)
            return value
        if _FLOAT.fullmatch(text):
            number = float(text.replace("_", ""))
            if not isfinite(number):
                raise self.fail(f"{short(text, 40)} is not a finite number", event.start_mark)
            return number
        if _NOT_FINITE.fullmatch(text):
            raise self.fail(f"{text} is not a finite number", event.start_mark)
        return text

    def of_kind(self, kind: str, value: Any, event: Any) -> Any:
        """A value that has a tag, such as `!!float 1`."""
        if kind == "float" and type(value) is int:
            return float(value)
        if kind == "bool" and (said := event.value.lower()) in ("yes", "no", "on", "off"):
            return said in ("yes", "on")
        if type(value) is not _TYPES[kind]:
            raise self.fail(f"{short(event.value, 40)!r} is no {kind}", event.start_mark)
        return value

    def compare(self, text: str, value: Any) -> None:
        """Keeps what another loader makes of a plain value, if that is not the same."""
        from yaml import ScalarNode

        tag = self.other.resolve(ScalarNode, text, (True, False))
        is_key = isinstance(self.parent(), dict) and self.keys[-1] is None
        # A date stays the text that it is.
        if is_key or tag.endswith((":timestamp", ":merge", ":value")):
            return
        try:
            theirs = self.other.construct_object(ScalarNode(tag, text))
        except ValueError:
            theirs = text
        if type(theirs) is not type(value) or theirs != value:
            place = ".".join(self.path)
            cause = f"{short(text, 40)} is read as {value!r}; PyYAML reads {theirs!r}"
            self.differences.append(str(ConfigError(cause, file=self.file, field=place)))


def depth(value: Any) -> int:
    """How many collections are inside one another; at most one more than is allowed."""
    deepest, level = 0, [value]
    while level and deepest <= MAX_DEPTH:
        inner: list[Any] = []
        for item in level:
            inner.extend(
                item.values() if isinstance(item, dict) else item if type(item) is list else ()
            )
        deepest += any(isinstance(item, (dict, list)) for item in level)
        level = [item for item in inner if isinstance(item, (dict, list))]
    return deepest


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
