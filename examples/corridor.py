"""A task for the examples: walk along a corridor to its right end."""

import numpy as np


class Corridor:
    """Cells in a row; an action is 0 (left) or 1 (right). The reward is 1 at the end, else -0.01.

    Observations are arrays of shape (LENGTH,), float, 1 at the cell and 0 at the others. An
    episode is over at the right end, or after LIMIT steps.
    """

    LENGTH = 10
    LIMIT = 50

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.cell = self.steps = 0
        self.total = 0.0

    def reset(self) -> np.ndarray:
        """Begin an episode in the left half; return the observation."""
        self.cell = int(self.random.integers(self.LENGTH // 2))
        self.steps, self.total = 0, 0.0
        return self._seen()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, dict[str, float]]:
        """Take a step; return observation, reward, whether the episode is over, and then its sums.

        One step in ten goes the other way.
        """
        right = bool(action) ^ (self.random.random() < 0.1)
        self.cell = min(max(self.cell + (1 if right else -1), 0), self.LENGTH - 1)
        arrived = self.cell == self.LENGTH - 1
        reward = 1.0 if arrived else -0.01
        self.steps += 1
        self.total += reward
        over = arrived or self.steps == self.LIMIT
        return self._seen(), reward, over, {"r": self.total, "l": self.steps} if over else {}

    def _seen(self) -> np.ndarray:
        seen = np.zeros(self.LENGTH)
        seen[self.cell] = 1.0
        return seen
