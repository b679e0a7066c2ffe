"""The `qmlp` brain: a deep Q-network, classical despite its name, in NumPy.

The networks are small, so most of the time goes into the calls themselves. Therefore every buffer
is made once; the activations of a batch are in columns, so that each layer writes straight into the
inputs of the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import pi

import numpy as np

from qn_tracking.nematode.qlearning import QLearner
from qn_tracking.nematode.replay import Replay
from qn_tracking.nematode.schema import QmlpSection
from qn_tracking.nematode.weights import Floats, Weights
from qn_tracking.nematode.world import ACTIONS

MAX_NORM = 1.0
INPUTS, OUTPUTS = 2, len(ACTIONS)

_maximum, _ZERO = np.maximum, np.float32(0)


class QmlpBrain(QLearner):
    """2 inputs (strength, angle / π) → hidden layers (ReLU) → the value of each of 4 actions.

    An update is one step of Adam at `learning_rate` down the mean squared error of a batch, the
    norm of its gradient clipped at `MAX_NORM`.
    """

    name = "qmlp"
    family = "classical"

    def __init__(self, section: QmlpSection) -> None:
        self._section = section
        batch = section.batch_size
        super().__init__(
            Replay(section.buffer_size, INPUTS + 1, batch),
            first=section.epsilon,
            decay=section.epsilon_decay,
            least=section.epsilon_min,
            target_every=section.target_update_freq,
        )
        widths = [INPUTS, *[section.hidden_dim] * section.num_hidden_layers, OUTPUTS]
        self.weights = Weights(widths, max_norm=MAX_NORM)
        self.target = Weights(widths, max_norm=MAX_NORM)
        shapes = self.weights.shapes

        # The inputs of each layer, with the constant 1 of the bias below them, and the outputs.
        def columns(first: Floats) -> list[Floats]:
            above = [np.ones((into, batch), np.float32) for _, into in shapes[1:]]
            return [first.T, *above, np.empty((OUTPUTS, batch), np.float32)]

        self._columns, self._ahead = columns(self.replay.states), columns(self.replay.nexts)
        self._row = [np.ones(into, np.float32) for _, into in shapes]
        self._deltas = [np.empty((out, batch), np.float32) for out, _ in shapes]
        self._each = np.arange(batch)

    def forget(self, rng: np.random.Generator) -> None:
        """Weights and biases uniform within ±1 / √(inputs of the layer)."""
        self.weights.draw(rng)

    def copy(self) -> None:
        """Copy the current weights to the target network."""
        self.target.copy(self.weights)

    def act(self, strength: float, angle: float) -> int:
        """The most valuable action, or with probability ε a random one."""
        self.replay.see(strength, angle / pi, 1.0)
        if self.explores():
            self._action = self.any_action()
        else:
            values = self.values(strength, angle)
            self._action = values.index(max(values))
        return self._action

    def values(self, strength: float, angle: float) -> list[float]:
        """The estimated value of each action."""
        row = self._row
        x = row[0]
        x[0] = strength
        x[1] = angle / pi
        *hidden, last = self.weights.layers
        for weights, above in zip(hidden, row[1:], strict=True):
            out = above[:-1]
            weights.dot(x, out)
            _maximum(out, _ZERO, out=out)
            x = above
        values: list[float] = last.dot(x).tolist()
        return values

    def learn(self, reward: float, done: bool) -> None:
        """Keep the step; learn from a batch, once there are enough for one."""
        self.keep(self._action, reward, done)

    def update(self) -> float:
        """One step down the loss of the batch last drawn; returns that loss."""
        loss = self.slope()
        self.weights.descend(self._section.learning_rate)
        return loss

    def slope(self) -> float:
        """The loss of the batch last drawn; its gradient is written into `weights.slopes`.

        Mean over the batch of (r + γ · max Q′(s′, ·) - Q(s, a))², Q′ of the target network, with 0
        for the future of an episode's last step.
        """
        replay, columns = self.replay, self._columns
        wanted = _forward(self.target, self._ahead).max(0)
        wanted *= replay.alive
        wanted *= np.float32(self._section.gamma)
        wanted += replay.rewards
        actions, each = replay.actions, self._each
        miss = _forward(self.weights, columns)[actions, each]
        miss -= wanted
        delta = self._deltas[-1]
        delta.fill(0)
        delta[actions, each] = miss * np.float32(2 / len(miss))
        layers, slopes = self.weights.layers, self.weights.slopes
        for i in range(len(layers) - 1, -1, -1):
            inputs = columns[i]
            np.dot(delta, inputs.T, slopes[i])
            if i:
                back = np.dot(layers[i][:, :-1].T, delta, self._deltas[i - 1])
                back *= inputs[:-1] > 0
                delta = back
        return float(np.dot(miss, miss)) / len(miss)

    def cost(self) -> Mapping[str, int]:
        """The weights and biases that it learns; the target is a copy of them."""
        return {"parameters": self.weights.count}


def _forward(weights: Weights, columns: list[Floats]) -> Floats:
    """Fill the inputs of each layer from the first ones; returns the outputs, a column a state."""
    *hidden, last = weights.layers
    for i, layer in enumerate(hidden):
        out = columns[i + 1][:-1]
        np.dot(layer, columns[i], out)
        _maximum(out, _ZERO, out=out)
    return np.dot(last, columns[-2], columns[-1])
