"""The `qmodular` brain: Q-learning on the circuit of `modular`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qn_tracking.nematode.circuit import Circuit, depth, parameter_names
from qn_tracking.nematode.circuits import Array, Circuits
from qn_tracking.nematode.modular import first_angles, tamed
from qn_tracking.nematode.qlearning import QLearner
from qn_tracking.nematode.replay import Replay
from qn_tracking.nematode.schedules import make_optimiser
from qn_tracking.nematode.schema import InitializerSection, QmodularSection, RateSection
from qn_tracking.nematode.senses import Senses
from qn_tracking.nematode.world import ACTIONS

GAMMA = 0.95
EPSILON = 1.0
"""At first."""


class QmodularBrain(QLearner):
    """The value of an action is a weighted sum of the frequencies of the bit strings.

    Q(s, a) = Σ_z w[a, z] f_z(s, θ). The angles θ and the weights w both learn, as in Skolik et al.
    (2022, doi:10.22331/q-2022-05-24-720): without weights no value could leave [0, 1]. At first
    the value of an action is the frequency of the strings that stand for it in `modular`. (In
    Quantum Nematode θ stays as drawn, and a classical network behind the circuit learns.)

    An update is one move down the mean squared error of a batch, at the learning rate of the
    schedule, for θ by the parameter-shift rule (see `Circuit.shifted`). Every circuit is measured
    `shots` times, the shifted ones too.
    """

    name = "qmodular"
    family = "quantum"
    backend = "statevector"

    def __init__(
        self,
        section: QmodularSection,
        *,
        shots: int,
        rate: RateSection,
        gradient: str,
        initializer: InitializerSection,
    ) -> None:
        """All sections as checked; `gradient` is `raw`, `normalize` or `clip`."""
        self._shots, self._rate_section = shots, rate
        self._method, self._initializer = gradient, initializer
        self._senses = Senses(section.modules)
        qubits, layers, batch = self._senses.qubits, section.num_layers, section.batch_size
        super().__init__(
            Replay(section.buffer_size, 3 * qubits, batch),
            first=EPSILON,
            decay=section.epsilon_decay,
            least=section.min_epsilon,
            target_every=section.target_update_freq,
        )
        self._layers = layers
        self._circuit, self._circuits = Circuit(qubits, layers), Circuits(qubits, layers)
        self.parameters = parameter_names(qubits, layers)
        """The names of the angles, in order."""
        # The last RZ of each qubit does not change what is measured: it is not shifted.
        self._shiftable = len(self.parameters) - qubits
        # The angles of the circuits: (layer, angle, the states of a batch and then the next ones).
        self._inputs = np.empty((layers, 3 * qubits, 2 * batch))
        self._each = np.arange(batch)

    def forget(self, rng: np.random.Generator) -> None:
        """Start at the angles of the initializer, with weights of 0 and 1."""
        self.angles = np.array(first_angles(self._initializer, self.parameters, rng))
        strings = np.arange(self._circuit.size)
        self.weights = np.zeros((len(ACTIONS), len(strings)))
        self.weights[strings % len(ACTIONS), strings] = 1
        self._executed = 0
        self._optimiser = make_optimiser(self._rate_section, self.angles.size + self.weights.size)

    def copy(self) -> None:
        """Copy the current parameters to the target."""
        self.target = self.angles.copy(), self.weights.copy()

    def begin(self) -> None:
        """An episode is about to start."""
        super().begin()
        self._last: int | None = None
        self._reward = 0.0

    def act(self, strength: float, angle: float) -> int:
        """The most valuable action, or with probability ε a random one."""
        added = self._senses.angles(strength, angle, self._last)
        self.replay.see(*added)
        if self.explores():
            action = self.any_action()
        else:
            pairs = zip(self.angles.tolist(), added * self._layers, strict=True)
            chances = self._circuit.run([a + b for a, b in pairs])
            frequencies = self._measured(np.array(chances))
            action = int((self.weights @ frequencies).argmax())
        self._last = self._action = action
        return action

    def _measured(self, chances: Array) -> Array:
        """Frequencies in `shots` measurements, for probabilities along the last axis."""
        self._executed += chances.size // self._circuit.size
        chances = np.maximum(chances, 0.0, order="C")
        chances /= np.add.reduce(chances, -1, keepdims=True)
        return self.rng.multinomial(self._shots, chances) / self._shots

    def learn(self, reward: float, done: bool) -> None:
        """Keep the step; learn from a batch, once there are enough for one."""
        self._reward += reward
        self.keep(self._action, reward, done)
        if done:
            self._optimiser.observe(self._reward)

    def update(self) -> float:
        """One move down the loss of the batch last drawn; returns that loss."""
        loss, of_angles, of_weights = self.slope()
        # Uphill on the negative loss. It is halved, which makes the error itself the factor.
        uphill = (np.concatenate((of_angles, of_weights.ravel())) / -2).tolist()
        moves = np.array(self._optimiser.moves(tamed(uphill, self._method), 1.0))
        size = self.angles.size
        self.angles += moves[:size]
        self.weights += moves[size:].reshape(self.weights.shape)
        return loss

    def slope(self) -> tuple[float, Array, Array]:
        """The loss of the batch last drawn, and its gradient by angles and by weights.

        Mean over the batch of (r + γ · max Q′(s′, ·) - Q(s, a))², Q′ of the target, with 0 for the
        future of an episode's last step.
        """
        replay, n = self.replay, len(self._each)
        angles, weights = self.target
        for part, theta, states in (
            (self._inputs[..., :n], self.angles, replay.states),
            (self._inputs[..., n:], angles, replay.nexts),
        ):
            np.add(theta.reshape(*part.shape[:2], 1), states.T, part)
        frequencies = self._measured(self._circuits.run(self._inputs.reshape(-1, 2 * n)).T)
        now, ahead = frequencies[:n], frequencies[n:]
        wanted = replay.rewards + GAMMA * replay.alive * (ahead @ weights.T).max(1)
        rows = self.weights[replay.actions]
        miss = np.add.reduce(rows * now, 1) - wanted
        share = (miss * (2 / n))[:, None]
        k = self._shiftable
        plus, minus = self._circuits.shifted(n)
        shifted = self._measured(np.concatenate((plus[:k], minus[:k])).swapaxes(1, 2))
        of_angles = np.zeros(len(self.parameters))
        difference = (shifted[:k] - shifted[k:]).reshape(k, -1)
        of_angles[:k] = difference @ (rows * share).ravel() / 2
        chosen = np.zeros((len(ACTIONS), n))
        chosen[replay.actions, self._each] = 1
        return float(miss @ miss) / n, of_angles, chosen @ (share * now)

    def cost(self) -> Mapping[str, int]:
        """What the run has cost: every circuit, shifted or not, is measured `shots` times."""
        return {
            "parameters": self.angles.size + self.weights.size,
            "circuits": self._executed,
            "shots": self._executed * self._shots,
            "qubits": self._senses.qubits,
            "depth": depth(self._senses.qubits, self._layers),
        }

    def end(self) -> Mapping[str, float]:
        """`epsilon` and `learning_rate` now, and the mean `loss` of the episode's updates."""
        return {**super().end(), "learning_rate": self._optimiser.rate}
