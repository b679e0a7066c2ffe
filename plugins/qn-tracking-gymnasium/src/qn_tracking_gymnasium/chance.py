"""The random policy, a baseline for any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import gymnasium

NOTHING: Mapping[str, float] = {}


class RandomPolicy:
    """Draws every action from the action space, of any kind."""

    name = "random"
    family = "classical"

    def prepare(self, env: gymnasium.Env[Any, Any]) -> None:
        """Accepts any environment."""
        self._actions = env.action_space

    def reset(self, seed: np.random.SeedSequence) -> None:
        """Seeds the action space."""
        self._actions.seed(int(seed.generate_state(1)[0]))

    def begin(self, observation: Any) -> None:
        """Does nothing."""

    def act(self) -> Any:
        """Return a random action."""
        return self._actions.sample()

    def learn(self, observation: Any, reward: float, terminated: bool, truncated: bool) -> None:
        """Does nothing."""

    def end(self) -> Mapping[str, float]:
        """Return no metrics."""
        return NOTHING
