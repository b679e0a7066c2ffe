"""One configuration in, checked before anything runs: YAML, or the mapping, JSON or TOML of a host.

The file is opened once; what runs is the text that was read then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve

from qn_tracking import files
from qn_tracking.errors import ConfigError, UsageError
from qn_tracking.options import MAX_BYTES, MAX_DEPTH, plain_options
from qn_tracking.records.codec import canonical, digest
from qn_tracking.records.model import Config
from qn_tracking.shipped import own, shipped as shipped
from qn_tracking.yaml_core import depth, differences, parse

SETTINGS = ("plugins", "seed", "episodes", "simulation")
"""Top-level keys that are about the run and not about what is simulated."""
MAPPING = "config"
"""The label of a configuration that a program has passed, which is no file."""
RUNS = "runs"
"""What `episodes` is called in the configurations of Quantum Nematode: always understood."""


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
    return evolve(config, differences=tuple(differences(config.text, config.label)))


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
    if changes and depth(data) > MAX_DEPTH:
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
