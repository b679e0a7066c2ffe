"""The built-in brains, each made from a configuration that is checked completely.

Nothing heavy is imported before a brain is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from qn_tracking.errors import ConfigError, did_you_mean
from qn_tracking.records.model import Config

if TYPE_CHECKING:
    from qn_tracking.nematode.brain import Brain
    from qn_tracking.nematode.mlp import MlpBrain
    from qn_tracking.nematode.modular import ModularBrain
    from qn_tracking.nematode.qmlp import QmlpBrain
    from qn_tracking.nematode.qmodular import QmodularBrain
    from qn_tracking.nematode.schema import Document
    from qn_tracking.nematode.spiking import SpikingBrain

Section = TypeVar("Section")

_OF_CIRCUITS = ("shots", "qubits", "learning_rate", "gradient", "parameter_initializer")
IDLE = {
    "mlp": _OF_CIRCUITS,
    "qmlp": _OF_CIRCUITS,
    "spiking": _OF_CIRCUITS,
    "modular": (
        "brain.config.significant_reward_threshold",
        "brain.config.large_gradient_threshold",
        "brain.config.overfit_detector_episode_log_interval",
    ),
    "qmodular": (
        "brain.config.negative_reward_threshold",
        "brain.config.min_state_features_for_proximity",
        "brain.config.high_gradient_threshold",
        "brain.config.medium_gradient_threshold",
    ),
}
"""Known fields that have no effect on a brain."""

MOST_STEPS = 2_000
"""Maximum of time steps in one decision of `spiking`: its cost grows with their square."""
MOST_AMPLITUDES = 1 << 22
"""Maximum of amplitudes in a batch of `qmodular`: about 64 MB, and several copies of it."""


def _mlp(config: Config, document: Document) -> MlpBrain:
    from qn_tracking.nematode.mlp import MlpBrain
    from qn_tracking.nematode.schema import MlpSection

    return MlpBrain(_section(config, document, MlpSection))


def _qmlp(config: Config, document: Document) -> QmlpBrain:
    from qn_tracking.nematode.qmlp import QmlpBrain
    from qn_tracking.nematode.schema import QmlpSection

    section = _section(config, document, QmlpSection)
    _check_order(config, section, "batch_size", "buffer_size")
    _check_order(config, section, "epsilon_min", "epsilon")
    return QmlpBrain(section)


def _spiking(config: Config, document: Document) -> SpikingBrain:
    from qn_tracking.nematode.schema import SpikingSection
    from qn_tracking.nematode.spiking import SpikingBrain

    section = _section(config, document, SpikingSection)
    _check_order(config, section, "min_rate", "max_rate")
    _check_order(config, section, "time_step", "simulation_duration")
    for name, value in (("v_rest", section.v_rest), ("v_reset", section.v_reset)):
        if value >= section.v_threshold:
            raise _wrong(config, name, f"{value} is not below v_threshold, {section.v_threshold}")
    if section.simulation_duration > MOST_STEPS * section.time_step:
        cause = f"{section.simulation_duration} is more than {MOST_STEPS} time steps"
        raise _wrong(config, "simulation_duration", cause, hint="a longer time_step")
    if section.max_rate * section.time_step > 1000:
        cause = f"{section.max_rate} Hz is more than one spike in a time step"
        raise _wrong(config, "max_rate", cause, hint="a shorter time_step")
    return SpikingBrain(section)


def _modular(config: Config, document: Document) -> ModularBrain:
    from qn_tracking.nematode.modular import ModularBrain
    from qn_tracking.nematode.schema import ModularSection

    section = _section(config, document, ModularSection)
    _check_qubits(config, document, section.modules)
    brain = ModularBrain(section, **_of_circuits(document))
    _check_manual(config, document, brain.parameters)
    return brain


def _qmodular(config: Config, document: Document) -> QmodularBrain:
    from qn_tracking.nematode.qmodular import QmodularBrain
    from qn_tracking.nematode.schema import QmodularSection

    section = _section(config, document, QmodularSection)
    _check_order(config, section, "batch_size", "buffer_size")
    qubits = _check_qubits(config, document, section.modules)
    # For each set of angles: the environment of each gate, and the circuit after one of them.
    size = 1 << qubits
    amplitudes = section.batch_size * size * max(4 * qubits * section.num_layers, size)
    if amplitudes > MOST_AMPLITUDES:
        cause = f"{section.batch_size} circuits of this size at once take too much memory"
        raise _wrong(config, "batch_size", cause, hint="a smaller batch, fewer layers or qubits")
    brain = QmodularBrain(section, **_of_circuits(document))
    _check_manual(config, document, brain.parameters)
    return brain


FACTORIES: Mapping[str, Callable[[Config, Document], Brain]] = {
    "mlp": _mlp,
    "modular": _modular,
    "qmlp": _qmlp,
    "qmodular": _qmodular,
    "spiking": _spiking,
}
"""The function that makes each brain. Raises ConfigError naming the field."""


def _section(config: Config, document: Document, kind: type[Section]) -> Section:
    from qn_tracking.records.codec import structure

    given = document.brain.config or {}
    return structure(given, kind, file=config.label, field="brain.config")


def _wrong(config: Config, name: str, cause: str, hint: str | None = None) -> ConfigError:
    return ConfigError(cause, file=config.label, field=f"brain.config.{name}", hint=hint)


def _check_order(config: Config, section: object, low: str, high: str) -> None:
    bottom, top = getattr(section, low), getattr(section, high)
    if bottom > top:
        raise _wrong(config, high, f"{top} is less than {low}, {bottom}")


def _of_circuits(document: Document) -> dict[str, Any]:
    """What every quantum brain takes from outside its own section."""
    return {
        "shots": document.shots,
        "rate": document.learning_rate,
        "gradient": document.gradient.method,
        "initializer": document.parameter_initializer,
    }


def _check_qubits(
    config: Config, document: Document, modules: Mapping[str, tuple[int, ...]]
) -> int:
    """The number of qubits. Raises ConfigError unless the modules use each of 0, 1, … n-1 once."""
    from qn_tracking.nematode.circuit import MAX_QUBITS
    from qn_tracking.nematode.senses import FEATURES

    for module in modules:
        if module not in FEATURES:
            hint = did_you_mean(module, FEATURES) or f"known: {', '.join(FEATURES)}"
            raise _wrong(config, "modules", f"unknown module {module!r}", hint)
    indices = sorted(qubit for qubits in modules.values() for qubit in qubits)
    count = len(indices)
    if not indices:
        raise _wrong(config, "modules", "no qubits")
    if count > MAX_QUBITS:
        raise _wrong(config, "modules", f"{count} qubits, at most {MAX_QUBITS} are simulated here")
    if indices != list(range(count)):
        cause = f"expected each qubit from 0 to {count - 1} once, got {indices}"
        raise _wrong(config, "modules", cause)
    if document.qubits not in (None, count):
        raise ConfigError(
            f"is {document.qubits}, but brain.config.modules uses {count}",
            file=config.label,
            field="qubits",
        )
    return count


def _check_manual(config: Config, document: Document, names: tuple[str, ...]) -> None:
    initializer = document.parameter_initializer
    if initializer.type != "manual":
        return
    values = initializer.manual_parameter_values or {}
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
