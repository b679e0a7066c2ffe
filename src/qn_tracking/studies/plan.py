"""What is going to run: a configuration with its simulation and its plugins, checked as a whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking import config as configuration, ids
from qn_tracking.errors import ConfigError
from qn_tracking.records.model import EMPTY, Config, Simulation
from qn_tracking.tracking import runner
from qn_tracking.tracking.manager import choose, make_manager, make_simulation, project

if TYPE_CHECKING:
    from pluggy import PluginManager

EPISODES = 50
"""How many episodes a run has that does not say."""

Requests = Mapping[str, Mapping[str, Any]]


@frozen(kw_only=True)
class Plan:
    """A checked configuration. `requests` are the plugins that it asks for, and their options."""

    config: Config
    simulation: Simulation
    manager: PluginManager
    requests: Requests
    blocked: tuple[str, ...]
    experiments_dir: str

    @property
    def plugins(self) -> tuple[str, ...]:
        """The names of the plugins that are on."""
        return tuple(name for name in self.requests if name not in self.blocked)

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
        }

    def episodes(self, given: int | None, default: int = EPISODES) -> int:
        """The number that is given, else the configuration's, else the default."""
        return given or self.config.settings.get("episodes") or default

    def seed(self, given: int | None) -> int | None:
        """The seed that is given, else the configuration's; None if neither says one."""
        seed: int | None = self.config.settings.get("seed") if given is None else given
        return seed


def make_plan(
    config: Config | Mapping[str, Any] | str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    blocked: Sequence[str] = (),
    experiments_dir: str | os.PathLike[str] | None = None,
) -> Plan:
    """Reads and checks a configuration, makes its plugins and its simulation; writes nothing.

    `overrides` are `dotted.field=VALUE` with VALUE in YAML. Raises ConfigError, UsageError and
    PluginError for what cannot run. Numeric libraries that are imported from now on use one thread.
    """
    runner.pin_numeric_threads()
    settings = project()
    read = configuration.as_config(config, overrides)
    folder = os.fspath(experiments_dir or settings.experiments_dir or "experiments")
    try:
        return plan_of(read, choose(read, settings, plugins), blocked, folder)
    except ConfigError as error:
        field = configuration.meant(read.data, overrides, error)
        if field is not None:
            error.hint = f"did you mean {field}?"
        raise


def plan_of(config: Config, requests: Requests, blocked: Sequence[str], folder: str) -> Plan:
    """The plan of a configuration that has been read, with these plugins."""
    manager = make_manager(requests, blocked=blocked, config=config)
    return Plan(
        config=config,
        simulation=make_simulation(config, manager),
        manager=manager,
        requests=requests or EMPTY,
        blocked=tuple(blocked),
        experiments_dir=folder,
    )


def seed_or_new(seed: int | None) -> int:
    """The seed, or a random one."""
    return ids.new_seed() if seed is None else seed
