"""What is going to run: a configuration with its simulation and its plugins, checked as a whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from qn_tracking import config as configuration, ids
from qn_tracking.errors import ConfigError, UsageError
from qn_tracking.records.model import EMPTY, Config, Simulation
from qn_tracking.redact import redact_config, said_of
from qn_tracking.studies.sweep import choices, parse, text_of
from qn_tracking.tracking import runner
from qn_tracking.tracking.evaluation import with_evaluation
from qn_tracking.tracking.manager import make_manager, make_simulation
from qn_tracking.tracking.wanted import check_asked, choose, project, unasked

if TYPE_CHECKING:
    from pluggy import PluginManager

    from qn_tracking.tracking.installed import Named

EPISODES = 50
"""How many episodes a run has that does not say."""

Source = Config | Mapping[str, Any] | str | os.PathLike[str]
Requests = Mapping[str, Mapping[str, Any]]


@frozen(kw_only=True)
class Plan:
    """A checked configuration. `requests` are the plugins that it asks for, and their options.

    `unchecked` are those of the current folder that a dry run has not imported.
    """

    config: Config
    simulation: Simulation
    manager: PluginManager
    requests: Requests
    blocked: tuple[str, ...]
    experiments_dir: str
    unchecked: tuple[str, ...] = ()

    @property
    def plugins(self) -> tuple[str, ...]:
        """The names of the plugins that are on."""
        return tuple(name for name in self.requests if name not in self.blocked)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What there is to say before the first episode."""
        return (*self.simulation.warnings, *said_of(redact_config(self.config)))

    @property
    def about(self) -> dict[str, Any]:
        """What would run, as plain data."""
        subject = self.simulation.subject
        return {
            "config": self.config.label,
            "digest": self.config.digest,
            "environment": subject.environment,
            "brain": subject.brain,
            "family": subject.family,
            **({"unchecked": list(self.unchecked)} if self.unchecked else {}),
        }

    def episodes(self, given: int | None, default: int = EPISODES) -> int:
        """The number that is given, else the configuration's, else the default."""
        if given is None:
            return self.config.settings.get("episodes") or default
        if type(given) is int and given < 1:
            raise UsageError(f"expected 1 or more, got {given}", field="episodes")
        return given

    def seed(self, given: int | None) -> int | None:
        """The seed that is given, else the configuration's; None if neither says one."""
        seed: int | None = self.config.settings.get("seed") if given is None else given
        return seed


def make_plan(
    config: Source,
    *,
    overrides: Sequence[str] = (),
    plugins: Named = (),
    blocked: Sequence[str] = (),
    experiments_dir: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    evaluate_every: int | None = None,
    evaluate_episodes: int | None = None,
) -> Plan:
    """Reads and checks a configuration, makes its plugins and its simulation; writes nothing.

    `overrides` are `dotted.field=VALUE` with VALUE in YAML. With `dry_run` no code of the current
    folder is imported but that of `plugins`; the rest is `unchecked`. Raises ConfigError,
    UsageError and PluginError for what cannot run. Numeric libraries that are imported from now on
    use one thread.
    """
    runner.pin_numeric_threads()
    settings = project()
    read = configuration.as_config(config, overrides)
    folder = os.fspath(experiments_dir or settings.experiments_dir or "experiments")
    try:
        files = unasked(read, settings, plugins)
        plan = plan_of(read, choose(read, settings, plugins), blocked, folder, files, dry_run)
        config = with_evaluation(plan.config, plan.simulation, evaluate_every, evaluate_episodes)
        return evolve(plan, config=config)
    except ConfigError as error:
        field = configuration.meant(read.data, overrides, error)
        if field is not None:
            error.hint = f"did you mean {field}?"
        raise


def make_plans(
    configs: Sequence[Source],
    sweep: Mapping[str, Sequence[Any] | str],
    *,
    paired: bool = False,
    overrides: Sequence[str] = (),
    **options: Any,
) -> tuple[list[str], list[Plan]]:
    """The names and the plans of arms: each configuration with each combination of swept values.

    `options` are those of `make_plan`. Raises as it does; an error of one arm names the arm.
    """
    if not configs:
        raise UsageError("expected a configuration")
    fixed = {text.partition("=")[0].strip() for text in overrides}
    values: dict[str, Sequence[Any]] = {}
    for field, given in sweep.items():
        if field in fixed:
            raise UsageError("is set, too", file=f"--sweep {field}")
        values[field] = parse(given, f"--sweep {field}") if isinstance(given, str) else given
    found = choices([_label(config) for config in configs], values, paired=paired)
    plans = []
    for arm in found:
        try:
            more = [*overrides, *arm.overrides]
            plans.append(make_plan(configs[arm.config], overrides=more, **options))
        except ConfigError as error:
            if len(found) > 1 and arm.values and error.file == _label(configs[arm.config]):
                error.file = f"{error.file} with {_set(arm.values)}"
            raise
    return [arm.name for arm in found], plans


def _label(config: Source) -> str:
    if isinstance(config, Config):
        return config.label
    return os.fspath(config) if isinstance(config, (str, os.PathLike)) else "config"


def _set(values: Mapping[str, Any]) -> str:
    return " ".join(f"{field}={text_of(value)}" for field, value in values.items())


def plan_of(
    config: Config,
    requests: Requests,
    blocked: Sequence[str],
    folder: str,
    files: Mapping[str, str | None] = EMPTY,
    dry_run: bool = False,
) -> Plan:
    """The plan of a configuration that has been read, with these plugins.

    `files` are the plugins of the current folder that no argument names, and what does.
    """
    unchecked = tuple(name for name in files if name not in blocked)
    if not dry_run:
        check_asked({name: files[name] for name in unchecked})
        unchecked = ()
    loaded = {name: given for name, given in requests.items() if name not in unchecked}
    manager = make_manager(loaded, blocked=blocked, config=config)
    try:
        simulation = make_simulation(config, manager)
    except ConfigError as error:
        if unchecked and error.hint is None:
            error.hint = f"--plugins {','.join(unchecked)} imports what may make it"
        raise
    return Plan(
        config=config,
        simulation=simulation,
        manager=manager,
        requests=requests or EMPTY,
        blocked=tuple(blocked),
        experiments_dir=folder,
        unchecked=unchecked,
    )


def seed_or_new(seed: int | None) -> int:
    """The seed, or a random one."""
    return ids.new_seed() if seed is None else seed
