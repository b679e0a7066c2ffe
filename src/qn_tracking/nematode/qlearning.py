"""Q-learning from a replay buffer with a target, for any function that computes the values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from qn_tracking.nematode.replay import Replay
from qn_tracking.nematode.world import ACTIONS


class QLearner(ABC):
    """The part of deep Q-learning that does not depend on the function (Mnih et al., 2015,
    doi:10.1038/nature14236).

    It takes the best action, except for a share ε of random ones. Once the replay buffer holds a
    batch, every step draws one and makes one update. The target becomes a copy every `target_every`
    of these updates, and each multiplies ε, `first` to begin with, by `decay`, down to `least`.

    A step that ends an episode has no future value, whatever ended it: a brain does not know the
    reason.
    """

    def __init__(
        self, replay: Replay, *, first: float, decay: float, least: float, target_every: int
    ) -> None:
        self.replay = replay
        self._first, self._decay, self._least = first, decay, least
        self._target_every = target_every

    @abstractmethod
    def forget(self, rng: np.random.Generator) -> None:
        """Draw the first parameters."""

    @abstractmethod
    def update(self) -> float:
        """Learn from the batch that `replay` has just drawn; returns its loss."""

    @abstractmethod
    def copy(self) -> None:
        """Copy the current parameters to the target."""

    def reset(self, seed: np.random.SeedSequence) -> None:
        """Forget everything; draw the first parameters."""
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.forget(self.rng)
        self.copy()
        self.replay.clear()
        self._uniforms: list[float] = []
        self._updates = 0
        self.epsilon = self._first
        """The share of random actions from now on."""

    def begin(self) -> None:
        """An episode is about to start."""
        self._loss_sum = 0.0
        self._before = self._updates

    def _uniform(self) -> float:
        if not self._uniforms:
            self._uniforms = self.rng.random(4096).tolist()
        return self._uniforms.pop()

    def explores(self) -> bool:
        """Whether the next action is one of the random ones; with probability ε."""
        return self._uniform() < self.epsilon

    def any_action(self) -> int:
        """Each as likely as any other."""
        return int(self._uniform() * len(ACTIONS))

    def keep(self, action: int, reward: float, done: bool) -> None:
        """Store the result of the last step; learn from a batch, once there is one."""
        replay = self.replay
        replay.keep(action, reward, done)
        if len(replay) < len(replay.actions):
            return
        replay.draw(self.rng)
        self._loss_sum += self.update()
        self._updates += 1
        if self._updates % self._target_every == 0:
            self.copy()
        self.epsilon = max(self._least, self.epsilon * self._decay)

    def end(self) -> Mapping[str, float]:
        """`epsilon` now, and the mean `loss` of the episode's updates."""
        out = {"epsilon": self.epsilon}
        if self._updates > self._before:
            out["loss"] = self._loss_sum / (self._updates - self._before)
        return out
