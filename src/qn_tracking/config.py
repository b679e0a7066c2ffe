"""One configuration in, checked before anything runs: YAML, or the mapping, JSON or TOML of a host.

The YAML is that of version 1.2's core schema, which is what people mean: `1e-8` is a number, `no`
and `22:22` are text; but numbers may have underscores, and merge keys (`<<`) are understood.
Duplicate keys, tags, aliases that explode and deep nesting are refused. The file is opened once;
what runs is the text that was read then.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from attrs import evolve

from qn_tracking import files
from qn_tracking.errors import ConfigError, UsageError, short
from qn_tracking.options import CHARACTERS, MAX_BYTES, MAX_DEPTH, MAX_NODES, plain_options
from qn_tracking.records.codec import canonical, digest
from qn_tracking.records.limits import MAX_INT
from qn_tracking.records.model import Config
from qn_tracking.shipped import own, shipped as shipped

SETTINGS = ("plugins", "seed", "episodes", "simulation")
"""Top-level keys that are about the run and not about what is simulated."""
MAPPING = "config"
"""The label of a configuration that a program has passed, which is no file."""
RUNS = "runs"
"""What `episodes` is called in the configurations of Quantum Nematode: always understood."""

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_INT = re.compile(r"[-+]?([0-9][0-9_]*|0o[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0b[01][01_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_TYPES = {"int": int, "float": float, "bool": bool, "null": type(None)}
_MERGE = object()
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def _shipped(name: str) -> str:
    """The path of a shipped configuration; the name itself if there is none.

    Looks among the plugins only for one that is not the package's own: that costs milliseconds.
    """
    return own().get(name) or shipped().get(name, name)


def load(source: str | os.PathLike[str], overrides: Any = ()) -> Config:
    """A configuration from a file, or a shipped one by its name.

    `overrides` are `dotted.field=VALUE` with VALUE in YAML, or as in `track()`. Raises
    ConfigError for what cannot be read or parsed, UsageError for a malformed override.
    """
    given = os.fspath(source)
    path = given
    if os.sep not in given and not given.endswith((".yml", ".yaml")) and not os.path.exists(given):
        path = _shipped(given)
    raw = _read(path, given)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        encoding = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "not UTF-8"
        raise ConfigError(f"encoding is {encoding}", file=given, hint="save it as UTF-8") from None
    changes = _changes(overrides)
    # A shipped one is in no folder of the user's, and in none of their repositories.
    place = os.path.realpath(path) if path == given else None
    return _config(_read_as(text, given), given, text, digest(raw), place, changes)


def from_text(text: str, label: str, overrides: Mapping[str, Any]) -> Config:
    """A configuration from the text and the overrides that a record holds.

    Raises ConfigError; one that was redacted has another SHA-256 than the record says.
    """
    return _config(_read_as(text, label), label, text, digest(text.encode()), None, overrides)


def from_mapping(data: Any, overrides: Any = ()) -> Config:
    """A configuration from a host's own mapping or object with fields, kept as canonical JSON."""
    label = MAPPING
    checked = plain_options(data, label)
    if type(checked) is not dict:
        raise ConfigError(f"expected a mapping, got {type(data).__name__}", file=label)
    raw = canonical(checked)
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"larger than {MAX_BYTES >> 20} MiB", file=label)
    changes = _changes(overrides)
    return _config(checked, label, raw.decode(), digest(raw), None, changes)


def as_config(source: Any, overrides: Any = ()) -> Config:
    """A `Config` from whatever a host has: one already, a mapping, a path or a shipped name.

    `overrides` are `dotted.field=VALUE` with VALUE in YAML, or as in `track()`.
    """
    if isinstance(source, Config):
        if _changes(overrides):
            raise UsageError("overrides: the configuration has been read already")
        return source
    if isinstance(source, (str, os.PathLike)):
        return load(source, overrides)
    return from_mapping(source, overrides)


def of_host(source: Any, overrides: Any = ()) -> Config:
    """As `as_config`; of a YAML file, which the host reads by itself, also what it may have got.

    PyYAML reads version 1.1, where `3e-4` is text, `010` is 8 and `yes` is true.
    """
    config = as_config(source, overrides)
    is_own = config.path is None or config.label.endswith((".json", ".toml"))
    if is_own or not isinstance(source, (str, os.PathLike)):
        return config
    import yaml

    builder = _Builder(config.label)
    builder.other = yaml.SafeLoader("")
    builder.build(yaml.parse(config.text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return evolve(config, differences=tuple(builder.differences))


def declaring(config: Config, task: Mapping[str, Any]) -> Config:
    """The configuration with a section `task`. Raises UsageError if it cannot be declared."""
    if "task" in config.data:
        raise UsageError("task: the configuration has such a field already")
    if not isinstance(task.get("environment"), str) or not task["environment"]:
        hint = 'environment="FrozenLake-v1"'
        raise UsageError("task: needs an environment, the name of what is solved", hint=hint)
    checked = plain_options({"task": dict(task)}, config.label)
    changes = {**config.overrides, **checked}
    data, settings = {**config.data, **checked}, config.settings
    digest = digest_of(data, settings)
    return evolve(config, data=data, digest=digest, overrides=changes)


def digest_of(data: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The digest of what runs: the data, and the simulation where it is named.

    The same data may mean anything to another simulation.
    """
    simulation = settings.get("simulation")
    meant = data if simulation is None else {"simulation": simulation, "data": data}
    return digest(canonical(meant))


def _config(
    data: Any, label: str, text: str, sha256: str, path: str | None, changes: Mapping[str, Any]
) -> Config:
    if not isinstance(data, dict):
        got = {type(None): "nothing", list: "a list"}.get(type(data), repr(data)[:40])
        raise ConfigError(f"expected a mapping of sections, got {got}", file=label)
    for field, value in changes.items():
        _set(data, field.split("."), value, field)
    if changes and _depth(data) > MAX_DEPTH:
        raise ConfigError(f"nested deeper than {MAX_DEPTH}", file=label)
    if RUNS in data and "episodes" in data:
        raise ConfigError("means episodes, which is there as well", file=label, field=RUNS)
    settings = {key: data.pop(key) for key in SETTINGS if key in data}
    named = RUNS if RUNS in data else "episodes"
    if RUNS in data:
        settings["episodes"] = data.pop(RUNS)
    elif path is None and not _is_count(settings.get("episodes", 1)):
        # A program of its own may mean anything by the word.
        data["episodes"] = settings.pop("episodes")
    simulation = settings.get("simulation")
    if simulation is not None and type(simulation) is not str:
        raise ConfigError(f"expected text, got {simulation!r}", file=label, field="simulation")
    for key, field, least in (("seed", "seed", 0), ("episodes", named, 1)):
        value = settings.get(key)
        if value is not None and (type(value) is not int or value < least):
            raise ConfigError(
                f"expected a whole number from {least}, got {value!r}", file=label, field=field
            )
    return Config(
        label=label,
        path=path,
        text=text,
        sha256=sha256,
        data=data,
        digest=digest_of(data, settings),
        overrides=changes,
        settings=settings,
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _read(path: str, given: str) -> bytes:
    try:
        return files.load(path, MAX_BYTES, error=ConfigError, name=given, follow=True)[0]
    except ValueError:
        raise ConfigError("not a file name", file=given) from None
    except FileNotFoundError:
        from difflib import get_close_matches

        names = shipped()
        name = os.path.splitext(os.path.basename(given))[0]
        near = get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"shipped: {near[0] if near else ', '.join(names)}" if names else None
        raise ConfigError("no such file or directory", file=given, hint=hint) from None


# ------------------------------------------------------------------------------- a host's own files


def _read_as(text: str, label: str) -> Any:
    """Plain data from a file of the kind that its name says: JSON, TOML, else YAML."""
    match os.path.splitext(label)[1]:
        case ".json":
            return plain_options(_json(text, label), label)
        case ".toml":
            import tomllib

            try:
                return plain_options(tomllib.loads(text), label)
            except ConfigError:
                raise
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"TOML: {error}", file=label) from None
    return parse(text, label)


def _json(text: str, file: str) -> Any:
    # Not orjson: it silently keeps the last of two equal keys.
    import json

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ConfigError("duplicate key", file=file, field=key)
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            place = f"{error.lineno}:{error.colno}"
            raise ConfigError(f"JSON: {error.msg}", file=file, field=place) from None
        raise ConfigError(f"JSON: {error}", file=file) from None


# -------------------------------------------------------------------------------------- overrides


def _changes(overrides: Any) -> dict[str, Any]:
    """Values by dotted field: of `FIELD=VALUE`, a mapping, or the arguments of a parser.

    Of the arguments of argparse None is an option that was not given.
    """
    found = plain_options(overrides, "overrides")
    if type(found) is list and all(type(text) is str for text in found):
        return dict(map(_override, found))
    if type(found) is not dict:
        cause = f"expected values by field, got {type(overrides).__name__}"
        raise UsageError(f"overrides: {cause}")
    skip = type(overrides).__module__ == "argparse"
    return {field: value for field, value in _leaves(found) if value is not None or not skip}


def _leaves(data: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        field = f"{above}{key}"
        if not all(field.split(".")):
            raise UsageError(f"overrides: {field!r} is no field", hint="such as brain.config.gamma")
        if type(value) is dict and value:
            yield from _leaves(value, f"{field}.")
        else:
            yield field, value


def _override(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    field = field.strip()
    if not equals or not all(field.split(".")):
        raise UsageError(
            f"--set {text}: expected FIELD=VALUE", hint="such as --set brain.config.gamma=0.95"
        )
    return field, parse(value, f"--set {field}")


def meant(data: Mapping[str, Any], overrides: Sequence[str], error: ConfigError) -> str | None:
    """The field that an override probably meant, if it caused this error: one of the same name, or
    of the nearest.
    """
    from difflib import get_close_matches  # only a mistake needs it

    for text in overrides:
        field = text.partition("=")[0].strip()
        name = field.rpartition(".")[2]
        if name in (error.field or "").split(".") or f"key {name!r}" in error.cause:
            paths = _paths(data)
            paths.pop(field, None)
            near = get_close_matches(name, paths.values(), n=1)
            if near:
                return next(path for path, key in paths.items() if key == near[0])
    return None


def _paths(data: Any) -> dict[str, str]:
    """The names of fields by their dotted paths, the outermost first."""
    found: dict[str, str] = {}
    level: list[tuple[str, Any]] = [("", data)]
    while level:
        inner: list[tuple[str, Any]] = []
        for path, section in level:
            for key, value in section.items():
                here = f"{path}.{key}".lstrip(".")
                found[here] = key
                if isinstance(value, Mapping):
                    inner.append((here, value))
        level = inner
    return found


def _set(data: dict[str, Any], keys: list[str], value: Any, field: str) -> None:
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise ConfigError(f"{key} is not a section", file=f"--set {field}")
    data[keys[-1]] = value


# ------------------------------------------------------------------------------------------- YAML


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
                if len(self.stack) + _depth(value) > MAX_DEPTH:
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


def _depth(value: Any) -> int:
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
