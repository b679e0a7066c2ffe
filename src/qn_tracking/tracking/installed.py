"""The plugins that exist, built in or installed, by name. Nothing of a plugin is imported here.

A plugin is installed if a distribution on `sys.path` has an entry point of the group
`qn_tracking`; a folder that is there for a user's own modules has none. This module reads the files
`entry_points.txt` itself, because the import of `importlib.metadata` takes longer than a short
command.
"""

from __future__ import annotations

import os

from qn_tracking.errors import ConfigError, PluginSetupError, UsageError
from qn_tracking.importing import installations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    Requests = Mapping[str, Mapping[str, Any]]
    Named = Sequence[str] | Mapping[str, Mapping[str, Any] | None]

GROUP = "qn_tracking"
"""Name of the pluggy project and of the entry point group."""
BUILTIN = {
    "metadata": "qn_tracking.builtin.metadata:Metadata",
    "json_storage": "qn_tracking.builtin.json_storage:JsonStorage",
    "progress": "qn_tracking.builtin.progress:Progress",
    "resources": "qn_tracking.builtin.resources:Resources",
    "benchmark_validation": "qn_tracking.builtin.benchmark_validation:BenchmarkValidation",
    "nematode": "qn_tracking.nematode.plugin:Nematode",
    "view.static": "qn_tracking.nematode_view.plugin:NematodeViews",
    "view.dynamic": "qn_tracking.nematode_view.plugin:NematodeViews",
}
"""The only list of the built-in plugins. They are loaded as installed ones are."""
TRACKER = ("metadata", "json_storage")
"""What `--track-experiment` and `track()` turn on."""
VALIDATORS = ("benchmark_validation",)
"""What checks submissions, wherever it is installed."""
SIMULATION = "nematode"
"""Who makes the simulation of a configuration that names none."""
CONFIGS = "configs."
"""Begins the names of entry points whose value is a package that holds configurations."""
COMMAND = "command."
"""Begins the names of entry points that add a command."""


class EntryPoint:
    """A plugin's entry point: its name, and where its object is, as `module:attribute`."""

    __slots__ = ("_folder", "_metadata", "name", "value")

    def __init__(self, name: str, value: str, folder: str | None = None) -> None:
        self.name = name
        self.value = value
        self._folder = folder
        self._metadata: dict[str, str] | None = None

    def load(self) -> Any:
        """Imports the object. Raises what the import raises, and ValueError for no such value."""
        from importlib import import_module

        module, _, attribute = self.value.partition("[")[0].partition(":")
        found: Any = import_module(module.strip())
        for name in filter(None, attribute.strip().split(".")):
            found = getattr(found, name)
        return found

    @property
    def distribution(self) -> str:
        """The name of the distribution that it belongs to."""
        return self._field("Name") or "?"

    @property
    def version(self) -> str | None:
        """The version of the distribution that it belongs to."""
        return self._field("Version")

    def _field(self, field: str) -> str | None:
        if self._metadata is None:
            self._metadata = _metadata(self._folder) if self._folder else dict(_own())
        return self._metadata.get(field)


def entry_points() -> dict[str, EntryPoint]:
    """Built-in and installed plugins by name.

    A built-in one takes precedence. Raises PluginSetupError if two distributions claim one name.
    """
    found = builtin()
    for entry in every():
        other = found.get(entry.name)
        if other is not None and other.value != entry.value and entry.name not in BUILTIN:
            names = sorted((entry.distribution, other.distribution))
            raise PluginSetupError(
                f"claimed by {' and '.join(names)}",
                file=f"plugin {entry.name}",
                hint="uninstall one",
            )
        found.setdefault(entry.name, entry)
    return found


def builtin() -> dict[str, EntryPoint]:
    """The built-in plugins by name."""
    return {name: EntryPoint(name, value) for name, value in BUILTIN.items()}


def every() -> Iterator[EntryPoint]:
    """Every entry point of the group; a name may occur in several distributions."""
    seen: set[str] = set()
    for place in installations():
        for distribution, folder in _distributions(place or "."):
            if distribution in seen:  # further back on the path: not the one that is imported
                continue
            seen.add(distribution)
            for name, value in _points(folder):
                yield EntryPoint(name, value, folder)


def command_plugins() -> dict[str, EntryPoint]:
    """The installed plugins that have commands, by the first word of these."""
    return {
        name.removeprefix(COMMAND): entry
        for name, entry in entry_points().items()
        if name.startswith(COMMAND)
    }


def requests(section: Any, file: str, field: str = "plugins") -> Requests:
    """Names and options of a `plugins` section: a list of names, or a mapping to options."""
    if section is None:
        return {}
    entries: Iterable[tuple[Any, Any]]
    if isinstance(section, (list, tuple)):
        entries = [(name, None) for name in section]
    elif isinstance(section, dict):
        entries = section.items()
    else:
        raise ConfigError("expected a list of names, or names with options", file=file, field=field)
    out: dict[str, Mapping[str, Any]] = {}
    for name, options in entries:
        if type(name) is not str or not name:
            raise ConfigError(f"expected a name, got {name!r}", file=file, field=field)
        if options is not None and not isinstance(options, dict):
            raise ConfigError("expected options, or nothing", file=file, field=f"{field}.{name}")
        if name in out:
            raise ConfigError("named twice", file=file, field=f"{field}.{name}")
        out[name] = options or {}
    return out


def named(plugins: Named, *before: str) -> Requests:
    """What an argument `plugins` asks for, names or a mapping to options, after the others."""
    if isinstance(plugins, str):
        raise UsageError("plugins: expected names, got one text", hint=f"[{plugins!r}]")
    section = dict(plugins) if hasattr(plugins, "keys") else dict.fromkeys(plugins)
    return requests({**dict.fromkeys(before), **section}, "")


def rows(wanted: Iterable[str], blocked: Iterable[str]) -> list[tuple[str, ...]]:
    """Name, version, distribution, kind, and `on` or `off` of every plugin, without its import.

    The kind is what the name says: `brain.lstm` is a provider. What else a plugin does, and whether
    it can be imported, `manager.list_plugins` finds out.
    """
    wanted, blocked = set(wanted), set(blocked)
    installed = {name: e for name, e in entry_points().items() if not name.startswith(CONFIGS)}
    out: list[tuple[str, ...]] = []
    for name in dict.fromkeys((*installed, *sorted(wanted))):
        entry = installed.get(name)
        provider = ("." in name and ":" not in name) or name == SIMULATION
        kind = "provider" if provider else "validator" if name in VALIDATORS else "sink"
        on = (provider or name in wanted or name in VALIDATORS) and name not in blocked
        if entry is None:
            version, place = "-", "this folder" if ":" in name else "?"
        else:
            version, place = entry.version or "-", entry.distribution
        out.append((name, version, place, kind, "on" if on else "off"))
    return out


def version() -> str:
    """The version of this package, as it is installed."""
    return _own().get("Version", "?")


# ------------------------------------------------------------------------------- distributions


def _distributions(place: str) -> list[tuple[str, str]]:
    """The distributions in a folder of `sys.path`: each name, and the folder that describes it."""
    try:
        names = os.listdir(place)
    except OSError:
        return []
    return [
        (_normal(name), os.path.join(place, name))
        for name in names
        if name.endswith((".dist-info", ".egg-info"))
    ]


def _normal(folder: str) -> str:
    """`qn_tracking` of `qn_tracking-0.1.0.dist-info`: one name, however it is spelt."""
    name = folder.rpartition(".")[0].partition("-")[0]
    return name.lower().replace(".", "_")


def _points(folder: str) -> Iterator[tuple[str, str]]:
    """Name and value of the entry points of the group."""
    try:
        with open(os.path.join(folder, "entry_points.txt"), "rb") as stream:
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return
    inside = False
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            inside = line == f"[{GROUP}]"
        elif inside and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _own() -> dict[str, str]:
    """Name and version of this package."""
    for place in installations():
        for distribution, folder in _distributions(place or "."):
            if distribution == "qn_tracking":
                return _metadata(folder)
    return {"Name": "qn-tracking"}


def _metadata(folder: str) -> dict[str, str]:
    """The fields at the head of a distribution's description."""
    for name in ("METADATA", "PKG-INFO"):
        try:
            with open(os.path.join(folder, name), "rb") as stream:
                head = stream.read(4096).decode("utf-8", "replace")
        except OSError:
            continue
        fields = {}
        for line in head.splitlines():
            field, colon, value = line.partition(": ")
            if not colon or field in fields or field not in ("Name", "Version"):
                continue
            fields[field] = value.strip()
        return fields
    return {}
