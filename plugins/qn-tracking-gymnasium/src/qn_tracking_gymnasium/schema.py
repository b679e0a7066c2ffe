"""The sections of a configuration, and the checks of single fields."""

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
_fraction = _must(lambda value: 0 <= value <= 1, "between 0 and 1")


@frozen(kw_only=True)
class EnvironmentSection:
    """`environment`: the arguments of `gymnasium.make`, and the definition of success.

    `package` is an installed package that registers the id when it is imported. `kwargs` are passed
    to the environment; `max_steps` replaces its registered limit. `success_reward` is the least sum
    of rewards of a success; by default `info` decides, else the registered `reward_threshold`.
    `info` maps keys of `info` to names of metrics.
    """

    type: str = "gymnasium"
    id: str
    package: str | None = None
    kwargs: Mapping[str, Any] = field(factory=dict)
    max_steps: int | None = field(
        default=None, validator=_must(lambda n: 1 <= n <= 10**9, "from 1 to 1000000000")
    )
    success_reward: float | None = None
    info: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class BrainSection:
    """`brain`: its name, and the section of the plugin that makes it."""

    name: str
    config: Mapping[str, Any] | None = None


@frozen(kw_only=True)
class Document:
    """A whole configuration. The plugins that make environment and brain check their sections."""

    environment: Mapping[str, Any]
    brain: BrainSection


@frozen(kw_only=True)
class ScheduleSection:
    """A number that decreases: `initial * decay ** episode`, but at least `least`."""

    initial: float = field(validator=_fraction)
    decay: float = field(default=1.0, validator=_fraction)
    least: float = field(default=0.0, validator=_fraction)

    def at(self, episode: int) -> float:
        """Return the number for an episode, counted from 0."""
        return max(self.least, self.initial * self.decay**episode)


_bins = _must(
    lambda bins: len(bins) > 0 and all(1 <= n <= 10_000 for n in bins), "from 1 to 10000 each"
)


@frozen(kw_only=True)
class QLearningSection:
    """`brain.config` of `qlearning`.

    `bins`, `low` and `high` are for observations that are arrays, with a value for each dimension:
    the number of equal bins between two bounds. Values outside belong to the outermost bin. The
    default bounds are those of the space. `initial_value` is the value of every action in a new
    state.
    """

    bins: tuple[int, ...] | None = field(default=None, validator=_bins)
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    alpha: ScheduleSection = ScheduleSection(initial=0.1)
    epsilon: ScheduleSection = ScheduleSection(initial=1.0, decay=0.99, least=0.01)
    gamma: float = field(default=0.99, validator=_fraction)
    initial_value: float = 0.0


@frozen(kw_only=True)
class Sb3Section:
    """`brain.config` of `sb3`.

    `kwargs` are passed to the algorithm of Stable-Baselines3, except those that this package sets.
    `total_timesteps` is the length of its schedules; learning does not stop there.
    """

    algorithm: Literal["A2C", "DDPG", "DQN", "PPO", "SAC", "TD3"]
    policy: Literal["MlpPolicy", "CnnPolicy", "MultiInputPolicy"] = "MlpPolicy"
    total_timesteps: int = field(default=100_000, validator=_positive)
    kwargs: Mapping[str, Any] = field(factory=dict)


def thawed(value: Any) -> Any:
    """Return the value with plain dicts and lists, for code that accepts only these."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    return [thawed(item) for item in value] if isinstance(value, tuple) else value
