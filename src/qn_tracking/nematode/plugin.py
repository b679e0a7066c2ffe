"""The door of the built-in simulation: checks a configuration wholly and builds from it.

Nothing heavy is imported before something is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qn_tracking.errors import ConfigError, did_you_mean
from qn_tracking.hookspecs import hookimpl
from qn_tracking.model import Config

if TYPE_CHECKING:
    from qn_tracking.nematode.mlp import MlpBrain
    from qn_tracking.nematode.modular import ModularBrain
    from qn_tracking.nematode.schema import Document, ModularSection
    from qn_tracking.nematode.simulation import NematodeSimulation
    from qn_tracking.nematode.world import DynamicEnvironment, StaticEnvironment
    from qn_tracking.submission import Category

ENVIRONMENTS = ("static", "dynamic")
BRAINS = ("mlp", "modular")

# Known fields that change nothing for an environment or a brain: a warning names those present.
_IDLE = {
    "static": ("satiety", "environment.dynamic"),
    "dynamic": ("environment.static",),
    "mlp": ("shots", "qubits", "learning_rate", "gradient", "parameter_initializer"),
    "modular": (
        "brain.config.significant_reward_threshold",
        "brain.config.large_gradient_threshold",
        "brain.config.overfit_detector_episode_log_interval",
    ),
}


class Nematode:
    """Provider of the simulation, its environments and its brains."""

    provides = (
        *(f"environment.{name}" for name in ENVIRONMENTS),
        *(f"brain.{name}" for name in BRAINS),
    )

    @hookimpl(trylast=True)
    def make_simulation(self, config: Config, hook: Any) -> NematodeSimulation | None:
        """The simulation of an environment and a brain, if there are both; all of it is checked.

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
            raise _unknown(config, "brain", "brain.name", BRAINS)
        _check_rate(config, document)
        return NematodeSimulation(environment, brain, warnings=_warnings(config.data))

    @hookimpl
    def categorize(self, config: Config, rules: Mapping[str, Any], hook: Any) -> Category | None:
        """`static_maze`, or `dynamic_small`, `_medium`, `_large` by the size of the grid."""
        from qn_tracking.codec import structure
        from qn_tracking.nematode.schema import EnvironmentSection
        from qn_tracking.submission import Category

        if not {"environment", "brain"} <= config.data.keys():
            return None
        kind = _named(config, "environment")
        if kind == "static":
            environment = "static_maze"
        elif kind == "dynamic":
            given = _document(config).environment
            section = structure(given, EnvironmentSection, file=config.label, field="environment")
            size = section.dynamic.grid_size
            small, medium = rules["small_grid"], rules["medium_grid"]
            name = "small" if size <= small else "medium" if size <= medium else "large"
            environment = f"dynamic_{name}"
        else:
            return None
        brain = hook.make_brain(config=config)
        return None if brain is None else Category(environment=environment, family=brain.family)

    @hookimpl
    def make_environment(self, config: Config) -> StaticEnvironment | DynamicEnvironment | None:
        """`static` or `dynamic`. Raises ConfigError naming the field."""
        kind = _named(config, "environment")
        if kind not in ENVIRONMENTS:
            return None
        from qn_tracking.codec import structure
        from qn_tracking.nematode.schema import EnvironmentSection
        from qn_tracking.nematode.world import DynamicEnvironment, StaticEnvironment

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
    def make_brain(self, config: Config) -> MlpBrain | ModularBrain | None:
        """`mlp` or `modular`. Raises ConfigError naming the field."""
        match _named(config, "brain"):
            case "mlp":
                return _mlp(config)
            case "modular":
                return _modular(config)
        return None


def _document(config: Config) -> Document:
    from qn_tracking.codec import structure
    from qn_tracking.config import SETTINGS
    from qn_tracking.nematode.schema import Document

    return structure(config.data, Document, file=config.label, also=SETTINGS)


def _named(config: Config, section: str) -> object:
    """What a section asks for; an environment is static unless it says otherwise."""
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


def _mlp(config: Config) -> MlpBrain:
    from qn_tracking.codec import structure
    from qn_tracking.nematode.mlp import MlpBrain
    from qn_tracking.nematode.schema import MlpSection

    given = _document(config).brain.config or {}
    return MlpBrain(structure(given, MlpSection, file=config.label, field="brain.config"))


def _modular(config: Config) -> ModularBrain:
    from qn_tracking.codec import structure
    from qn_tracking.nematode.modular import ModularBrain
    from qn_tracking.nematode.schema import ModularSection

    document = _document(config)
    given = document.brain.config or {}
    section = structure(given, ModularSection, file=config.label, field="brain.config")
    qubits = _qubits(config, section)
    if document.qubits not in (None, qubits):
        raise ConfigError(
            f"is {document.qubits}, but brain.config.modules uses {qubits}",
            file=config.label,
            field="qubits",
        )
    brain = ModularBrain(
        section,
        shots=document.shots,
        rate=document.learning_rate,
        gradient=document.gradient.method,
        initializer=document.parameter_initializer,
    )
    if document.parameter_initializer.type == "manual":
        values = document.parameter_initializer.manual_parameter_values or {}
        _check_manual(config, values, brain.parameters)
    return brain


def _qubits(config: Config, section: ModularSection) -> int:
    """The number of qubits. Raises ConfigError unless the modules share out 0, 1, … n-1."""
    from qn_tracking.nematode.circuit import MAX_QUBITS
    from qn_tracking.nematode.modular import FEATURES

    field = "brain.config.modules"
    for module in section.modules:
        if module not in FEATURES:
            hint = did_you_mean(module, FEATURES) or f"known: {', '.join(FEATURES)}"
            raise ConfigError(
                f"unknown module {module!r}", file=config.label, field=field, hint=hint
            )
    indices = sorted(qubit for qubits in section.modules.values() for qubit in qubits)
    if not indices:
        raise ConfigError("no qubits", file=config.label, field=field)
    if len(indices) > MAX_QUBITS:
        raise ConfigError(
            f"{len(indices)} qubits, at most {MAX_QUBITS} are simulated here",
            file=config.label,
            field=field,
        )
    if indices != list(range(len(indices))):
        raise ConfigError(
            f"expected each qubit from 0 to {len(indices) - 1} once, got {indices}",
            file=config.label,
            field=field,
        )
    return len(indices)


def _check_manual(config: Config, values: Mapping[str, float], names: tuple[str, ...]) -> None:
    field = "parameter_initializer.manual_parameter_values"
    for name in values:
        if name not in names:
            hint = did_you_mean(name, names) or f"known: {names[0]} … {names[-1]}"
            raise ConfigError(
                f"unknown parameter {name!r}", file=config.label, field=field, hint=hint
            )
    missing = [name for name in names if name not in values]
    if missing:
        raise ConfigError(f"missing {', '.join(missing)}", file=config.label, field=field)
