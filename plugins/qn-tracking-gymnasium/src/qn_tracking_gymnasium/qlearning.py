"""Tabular Q-learning (Watkins 1989): a value for each action in each state seen so far.

Plain Python, because a state has only a few numbers: NumPy would be slower.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from qn_tracking.plugin import ConfigError
from qn_tracking_gymnasium.schema import QLearningSection

if TYPE_CHECKING:
    import gymnasium

FIELD = "brain.config"


class QLearning:
    """Epsilon-greedy; it takes the first of several actions with the same value.

    Metrics of an episode: `epsilon`, `alpha`, and `states`, the number of states seen so far.
    """

    name = "qlearning"
    family = "classical"

    def __init__(self, section: QLearningSection, *, file: str) -> None:
        self._section, self._file = section, file

    def prepare(self, env: gymnasium.Env[Any, Any]) -> None:
        """Check that actions are Discrete, and observations Discrete or a Box of one dimension.

        Raises ConfigError.
        """
        from gymnasium.spaces import Discrete

        actions = env.action_space
        if not isinstance(actions, Discrete):
            raise ConfigError(
                f"its actions are {_kind(actions)}, qlearning needs Discrete",
                file=self._file,
                field="environment.id",
            )
        self._n = int(actions.n)
        self._first = int(actions.start)
        self._state = self._states(env.observation_space)

    def reset(self, seed: np.random.SeedSequence) -> None:
        """Start with an empty table."""
        self._draw = random.Random(int(seed.generate_state(1, np.uint64)[0])).random  # noqa: S311
        self._values: dict[int, list[float]] = {}
        self._unseen = [self._section.initial_value] * self._n
        self._gamma = self._section.gamma
        self._episode = -1

    def begin(self, observation: Any) -> None:
        """Advance the schedules by one episode."""
        self._episode += 1
        self._alpha = self._section.alpha.at(self._episode)
        self._epsilon = self._section.epsilon.at(self._episode)
        self._row = self._row_of(observation)

    def act(self) -> int:
        """Return an action of the action space."""
        if self._draw() < self._epsilon:
            # Python may change how `random.randrange` draws; it does not change this.
            self._action = int(self._draw() * self._n)
        else:
            row = self._row
            self._action = row.index(max(row))
        return self._first + self._action

    def learn(self, observation: Any, reward: float, terminated: bool, truncated: bool) -> None:
        """Update the value of the last action by the reward and the value of the next state."""
        row, action = self._row, self._action
        self._row = ahead = self._row_of(observation)
        target = reward if terminated else reward + self._gamma * max(ahead)
        row[action] += self._alpha * (target - row[action])

    def end(self) -> Mapping[str, float]:
        """Return the values of the schedules and the size of the table."""
        return {"epsilon": self._epsilon, "alpha": self._alpha, "states": float(len(self._values))}

    def _row_of(self, observation: Any) -> list[float]:
        """Return the values of the actions in the state of an observation."""
        state = self._state(observation)
        row = self._values.get(state)
        if row is None:
            row = self._values[state] = self._unseen.copy()
        return row

    def _states(self, space: gymnasium.Space[Any]) -> Callable[[Any], int]:
        """Return the function that numbers the states of a space."""
        from gymnasium.spaces import Box, Discrete

        section = self._section
        if isinstance(space, Discrete):
            for name in ("bins", "low", "high"):
                if getattr(section, name) is not None:
                    raise self._refuse(name, "is for arrays, but the observations are Discrete")
            return int
        if not isinstance(space, Box) or len(space.shape) != 1:
            raise ConfigError(
                f"its observations are {_kind(space)}, qlearning needs Discrete or a Box of one "
                "dimension",
                file=self._file,
                field="environment.id",
            )
        size = space.shape[0]
        if section.bins is None:
            raise self._refuse("bins", f"missing; observations are {size} numbers")
        for name in ("bins", "low", "high"):
            given = getattr(section, name)
            if given is not None and len(given) != size:
                raise self._refuse(name, f"expected {size} values, got {len(given)}")
        low, high = (self._bounds(name, getattr(space, name)) for name in ("low", "high"))
        for i, (least, most) in enumerate(zip(low, high, strict=True)):
            if least >= most and section.bins[i] > 1:
                raise self._refuse(f"high[{i}]", f"{most} is not above low, {least}")
        parts = [
            (i, least, count / (most - least), count)
            for i, (least, most, count) in enumerate(zip(low, high, section.bins, strict=True))
            if count > 1
        ]

        def number(observation: Any) -> int:
            values = observation.tolist()
            state = 0
            for i, least, scale, count in parts:
                part = (values[i] - least) * scale
                # Compared before it is converted: infinity has no integer.
                state = state * count + (
                    0 if part < 1.0 else count - 1 if part >= count else int(part)
                )
            return state

        return number

    def _bounds(self, name: str, of_space: Any) -> list[float]:
        """Return the bounds of the configuration, else those of the space."""
        given = getattr(self._section, name)
        if given is not None:
            return list(given)
        found: list[float] = of_space.astype(float).tolist()
        bins = self._section.bins or ()
        for i, (value, count) in enumerate(zip(found, bins, strict=True)):
            # Some spaces use the largest number of their type for no bound.
            if count > 1 and not abs(value) < 1e30:
                raise self._refuse(name, f"missing; dimension {i} of the observations has no bound")
        return found

    def _refuse(self, name: str, cause: str) -> ConfigError:
        return ConfigError(cause, file=self._file, field=f"{FIELD}.{name}")


def _kind(space: gymnasium.Space[Any]) -> str:
    text = str(space)
    return text if len(text) <= 60 else type(space).__name__
