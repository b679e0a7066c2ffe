"""The sections of a configuration, and the checks that need one field only."""

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
    """`environment`: what `gymnasium.make` is told, and what a success is.

    `package` is installed, and registers the id when it is imported. `kwargs` go to the
    environment, `max_steps` instead of its registered limit. `success_reward` is
    the least sum of rewards that is a success; without it, what the environment says in `info`,
    else its registered `reward_threshold`. `info` gives keys of `info` names in the record.
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
    """`brain`: its name, and a section that belongs to whoever makes that brain."""

    name: str
    config: Mapping[str, Any] | None = None


@frozen(kw_only=True)
class Document:
    """A whole configuration. The sections of environment and brain are checked by their makers."""

    environment: Mapping[str, Any]
    brain: BrainSection


@frozen(kw_only=True)
class ScheduleSection:
    """A number that falls with the episodes: `initial * decay ** episode`, but at least `least`."""

    initial: float = field(validator=_fraction)
    decay: float = field(default=1.0, validator=_fraction)
    least: float = field(default=0.0, validator=_fraction)

    def at(self, episode: int) -> float:
        """The number in an episode, counted from 0."""
        return max(self.least, self.initial * self.decay**episode)


_bins = _must(
    lambda bins: len(bins) > 0 and all(1 <= n <= 10_000 for n in bins), "from 1 to 10000 each"
)


@frozen(kw_only=True)
class QLearningSection:
    """`brain.config` of `qlearning`.

    `bins`, `low` and `high` are for observations that are arrays, with a value for each dimension:
    a dimension is cut into so many equal parts between its bounds, and what is beyond belongs to
    the outermost. Bounds that are not given are those of the space. `initial_value` is of every
    action in a state that was not seen before.
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

    `kwargs` go to the algorithm of Stable-Baselines3, but for those that this package decides.
    `total_timesteps` is what its schedules span; learning does not stop there.
    """

    algorithm: Literal["A2C", "DDPG", "DQN", "PPO", "SAC", "TD3"]
    policy: Literal["MlpPolicy", "CnnPolicy", "MultiInputPolicy"] = "MlpPolicy"
    total_timesteps: int = field(default=100_000, validator=_positive)
    kwargs: Mapping[str, Any] = field(factory=dict)


def thawed(value: Any) -> Any:
    """Plain dicts and lists again: what is made of a configuration may want just these."""
    if isinstance(value, Mapping):
        return {key: thawed(item) for key, item in value.items()}
    return [thawed(item) for item in value] if isinstance(value, tuple) else value
