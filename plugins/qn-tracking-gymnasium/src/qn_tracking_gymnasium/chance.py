"""The policy that learns nothing: what any other is to be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import gymnasium

NOTHING: Mapping[str, float] = {}


class RandomPolicy:
    """Draws every action from the action space, whatever it is."""

    name = "random"
    family = "classical"

    def prepare(self, env: gymnasium.Env[Any, Any]) -> None:
        """Any environment will do."""
        self._actions = env.action_space

    def reset(self, seed: np.random.SeedSequence) -> None:
        """Seeds the action space."""
        self._actions.seed(int(seed.generate_state(1)[0]))

    def begin(self, observation: Any) -> None:
        """Nothing begins."""

    def act(self) -> Any:
        """A random action."""
        return self._actions.sample()

    def learn(self, observation: Any, reward: float, terminated: bool, truncated: bool) -> None:
        """Nothing is learned."""

    def end(self) -> Mapping[str, float]:
        """Nothing was measured."""
        return NOTHING
