"""The protocol of a brain, whether built-in or from a plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np


class Brain(Protocol):
    """Chooses actions and learns from their rewards; a plugin's `make_brain(config)` returns one.

    Once for each run: `reset(seed)`. For each episode: `begin()`, then `act` and `learn`
    alternately, then `end()`. What it has learned is kept from episode to episode, until the next
    `reset`. All its randomness derives from the seed given there; two runs with one seed are the
    same, bit for bit.

    Three attributes are optional: `backend`, the name of the program or device that runs its
    quantum circuits; `device`, if it is not `cpu`; and the method `cost()`, which returns what the
    run has cost so far, as whole numbers: `parameters` that it learns and, if it is quantum,
    `circuits` executed, their `shots` in all, `qubits` and `depth`.
    """

    name: str
    """Its name in records and rankings."""
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

        `angle` is relative to the direction in which the worm faces, in [-π, π], positive to the
        left.
        """
        ...

    def learn(self, reward: float, done: bool) -> None:
        """The last action earned `reward`; `done` says that the episode is over."""
        ...

    def end(self) -> Mapping[str, float]:
        """The episode is over. Returns metrics of the learning, which may be none."""
        ...
