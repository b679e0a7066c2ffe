"""The replay buffer of a Q-learning brain: recent steps, drawn at random for learning."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Replay:
    """The last `capacity` steps, each with the state that followed.

    Experience replay (Lin, 1992, doi:10.1007/BF00992699). For each step: `see(…)` its state, then
    `keep(…)` what came of it. The state after a step is the next one seen, so it is kept once; a
    step can be drawn as soon as its successor is known.
    """

    def __init__(self, capacity: int, width: int, batch: int) -> None:
        """`width` numbers are a state, and `batch` steps are drawn at a time."""
        self._capacity, self._batch = capacity, batch
        # One row more: the state after the newest step, which replaces the oldest.
        self._rows = capacity + 1
        self._states = np.zeros((self._rows, width), np.float32)
        self._actions = np.zeros(self._rows, np.intp)
        self._rewards = np.zeros(self._rows, np.float32)
        self._alive = np.zeros(self._rows, np.float32)
        self.states = np.zeros((batch, width), np.float32)
        self.nexts = np.zeros((batch, width), np.float32)
        self.actions = np.zeros(batch, np.intp)
        self.rewards = np.zeros(batch, np.float32)
        self.alive = np.zeros(batch, np.float32)
        """Of each step drawn: 1 if its episode went on after it, 0 if it was the last."""
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._head = self._kept = 0
        self._open = False

    def see(self, *state: float) -> None:
        """The state that the next step starts from."""
        self._states[self._head] = state
        self._open = False

    def keep(self, action: int, reward: float, done: bool) -> None:
        """Store the action in the last state, and its reward."""
        head = self._head
        self._actions[head] = action
        self._rewards[head] = reward
        self._alive[head] = not done
        self._open = not done
        self._head = (head + 1) % self._rows
        self._kept += 1

    def __len__(self) -> int:
        """How many steps can be drawn from."""
        return min(self._capacity, self._kept - self._open)

    def draw(self, rng: np.random.Generator) -> None:
        """Fill `states`, `actions`, `rewards`, `nexts`, `alive` with steps drawn uniformly, with
        replacement.
        """
        newest = self._head - 1 - self._open
        rows = newest - rng.integers(len(self), size=self._batch)
        for whole, drawn in (
            (self._states, self.states),
            (self._actions, self.actions),
            (self._rewards, self.rewards),
            (self._alive, self.alive),
        ):
            # `wrap` counts rows around the ring, and writes without a copy in between.
            whole.take(rows, 0, drawn, "wrap")
        self._states.take(rows + 1, 0, self.nexts, "wrap")
