"""What a policy is to a run: one that is asked step by step, or one that trains by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np


@runtime_checkable
class Policy(Protocol):
    """Chooses actions and learns from their rewards; a plugin's `make_brain(config)` returns one.

    Once: `prepare`. Once a run: `reset(seed)`. For each episode: `begin`, then by turns `act`
    and `learn`, and `end()`. What it has learned lives on from episode to episode, until the next
    `reset`. All its randomness derives from the seed given there; two runs with one seed are
    the same, bit for bit.
    """

    name: str
    """What records and rankings call it."""
    family: str
    """`quantum` or `classical`."""

    def prepare(self, env: gymnasium.Env[Any, Any]) -> None:
        """What it will act in, for its spaces. Raises ConfigError if it cannot."""

    def reset(self, seed: np.random.SeedSequence) -> None:
        """Forget everything; draw what there is to draw at first."""

    def begin(self, observation: Any) -> None:
        """An episode starts with this observation."""

    def act(self) -> Any:
        """The action for the observation that was told last."""

    def learn(self, observation: Any, reward: float, terminated: bool, truncated: bool) -> None:
        """What the last action led to. A truncated episode could have gone on."""

    def end(self) -> Mapping[str, float]:
        """The episode is over. Returns what was measured about the learning, if anything."""


@runtime_checkable
class Trainer(Protocol):
    """A policy whose library drives the environment by itself, as Stable-Baselines3 does.

    `train` is run in a thread of its own and by turns with whoever takes the episodes, so that
    never two of them are at work. It plays in this one environment until that raises, which is how
    a run ends.
    """

    name: str
    family: str

    def prepare(self, env: gymnasium.Env[Any, Any]) -> None:
        """What it will act in, for its spaces. Raises ConfigError if it cannot."""

    def train(self, env: gymnasium.Env[Any, Any], seed: np.random.SeedSequence) -> None:
        """Forget everything, then learn."""
