"""The plugins of a run: imported, made, checked and registered."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy
from attrs import fields, frozen

from qn_tracking.errors import (
    ConfigError,
    PluginError,
    PluginSetupError,
    QnError,
    UnsupportedError,
    describe,
    did_you_mean,
)
from qn_tracking.files import current_folder
from qn_tracking.importing import include
from qn_tracking.records.model import EMPTY, Config, Simulation, Subject, Value
from qn_tracking.tracking import hookspecs
from qn_tracking.tracking.installed import (
    BUILTIN as BUILTIN,
    CONFIGS,
    SIMULATION,
    TRACKER as TRACKER,
    VALIDATORS as VALIDATORS,
    EntryPoint,
    entry_points as entry_points,
    requests as requests,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from pluggy import HookimplOpts, HookspecOpts

    from qn_tracking.tracking.hookspecs import View
    from qn_tracking.tracking.installed import Requests


class _Manager(pluggy.PluginManager):
    """Looks for hooks among a plugin's own names, not among Python's, which are four times as many,
    and for specifications where there are some: together more than a millisecond of each run.
    """

    def parse_hookimpl_opts(self, plugin: object, name: str) -> HookimplOpts | None:
        return None if _is_special(name) else super().parse_hookimpl_opts(plugin, name)

    def parse_hookspec_opts(
        self, module_or_class: ModuleType | type, name: str
    ) -> HookspecOpts | None:
        if module_or_class is hookspecs and name not in hookspecs.HOOKS:
            return None
        return super().parse_hookspec_opts(module_or_class, name)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def make_manager(
    plugins: Requests | Sequence[str] = (),
    *,
    blocked: Sequence[str] = (),
    config: Config | None = None,
) -> pluggy.PluginManager:
    """A fresh manager with these sinks, and with the providers that the configuration asks for.

    Nothing is shared between two managers. Raises PluginSetupError naming the plugin that is
    unknown, cannot be imported, or does not fit the hooks.
    """
    wanted: Requests = plugins if isinstance(plugins, Mapping) else dict.fromkeys(plugins, EMPTY)
    manager = _Manager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    _check_blocked(blocked, wanted)
    if config is not None:
        for name, attribute in _providers(config, manager, blocked):
            register(manager, name, _made(name, attribute, EMPTY))
    for name, options in wanted.items():
        if name not in blocked:
            register(manager, name, _made(name, _found(name), options))
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise _misfit(manager.get_name(error.plugin) or "?", error) from None
    return manager


def _check_blocked(blocked: Sequence[str], wanted: Requests) -> None:
    """A typing error in what is to be blocked would leave it on."""
    for name in blocked:
        if name not in BUILTIN and name not in wanted and name not in entry_points():
            hint = did_you_mean(name, {*BUILTIN, *wanted})
            raise PluginSetupError("unknown plugin", file=f"plugin {name}", hint=hint)


def make_simulation(config: Config, manager: pluggy.PluginManager) -> Simulation:
    """The simulation that a configuration describes, completely validated.

    Raises ConfigError if no provider knows it, and PluginError naming a provider that raised
    something of its own.
    """
    try:
        simulation = manager.hook.make_simulation(config=config, hook=manager.hook)
    except QnError:
        raise
    except (Exception, SystemExit) as error:
        name = _culprit(manager, error)
        raise PluginError(
            describe(error), file=f"plugin {name}", field="make_simulation"
        ) from error
    if simulation is None:
        named = config.settings.get("simulation")
        missing = [name for name in ("environment", "brain") if name not in config.data]
        cause = f"no section {missing[0]}" if missing else "no provider knows this simulation"
        if named is not None and named != SIMULATION:
            cause = f"the provider of {named!r} made none"
        raise ConfigError(cause, file=config.label)
    _check_simulation(simulation, config)
    return simulation  # type: ignore[no-any-return]


def _check_simulation(simulation: Any, config: Config) -> None:
    """What the rest relies on. Raises PluginError: a record of it could not be read again."""

    def wrong(what: str, value: object, expected: str) -> PluginError:
        cause = f"{what}: expected {expected}, got {type(value).__name__}"
        return PluginError(cause, file=config.label, field="make_simulation")

    subject = getattr(simulation, "subject", None)
    if not isinstance(subject, Subject):
        raise wrong("subject", subject, "a Subject")
    for field in fields(Subject):
        value = getattr(subject, field.name)
        if field.name == "packages":
            if type(value) is not tuple or not all(type(one) is str for one in value):
                raise wrong("subject.packages", value, "a tuple of texts")
        elif type(value) is not str and not (value is None and field.name == "backend"):
            raise wrong(f"subject.{field.name}", value, "text")
    warnings = getattr(simulation, "warnings", None)
    if not isinstance(warnings, (tuple, list)):
        raise wrong("warnings", warnings, "a tuple of texts")
    if not callable(getattr(simulation, "episodes", None)):
        raise wrong("episodes", getattr(simulation, "episodes", None), "a method")


def executor_plugin(spec: str, blocked: Sequence[str] = ()) -> tuple[str, EntryPoint]:
    """The installed plugin that makes the executor of `SCHEME` or `SCHEME://…`, and its name.

    Raises PluginSetupError for a scheme without one.
    """
    key = f"executor.{spec.partition('://')[0]}"
    installed = entry_points()
    if key not in installed or key in blocked:
        schemes = [n.partition(".")[2] for n in installed if n.startswith("executor.")]
        hint = f"known: {', '.join(['local', *schemes])}"
        raise PluginSetupError("unknown executor", file=f"--executor {spec}", hint=hint)
    return key, installed[key]


def make_executor(spec: str, jobs: int | None, *, blocked: Sequence[str] = ()) -> Executor:
    """The executor of `SCHEME` or `SCHEME://…`, by the installed plugin `executor.SCHEME`.

    Raises PluginSetupError for a scheme without a plugin, and PluginError naming a plugin that
    raised something of its own.
    """
    key, entry = executor_plugin(spec, blocked)
    made = _called(entry, "make_executor", spec=spec, jobs=jobs)
    if made is None:
        raise PluginSetupError("made no executor", file=f"plugin {key}", hint=f"asked for {spec}")
    return made  # type: ignore[no-any-return]


def make_view(simulation: Simulation) -> tuple[View, str]:
    """What shows the episodes of a simulation, and the plugin `view.ENVIRONMENT` that made it.

    Raises UnsupportedError if there is none, and PluginError naming a plugin that raised something
    of its own.
    """
    key = f"view.{simulation.subject.environment}"
    entry = entry_points().get(key)
    made = None if entry is None else _called(entry, "make_view", simulation=simulation)
    if made is None:
        hint = f"a plugin {key} could show it"
        raise UnsupportedError("no plugin shows this simulation", file=key, hint=hint)
    return made, key


def register_commands(entry: EntryPoint, commands: hookspecs.Commands) -> None:
    """Lets one plugin add its commands.

    Raises PluginSetupError or PluginError naming it.
    """
    _called(entry, "register_commands", commands=commands)


def _called(entry: EntryPoint, hook: str, **arguments: Any) -> Any:
    """What the one plugin of an entry point answers to a hook."""
    manager = _Manager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    register(manager, entry.name, _made(entry.name, _loaded(entry), EMPTY))
    try:
        return getattr(manager.hook, hook)(**arguments)
    except QnError:
        raise
    except (Exception, SystemExit) as error:
        hint = f"uninstall {entry.distribution}"
        raise PluginError(
            describe(error), file=f"plugin {entry.name}", field=hook, hint=hint
        ) from error


# ---------------------------------------------------------------------------------------- finding


def _found(name: str) -> Any:
    """The class, module or object that a name stands for."""
    if ":" in name:
        return _in_project(name)
    # For a built-in one the installed ones need not be looked at.
    entry = EntryPoint(name, BUILTIN[name]) if name in BUILTIN else entry_points().get(name)
    if entry is None:
        sinks = [known for known in entry_points() if "." not in known and known != SIMULATION]
        hint = did_you_mean(name, sinks) or f"known: {', '.join(sinks)}; or MODULE:ATTRIBUTE here"
        raise PluginSetupError("unknown plugin", file=f"plugin {name}", hint=hint)
    return _loaded(entry)


def _loaded(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginSetupError(
            f"cannot be imported: {type(error).__name__}: {error}", file=f"plugin {entry.name}"
        ) from error


def _in_project(name: str) -> Any:
    """`module:attribute` from the current folder, and from nowhere else.

    A configuration may name plugins, and may come from a stranger: what it can reach is what the
    user has put here, not `os:system`.
    """
    path, _, attribute = name.partition(":")
    if not path.replace(".", "_").isidentifier() or not attribute.replace(".", "_").isidentifier():
        raise PluginSetupError("expected MODULE:ATTRIBUTE", file=f"plugin {name}")
    here = current_folder()
    place = os.path.join(here, *path.split("."))
    if not any(map(os.path.isfile, (f"{place}.py", os.path.join(place, "__init__.py")))):
        raise PluginSetupError(f"no module {path} in this folder", file=f"plugin {name}")
    include(here)
    try:
        found: Any = importlib.import_module(path)
        with suppress(ModuleNotFoundError):
            if not hasattr(found, attribute.partition(".")[0]):
                importlib.import_module(f"{path}.{attribute.partition('.')[0]}")
        source = getattr(found, "__file__", None) or ""
        if os.path.commonpath((os.path.abspath(source), here)) != here:
            raise PluginSetupError(
                f"{path} is the name of an installed module",
                file=f"plugin {name}",
                hint="rename it",
            )
        for part in attribute.split("."):
            found = getattr(found, part)
    except (QnError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginSetupError(
            f"cannot be imported: {type(error).__name__}: {error}", file=f"plugin {name}"
        ) from error
    return found


def _providers(
    config: Config, manager: pluggy.PluginManager, blocked: Sequence[str]
) -> Iterable[tuple[str, Any]]:
    """The built-in simulation, and installed providers of what the configuration names.

    A provider's entry point is called after what it provides, `brain.lstm` for instance, so that
    only those asked for are imported.
    """
    known: frozenset[str] = frozenset()
    if SIMULATION not in blocked:
        provider = _found(SIMULATION)
        yield SIMULATION, provider
        known = frozenset(provider.provides)
    asked = [
        f"{kind}.{value}"
        for kind, value in (
            ("simulation", config.settings.get("simulation")),
            ("environment", _named(config.data.get("environment"), "type")),
            ("brain", _named(config.data.get("brain"), "name")),
        )
        if type(value) is str
    ]
    missing = [key for key in asked if key not in known and key not in blocked]
    if missing:
        installed = entry_points()
        for key in missing:
            if key in installed:
                yield key, _loaded(installed[key])
            elif key.startswith("simulation.") and key != f"simulation.{SIMULATION}":
                names = [n.partition(".")[2] for n in installed if n.startswith("simulation.")]
                raise ConfigError(
                    f"unknown simulation {key.partition('.')[2]!r}",
                    file=config.label,
                    field="simulation",
                    hint=f"known: {', '.join([SIMULATION, *names])}",
                )


def _named(section: Any, key: str) -> Any:
    return section.get(key) if isinstance(section, Mapping) else None


# --------------------------------------------------------------------------------------- checking


def _made(name: str, found: Any, options: Mapping[str, Any]) -> Any:
    """A plugin object of this run: a new object of a class, modules and objects as they are."""
    if not implemented(found):
        raise PluginSetupError(
            "implements no hook", file=f"plugin {name}", hint="decorate its methods with @hookimpl"
        )
    if not inspect.isclass(found):
        if options:
            raise PluginSetupError("takes no options", file=f"plugin {name}")
        return found
    try:
        known: Mapping[str, Any] = inspect.signature(found).parameters
    except ValueError:  # of one that is not Python
        known = dict.fromkeys(options)
    loose = any(
        getattr(one, "kind", None) is inspect.Parameter.VAR_KEYWORD for one in known.values()
    )
    for option in () if loose else options:
        if option not in known:
            hint = did_you_mean(option, known) or f"known: {', '.join(known) or 'none'}"
            raise PluginSetupError(f"unknown option {option!r}", file=f"plugin {name}", hint=hint)
    try:
        return found(**options)
    except (QnError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginSetupError(
            f"cannot be made: {type(error).__name__}: {error}", file=f"plugin {name}"
        ) from error


def _marker(function: Any) -> Any:
    return getattr(function, f"{hookspecs.PROJECT}_impl", None)


def implemented(plugin: Any) -> tuple[str, ...]:
    """The names that a plugin decorates with @hookimpl, also unknown ones."""
    names = [name for name in dir(plugin) if not _is_special(name)]
    return tuple(name for name in names if _marker(inspect.getattr_static(plugin, name)))


def register(manager: pluggy.PluginManager, name: str, plugin: Any) -> None:
    """Adds a plugin object under a name.

    Raises PluginSetupError for hooks that are not marked or do not fit; a misspelt one is found by
    `manager.check_pending()`.
    """
    own = {*dir(plugin)}
    for hook in (hook for hook in hookspecs.HOOKS if hook in own):
        function = inspect.getattr_static(plugin, hook, None)
        if callable(function) and not _marker(function):
            raise PluginSetupError(
                f"{hook} is not marked", file=f"plugin {name}", hint="put @hookimpl before it"
            )
    try:
        manager.register(plugin, name=name)
    except pluggy.PluginValidationError as error:
        raise _misfit(name, error) from None
    except ValueError as error:
        raise PluginSetupError(f"loaded twice: {error}", file=f"plugin {name}") from None


def _misfit(name: str, error: Exception) -> PluginSetupError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = "; ".join(lines)
    if text.startswith("unknown hook"):
        hook = text.split("'")[1]
        hint = did_you_mean(hook, hookspecs.HOOKS)
        return PluginSetupError(f"unknown hook {hook}", file=f"plugin {name}", hint=hint)
    cause = next((line for line in lines if "argument" in line.lower()), text)
    return PluginSetupError(cause, file=f"plugin {name}", hint=_arguments(text))


def _arguments(text: str) -> str | None:
    for hook in hookspecs.HOOKS:
        if f"'{hook}'" in text or f"hook: {hook}" in text or f" {hook}(" in text:
            names = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
            return f"{hook} takes {names}"
    return None


def _culprit(manager: pluggy.PluginManager, error: BaseException) -> str:
    """The plugin in whose code an exception was raised, by its traceback."""
    modules: dict[str, str] = {}
    for name, plugin in manager.list_name_plugin():
        module = (
            plugin if isinstance(plugin, ModuleType) else sys.modules.get(type(plugin).__module__)
        )
        file = getattr(module, "__file__", None)
        if file:
            modules[file] = name
    found, trace = "?", error.__traceback__
    while trace is not None:
        found = modules.get(trace.tb_frame.f_code.co_filename, found)
        trace = trace.tb_next
    return found


# ---------------------------------------------------------------------------------------- listing


@frozen(kw_only=True, eq=False, repr=False)
class PluginRow(Value):
    """A plugin that could be used: a row of `--list-plugins --hooks`."""

    name: str
    version: str | None
    distribution: str
    kind: str
    hooks: tuple[str, ...]
    on: bool
    error: str | None = None
    unchecked: bool = False


def list_plugins(
    wanted: Requests, blocked: Sequence[str], unchecked: Sequence[str] = ()
) -> tuple[PluginRow, ...]:
    """Every built-in and installed plugin, and those that are asked for.

    Imports each of them but the `unchecked`. One that cannot be imported is a row with its error.
    """
    installed = {
        name: entry for name, entry in entry_points().items() if not name.startswith(CONFIGS)
    }
    rows = []
    for name in dict.fromkeys((*installed, *wanted)):
        entry = installed.get(name)
        hooks: tuple[str, ...] = ()
        problem = None
        try:
            if name not in unchecked:
                hooks = implemented(_found(name) if entry is None else _loaded(entry))
        except PluginSetupError as error:
            problem = str(error)
        kind = kind_of(name, hooks)
        is_on = kind == "provider" or name in (*wanted, *VALIDATORS)
        rows.append(
            PluginRow(
                name=name,
                version=entry.version if entry else None,
                distribution=entry.distribution
                if entry
                else ("this folder" if ":" in name else "?"),
                kind=kind,
                hooks=hooks,
                on=is_on and name not in blocked and not problem,
                error=problem,
                unchecked=name in unchecked,
            )
        )
    return tuple(rows)


def kind_of(name: str, hooks: Sequence[str]) -> str:
    """`provider`, `validator` or `sink`, by the hooks of a plugin."""
    if hooks and set(hooks) <= set(hookspecs.VALIDATION_HOOKS):
        return "validator"
    is_provider = "." in name or bool(set(hooks) & set(hookspecs.MAKE_HOOKS))
    return "provider" if is_provider and ":" not in name else "sink"
