"""The interfaces of policies: called step by step, or with a training loop of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np


@runtime_checkable
class Policy(Protocol):
    """Chooses actions and learns from their rewards; a plugin's `make_brain(config)` returns one.

    Order of the calls: `prepare` once; `reset(seed)` once per run; in each episode `begin`, then
    `act` and `learn` in turn, and `end()`. The policy keeps what it has learned until the next
    `reset`. All its randomness derives from that seed: two runs with the same seed are equal,
    bit for bit.
    """

    name: str
    """Its name in records and rankings."""
    family: str
    """`quantum` or `classical`."""

    def prepare(self, env: gymnasium.Env[Any, Any]) -> None:
        """Check the spaces of the environment. Raises ConfigError if it cannot act in it."""

    def reset(self, seed: np.random.SeedSequence) -> None:
        """Forget everything, and start with a new seed."""

    def begin(self, observation: Any) -> None:
        """An episode starts with this observation."""

    def act(self) -> Any:
        """Return the action for the last observation."""

    def learn(self, observation: Any, reward: float, terminated: bool, truncated: bool) -> None:
        """Take the result of the last action. A truncated episode could have continued."""

    def end(self) -> Mapping[str, float]:
        """End the episode, and return metrics of the learning, if any."""


@runtime_checkable
class Trainer(Protocol):
    """A policy whose library has its own training loop, as Stable-Baselines3 does.

    `train` runs in its own thread, in turns with the thread that takes the episodes, so that only
    one of them works at a time. It uses the one environment until that raises, which ends the run.
    """

    name: str
    family: str

    def prepare(self, env: gymnasium.Env[Any, Any]) -> None:
        """Check the spaces of the environment. Raises ConfigError if it cannot act in it."""

    def train(self, env: gymnasium.Env[Any, Any], seed: np.random.SeedSequence) -> None:
        """Forget everything, then learn."""
