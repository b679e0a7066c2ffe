"""What a brain is to a simulation, built in or a plugin's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np


class Brain(Protocol):
    """Chooses actions and learns from their rewards; a plugin's `make_brain(config)` returns one.

    Once a run: `reset(seed)`. For each episode: `begin()`, then by turns `act` and `learn`, and
    `end()`. What it has learned lives on from episode to episode, until the next `reset`. All its
    randomness derives from the seed given there; two runs with one seed are the same, bit for
    bit.

    Two attributes may be there as well: `backend`, the name of what runs its quantum circuits, and
    `device`, if it is not `cpu`.
    """

    name: str
    """What records and rankings call it."""
    family: str
    """`quantum` or `classical`."""

    def reset(self, seed: np.random.SeedSequence) -> None:
        """Forget everything; draw the first parameters."""
        ...

    def begin(self) -> None:
        """An episode is about to start."""
        ...

    def act(self, strength: float, angle: float) -> int:
        """The action for a signal: 0 forward, 1 left, 2 right, 3 stay.

        `angle` is relative to the facing, in [-π, π], positive to the left.
        """
        ...

    def learn(self, reward: float, done: bool) -> None:
        """The last action earned `reward`; `done` says that the episode is over."""
        ...

    def end(self) -> Mapping[str, float]:
        """The episode is over. Returns what was measured about the learning, if anything."""
        ...
