"""The plugin of the built-in simulation: checks a configuration completely and builds from it.

Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qn_tracking.errors import ConfigError
from qn_tracking.nematode.brains import FACTORIES, IDLE
from qn_tracking.records.model import Config
from qn_tracking.tracking.hookspecs import hookimpl

if TYPE_CHECKING:
    from qn_tracking.nematode.brain import Brain
    from qn_tracking.nematode.schema import Document
    from qn_tracking.nematode.simulation import NematodeSimulation
    from qn_tracking.nematode.world import DynamicEnvironment, StaticEnvironment
    from qn_tracking.records.submission import Category

ENVIRONMENTS = ("static", "dynamic")

# Known fields without effect on an environment or a brain: a warning names those present.
_IDLE = {
    "static": ("satiety", "environment.dynamic"),
    "dynamic": ("environment.static",),
    **IDLE,
}


class Nematode:
    """Provider of the simulation, its environments and its brains."""

    provides = (
        *(f"environment.{name}" for name in ENVIRONMENTS),
        *(f"brain.{name}" for name in FACTORIES),
    )

    @hookimpl(trylast=True)
    def make_simulation(self, config: Config, hook: Any) -> NematodeSimulation | None:
        """The simulation of an environment and a brain, if the configuration has both.

        Raises ConfigError naming the field.
        """
        if not {"environment", "brain"} <= config.data.keys():
            return None
        from qn_tracking.nematode.simulation import NematodeSimulation

        document = _document(config)
        environment = hook.make_environment(config=config)
        if environment is None:
            raise _unknown(config, "environment", "environment.type", ENVIRONMENTS)
        brain = hook.make_brain(config=config)
        if brain is None:
            raise _unknown(config, "brain", "brain.name", FACTORIES)
        _check_rate(config, document)
        return NematodeSimulation(environment, brain, warnings=_warnings(config.data))

    @hookimpl
    def categorize(self, config: Config, rules: Mapping[str, Any], hook: Any) -> Category | None:
        """`static_maze`, or `dynamic_small`, `_medium`, `_large` by the size of the grid."""
        from qn_tracking.nematode.schema import EnvironmentSection
        from qn_tracking.records.codec import structure
        from qn_tracking.records.submission import Category

        if not {"environment", "brain"} <= config.data.keys():
            return None
        kind = _named(config, "environment")
        if kind == "static":
            environment = "static_maze"
        elif kind == "dynamic":
            given = _document(config).environment
            section = structure(given, EnvironmentSection, file=config.label, field="environment")
            size = section.dynamic.grid_size
            small, medium = _sizes(rules)
            name = "small" if size <= small else "medium" if size <= medium else "large"
            environment = f"dynamic_{name}"
        else:
            return None
        brain = hook.make_brain(config=config)
        return None if brain is None else Category(environment=environment, family=brain.family)

    @hookimpl
    def task(self, config: Config) -> Mapping[str, Any] | None:
        """World, limits and hunger; the reward is free, because success is what counts.

        What has no effect on the environment is no part of it. Raises ConfigError.
        """
        kind = _named(config, "environment")
        if kind not in ENVIRONMENTS or "brain" not in config.data:
            return None
        from attrs import asdict

        from qn_tracking.nematode.schema import EnvironmentSection
        from qn_tracking.records.codec import structure

        document = _document(config)
        section = structure(
            document.environment, EnvironmentSection, file=config.label, field="environment"
        )
        world = asdict(section.static if kind == "static" else section.dynamic)
        world.pop("viewport_size", None)
        hunger = {"satiety": asdict(document.satiety)} if kind == "dynamic" else {}
        return {
            "environment": {"type": kind, kind: world},
            "max_steps": document.max_steps,
            "body_length": document.body_length,
            **hunger,
        }

    @hookimpl
    def make_environment(self, config: Config) -> StaticEnvironment | DynamicEnvironment | None:
        """`static` or `dynamic`. Raises ConfigError naming the field."""
        kind = _named(config, "environment")
        if kind not in ENVIRONMENTS:
            return None
        from qn_tracking.nematode.schema import EnvironmentSection
        from qn_tracking.nematode.world import DynamicEnvironment, StaticEnvironment
        from qn_tracking.records.codec import structure

        document = _document(config)
        section = structure(
            document.environment, EnvironmentSection, file=config.label, field="environment"
        )
        steps, body, reward = document.max_steps, document.body_length, document.reward
        if section.type == "static":
            return StaticEnvironment(
                section.static.grid_size, max_steps=steps, body_length=body, reward=reward
            )
        foods = section.dynamic
        if foods.max_active_foods < foods.num_initial_foods:
            raise ConfigError(
                f"{foods.max_active_foods} is less than the initial {foods.num_initial_foods}",
                file=config.label,
                field="environment.dynamic.max_active_foods",
            )
        try:
            return DynamicEnvironment(
                foods, max_steps=steps, body_length=body, reward=reward, satiety=document.satiety
            )
        except ValueError as error:
            raise ConfigError(
                str(error), file=config.label, field="environment.dynamic.agent_exclusion_radius"
            ) from None

    @hookimpl
    def make_brain(self, config: Config) -> Brain | None:
        """The built-in brain of that name. Raises ConfigError naming the field."""
        name = _named(config, "brain")
        make = FACTORIES.get(name) if isinstance(name, str) else None
        return None if make is None else make(config, _document(config))


def _sizes(rules: Mapping[str, Any]) -> tuple[int, int]:
    """The largest grid of a small and of a medium environment, as the protocol has them."""
    own = rules.get("environments", {}).get("nematode", {})
    sizes = own.get("small_grid", 20), own.get("medium_grid", 50)
    for name, size in zip(("small_grid", "medium_grid"), sizes, strict=True):
        if type(size) is not int or size < 1:
            where = f"environments.nematode.{name}"
            raise ConfigError("expected a positive number", file="protocol.yml", field=where)
    return sizes


def _document(config: Config) -> Document:
    from qn_tracking.config import SETTINGS
    from qn_tracking.nematode.schema import Document
    from qn_tracking.records.codec import structure

    return structure(config.data, Document, file=config.label, also=SETTINGS)


def _named(config: Config, section: str) -> object:
    """The name in a section; an environment without one is static."""
    key, default = {"environment": ("type", "static"), "brain": ("name", None)}[section]
    found = config.data.get(section)
    return found.get(key, default) if isinstance(found, Mapping) else None


def _unknown(config: Config, what: str, field: str, known: Iterable[str]) -> ConfigError:
    name = _named(config, what)
    if type(name) is not str:
        return ConfigError(f"expected text, got {name!r}", file=config.label, field=field)
    hint = f"known: {', '.join(known)}, and those of installed plugins"
    return ConfigError(f"unknown {what} {name!r}", file=config.label, field=field, hint=hint)


def _check_rate(config: Config, document: Document) -> None:
    rate = document.learning_rate
    low, high = rate.parameters.min_learning_rate, rate.parameters.max_learning_rate
    if rate.method == "performance_based" and low > high:
        raise ConfigError(
            f"{low} is more than max_learning_rate, {high}",
            file=config.label,
            field="learning_rate.parameters.min_learning_rate",
        )


def _warnings(data: Mapping[str, Any]) -> tuple[str, ...]:
    kinds = (data["environment"].get("type", "static"), data["brain"]["name"])
    fields = ("manyworlds_mode", *(field for kind in kinds for field in _IDLE.get(kind, ())))
    idle = [field for field in fields if _present(data, field)]
    return (f"without effect here: {', '.join(idle)}",) if idle else ()


def _present(data: object, field: str) -> bool:
    for key in field.split("."):
        if not isinstance(data, Mapping) or key not in data:
            return False
        data = data[key]
    return True
