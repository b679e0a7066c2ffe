"""The sections of a simulation's configuration, and the checks that need one field only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs
from attrs import field, frozen

Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _must(accepts: Callable[[Any], bool], be: str) -> Check:
    def check(_: object, __: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not accepts(value):
            raise ValueError(f"must be {be}, got {value}")

    return check


_positive = _must(lambda value: value > 0, "positive")
_not_negative = _must(lambda value: value >= 0, "zero or more")
_fraction = _must(lambda value: 0 <= value <= 1, "between 0 and 1")
_below_one = _must(lambda value: 0 <= value < 1, "at least 0 and below 1")


def _from(low: int, high: int) -> Check:
    return _must(lambda value: low <= value <= high, f"between {low} and {high}")


# Upper bounds are far above useful values, and below those that fill the memory or never end.
_size = _from(5, 2_000)
_foods = _from(1, 10_000)
_count = _from(1, 1_000_000_000)
_memory = _from(1, 1_000_000)
_batch = _from(1, 4_096)
# What spiking neurons multiply stays within single precision.
_moderate = _from(-1_000_000, 1_000_000)
_to_million = _from(0, 1_000_000)


@frozen(kw_only=True)
class BrainSection:
    """`brain`: its name, and a section that the maker of that brain checks."""

    name: str
    config: Mapping[str, Any] | None = None


@frozen(kw_only=True)
class RewardSection:
    """`reward`: what a step is worth; penalties are subtracted."""

    reward_goal: float = 0.2
    reward_distance_scale: float = 0.3
    reward_exploration: float = 0.05
    penalty_step: float = 0.05
    penalty_anti_dithering: float = 0.02
    penalty_stuck_position: float = 0.5
    penalty_starvation: float = 10.0
    stuck_position_threshold: int = field(default=2, validator=_not_negative)


@frozen(kw_only=True)
class SatietySection:
    """`satiety`: in units of a step's hunger; the gain is a share of `initial_satiety`."""

    initial_satiety: float = field(default=200.0, validator=_positive)
    satiety_decay_rate: float = field(default=1.0, validator=_not_negative)
    satiety_gain_per_food: float = field(default=0.2, validator=_fraction)


@frozen(kw_only=True)
class StaticSection:
    """`environment.static`."""

    grid_size: int = field(default=10, validator=_size)


@frozen(kw_only=True)
class DynamicSection:
    """`environment.dynamic`; distances in cells. `viewport_size` is for displays only."""

    grid_size: int = field(default=50, validator=_size)
    num_initial_foods: int = field(default=10, validator=_foods)
    max_active_foods: int = field(default=15, validator=_foods)
    min_food_distance: int = field(default=5, validator=_positive)
    agent_exclusion_radius: int = field(default=10, validator=_positive)
    gradient_decay_constant: float = field(default=10.0, validator=_positive)
    gradient_strength: float = field(default=1.0, validator=_positive)
    viewport_size: tuple[int, int] = field(
        default=(11, 11), validator=_must(lambda sides: min(sides) > 0, "two positive numbers")
    )


@frozen(kw_only=True)
class EnvironmentSection:
    """`environment` for the environments built in here; both may be described, one is used."""

    type: Literal["static", "dynamic"] = "static"
    static: StaticSection = StaticSection()
    dynamic: DynamicSection = DynamicSection()


@frozen(kw_only=True)
class RateParameters:
    """`learning_rate.parameters`, for every method; each takes those it knows."""

    initial_learning_rate: float = field(default=0.1, validator=_not_negative)
    decay_type: Literal["inverse_time", "exponential", "step", "polynomial", "cosine"] = (
        "inverse_time"
    )
    decay_rate: float = field(default=0.01, validator=_not_negative)
    decay_factor: float = field(default=0.5, validator=_fraction)
    step_size: int = field(default=10, validator=_positive)
    max_steps: int = field(default=1000, validator=_positive)
    power: float = field(default=1.0, validator=_not_negative)
    min_lr: float = field(default=0.012, validator=_not_negative)
    beta1: float = field(default=0.9, validator=_below_one)
    beta2: float = field(default=0.999, validator=_below_one)
    epsilon: float = field(default=1e-8, validator=_positive)
    min_learning_rate: float = field(default=0.001, validator=_not_negative)
    max_learning_rate: float = field(default=0.5, validator=_not_negative)
    adjustment_factor: float = field(default=1.1, validator=_must(lambda f: f >= 1, "at least 1"))


@frozen(kw_only=True)
class RateSection:
    """`learning_rate`, of the quantum brains."""

    method: Literal["dynamic", "adam", "performance_based"] = "dynamic"
    parameters: RateParameters = RateParameters()


@frozen(kw_only=True)
class GradientSection:
    """`gradient`, of the quantum brains: what is done to a gradient before it is used."""

    method: Literal["raw", "normalize", "clip"] = "raw"


@frozen(kw_only=True)
class InitializerSection:
    """`parameter_initializer`, of the quantum brains: where the angles start, in radians."""

    type: Literal["manual", "zero", "random_pi", "random_small"] = "random_small"
    manual_parameter_values: Mapping[str, float] | None = None


@frozen(kw_only=True)
class ManyworldsSection:
    """`manyworlds_mode`: known, since the example configurations have it; without effect here."""

    max_superpositions: int = field(default=16, validator=_count)
    max_columns: int = field(default=4, validator=_count)
    render_sleep_seconds: float = field(default=1.0, validator=_not_negative)
    top_n_actions: int = field(default=2, validator=_count)
    top_n_randomize: bool = True


@frozen(kw_only=True)
class Document:
    """A whole configuration. The sections of environment and brain are checked by their makers."""

    environment: Mapping[str, Any]
    brain: BrainSection
    max_steps: int = field(default=100, validator=_count)
    body_length: int = field(default=6, validator=_from(0, 10_000))
    shots: int = field(default=1024, validator=_count)
    qubits: int | None = field(default=None, validator=_from(1, 64))
    reward: RewardSection = RewardSection()
    satiety: SatietySection = SatietySection()
    learning_rate: RateSection = RateSection()
    gradient: GradientSection = GradientSection()
    parameter_initializer: InitializerSection = InitializerSection()
    manyworlds_mode: ManyworldsSection = ManyworldsSection()


@frozen(kw_only=True)
class MlpSection:
    """`brain.config` of `mlp`."""

    hidden_dim: int = field(default=64, validator=_from(1, 2048))
    num_hidden_layers: int = field(default=2, validator=_from(1, 16))
    learning_rate: float = field(default=0.01, validator=_not_negative)
    lr_scheduler_step_size: int = field(default=100, validator=_positive)
    lr_scheduler_gamma: float = field(default=0.9, validator=_fraction)
    gamma: float = field(default=0.99, validator=_fraction)
    entropy_beta: float = field(default=0.01, validator=_not_negative)
    baseline: float = 0.0
    baseline_alpha: float = field(default=0.05, validator=_fraction)


@frozen(kw_only=True)
class ModularSection:
    """`brain.config` of `modular`; `modules` gives each sense its qubits."""

    modules: Mapping[str, tuple[int, ...]] = field(factory=lambda: {"chemotaxis": (0, 1)})
    num_layers: int = field(default=2, validator=_from(1, 64))
    l2_reg: float = field(default=0.005, validator=_not_negative)
    noise_std: float = field(default=0.005, validator=_not_negative)
    param_clip: bool = True
    param_modulo: bool = True
    min_gradient_magnitude: float = field(default=1e-4, validator=_not_negative)
    significant_reward_threshold: float = field(default=0.1, validator=_not_negative)
    lr_boost: bool = True
    lr_boost_factor: float = field(default=5.0, validator=_positive)
    lr_boost_duration: int = field(default=10, validator=_positive)
    low_reward_threshold: float = -0.25
    low_reward_window: int = field(default=15, validator=_positive)
    large_gradient_threshold: float = 0.1
    overfit_detector_episode_log_interval: int = 25


@frozen(kw_only=True)
class QmlpSection:
    """`brain.config` of `qmlp`."""

    hidden_dim: int = field(default=64, validator=_from(1, 2048))
    num_hidden_layers: int = field(default=2, validator=_from(1, 16))
    learning_rate: float = field(default=0.001, validator=_not_negative)
    epsilon: float = field(default=0.1, validator=_fraction)
    epsilon_decay: float = field(default=0.995, validator=_fraction)
    epsilon_min: float = field(default=0.01, validator=_fraction)
    gamma: float = field(default=0.95, validator=_fraction)
    target_update_freq: int = field(default=100, validator=_count)
    buffer_size: int = field(default=10_000, validator=_memory)
    batch_size: int = field(default=32, validator=_batch)


@frozen(kw_only=True)
class QmodularSection:
    """`brain.config` of `qmodular`; `modules` gives each sense its qubits."""

    modules: Mapping[str, tuple[int, ...]] = field(factory=lambda: {"chemotaxis": (0, 1)})
    num_layers: int = field(default=2, validator=_from(1, 64))
    buffer_size: int = field(default=1800, validator=_memory)
    batch_size: int = field(default=32, validator=_batch)
    target_update_freq: int = field(default=25, validator=_count)
    epsilon_decay: float = field(default=0.996, validator=_fraction)
    min_epsilon: float = field(default=0.01, validator=_fraction)
    negative_reward_threshold: float = -0.01
    min_state_features_for_proximity: int = field(default=6, validator=_not_negative)
    high_gradient_threshold: float = 0.8
    medium_gradient_threshold: float = 0.5


@frozen(kw_only=True)
class SpikingSection:
    """`brain.config` of `spiking`; times in ms, rates in Hz, potentials in units of their own."""

    hidden_size: int = field(default=32, validator=_from(1, 2048))
    simulation_duration: float = field(default=100.0, validator=_positive)
    time_step: float = field(default=1.0, validator=_positive)
    tau_m: float = field(default=20.0, validator=_positive)
    v_threshold: float = field(default=1.0, validator=_moderate)
    v_reset: float = field(default=0.0, validator=_moderate)
    v_rest: float = field(default=0.0, validator=_moderate)
    max_rate: float = field(default=100.0, validator=_not_negative)
    min_rate: float = field(default=0.0, validator=_not_negative)
    tau_plus: float = field(default=20.0, validator=_positive)
    tau_minus: float = field(default=20.0, validator=_positive)
    a_plus: float = field(default=0.01, validator=_to_million)
    a_minus: float = field(default=0.01, validator=_to_million)
    learning_rate: float = field(default=0.001, validator=_to_million)
    reward_scaling: float = field(default=1.0, validator=_moderate)
    weight_mean: float = field(default=0.1, validator=_moderate)
    weight_std: float = field(default=0.05, validator=_to_million)
    weight_clip: float = field(default=1.0, validator=[_positive, _to_million])
