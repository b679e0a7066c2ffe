"""The `mlp` brain: a small policy network that learns by REINFORCE, in NumPy.

The networks are small, so most of the time goes into the calls themselves. Therefore every buffer
is made once, and the activations of a window are kept for its update.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log, pi, sqrt

import numpy as np

from qn_tracking.nematode.schema import MlpSection
from qn_tracking.nematode.weights import Weights
from qn_tracking.nematode.world import ACTIONS

WINDOW = 5
"""Steps between two updates; an episode's last window may be shorter."""
MAX_NORM = 0.5
INPUTS, OUTPUTS = 2, len(ACTIONS)

Four = tuple[float, float, float, float]

_maximum, _ZERO = np.maximum, np.float32(0)


class MlpBrain:
    """2 inputs (strength, angle / π) → hidden layers (ReLU) → softmax over 4 actions.

    REINFORCE with baseline (Williams, 1992, doi:10.1007/BF00992696) on windows of `WINDOW` steps,
    whose discounted returns are standardised; entropy bonus; gradient norm clipped at `MAX_NORM`;
    Adam (Kingma & Ba, 2015, arXiv:1412.6980) with a rate that falls by `lr_scheduler_gamma` every
    `lr_scheduler_step_size` updates.
    """

    name = "mlp"
    family = "classical"

    def __init__(self, section: MlpSection) -> None:
        self._section = section
        widths = [INPUTS, *[section.hidden_dim] * section.num_hidden_layers, OUTPUTS]
        self._weights = Weights(widths, max_norm=MAX_NORM)
        shapes = self._weights.shapes
        # Inputs of each layer for every step of a window, with the constant 1 of the bias behind.
        self._inputs = [np.ones((WINDOW, into), np.float32) for _, into in shapes]
        self._logits = np.empty((WINDOW, OUTPUTS), np.float32)
        outs = [*(layer[:, :-1] for layer in self._inputs[1:]), self._logits]
        # For each step of a window: its input, then the products: matrix, vector, output.
        self._rows = []
        for t in range(WINDOW):
            *hidden, last = [
                (w.dot, layer[t], out[t])
                for w, layer, out in zip(self._weights.layers, self._inputs, outs, strict=True)
            ]
            self._rows.append((self._inputs[0][t], hidden, last))
        self._deltas = [np.empty((WINDOW, out), np.float32) for out, _ in shapes]
        self._masks = [np.empty((WINDOW, out), np.bool_) for out, _ in shapes[:-1]]

    def reset(self, seed: np.random.SeedSequence) -> None:
        """Forget everything; weights and biases uniform within ±1 / √(inputs of the layer)."""
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._weights.draw(self._rng)
        self._uniforms: list[float] = []
        self._baseline = self._section.baseline
        self._rate = self._section.learning_rate
        self._updates = self._episodes = 0
        self._drop()

    def _drop(self) -> None:
        self._t = 0
        self._actions: list[int] = []
        self._policies: list[Four] = []
        self._logs: list[Four] = []
        self._rewards: list[float] = []

    def begin(self) -> None:
        """An episode is about to start."""
        self._drop()
        self._entropy_sum = self._loss_sum = 0.0
        self._step_count = self._update_count = 0

    def act(self, strength: float, angle: float) -> int:
        """An action drawn from the policy."""
        x, hidden, (dot, values, out) = self._rows[self._t]
        x[0] = strength
        x[1] = angle / pi
        for layer, above, below in hidden:
            layer(above, below)
            _maximum(below, _ZERO, out=below)
        dot(values, out)
        # Four numbers: plain arithmetic is faster than any array.
        a, b, c, d = out.tolist()
        top = max(a, b, c, d)
        ea, eb, ec, ed = exp(a - top), exp(b - top), exp(c - top), exp(d - top)
        total = ea + eb + ec + ed
        if not self._uniforms:
            self._uniforms = self._rng.random(4096).tolist()
        left = self._uniforms.pop() * total
        action = 0 if left < ea else 1 if left < ea + eb else 2 if left < ea + eb + ec else 3
        self._actions.append(action)
        self._policies.append((ea / total, eb / total, ec / total, ed / total))
        shift = top + log(total)
        self._logs.append((a - shift, b - shift, c - shift, d - shift))
        return action

    def learn(self, reward: float, done: bool) -> None:
        """Keep the reward; update once a window is full or the episode over."""
        self._rewards.append(reward)
        self._t += 1
        if done or self._t == WINDOW:
            self._step_count += self._t
            self._update()
            self._drop()

    def _advantages(self) -> list[float]:
        """Discounted returns within the window, standardised, minus the running baseline."""
        section = self._section
        value = 0.0
        returns = []
        for reward in reversed(self._rewards):
            value = reward + section.gamma * value
            returns.append(value)
        returns.reverse()
        n = len(returns)
        if n > 1:
            mean = sum(returns) / n
            spread = sqrt(sum([(r - mean) ** 2 for r in returns]) / (n - 1)) + 1e-8
            returns = [(r - mean) / spread for r in returns]
        alpha = section.baseline_alpha
        self._baseline += alpha * (sum(returns) / n - self._baseline)
        return [r - self._baseline for r in returns]

    def _update(self) -> None:
        n = self._t
        beta = self._section.entropy_beta
        loss = 0.0
        rows = []
        steps = zip(self._actions, self._policies, self._logs, self._advantages(), strict=True)
        for action, (a, b, c, d), logs, advantage in steps:
            la, lb, lc, ld = logs
            entropy = -(a * la + b * lb + c * lc + d * ld)
            # d(-A log p[action] - β H) / d logits
            base = advantage + beta * entropy
            row = [
                a * (base + beta * la),
                b * (base + beta * lb),
                c * (base + beta * lc),
                d * (base + beta * ld),
            ]
            row[action] -= advantage
            rows.append(row)
            loss -= advantage * logs[action] + beta * entropy
            self._entropy_sum += entropy
        self._loss_sum += loss / n
        self._update_count += 1
        delta = self._deltas[-1][:n]
        delta[:] = rows
        delta /= n
        layers, slopes = self._weights.layers, self._weights.slopes
        for i in range(len(layers) - 1, -1, -1):
            values = self._inputs[i][:n]
            np.dot(delta.T, values, slopes[i])
            if i:
                back = np.dot(delta, layers[i][:, :-1], self._deltas[i - 1][:n])
                back *= np.greater(values[:, :-1], 0, self._masks[i - 1][:n])
                delta = back
        self._weights.descend(self._rate)
        self._updates += 1
        if self._updates % self._section.lr_scheduler_step_size == 0:
            self._rate *= self._section.lr_scheduler_gamma

    def cost(self) -> Mapping[str, int]:
        """The weights and biases that it learns."""
        return {"parameters": self._weights.count}

    def end(self) -> Mapping[str, float]:
        """Adam's `learning_rate`, mean `entropy` of the policy in nats, mean `loss` of updates."""
        out: dict[str, float] = {"learning_rate": self._rate}
        if self._step_count:
            out["entropy"] = self._entropy_sum / self._step_count
            out["loss"] = self._loss_sum / self._update_count
        return out
