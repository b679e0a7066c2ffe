"""The `modular` brain: a quantum circuit whose measurement is the policy.

Learns by the parameter-shift rule on the log-probability of the chosen action, times its reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import pi

import numpy as np

from qn_tracking.nematode.circuit import Circuit, parameter_names
from qn_tracking.nematode.schedules import make_optimiser
from qn_tracking.nematode.schema import InitializerSection, ModularSection, RateSection
from qn_tracking.nematode.world import ACTIONS, FORWARD, LEFT, RIGHT

Angles = tuple[float, float, float]
_LAST = {FORWARD: pi, LEFT: pi / 2, RIGHT: -pi / 2}


def _chemotaxis(strength: float, angle: float, last: int | None) -> Angles:
    return strength * pi - pi / 2, angle / 2, 0.0


def _action(strength: float, angle: float, last: int | None) -> Angles:
    return 0.0, 0.0, _LAST.get(last, 0.0) if last is not None else 0.0


def _nothing(strength: float, angle: float, last: int | None) -> Angles:
    return 0.0, 0.0, 0.0


FEATURES: dict[str, Callable[[float, float, int | None], Angles]] = {
    "chemotaxis": _chemotaxis,
    "action": _action,
    "thermotaxis": _nothing,
    "oxygen": _nothing,
    "vision": _nothing,
}
"""What each module adds to RX, RY, RZ of its qubits, in radians, from strength and angle of the
signal and the last action. The world has nothing yet for the last three to sense."""


class ModularBrain:
    """One qubit per index in `modules`; bit strings stand for actions in order, again and again."""

    name = "modular"
    family = "quantum"
    backend = "statevector"

    def __init__(
        self,
        section: ModularSection,
        *,
        shots: int,
        rate: RateSection,
        gradient: str,
        initializer: InitializerSection,
    ) -> None:
        """All sections as checked; `gradient` is `raw`, `normalize` or `clip`."""
        self._section, self._shots = section, shots
        self._rate_section, self._method, self._initializer = rate, gradient, initializer
        self._qubits = sum(len(qubits) for qubits in section.modules.values())
        self._features = [
            (FEATURES[module], list(qubits)) for module, qubits in section.modules.items()
        ]
        self._circuit = Circuit(self._qubits, section.num_layers)
        self.parameters = parameter_names(self._qubits, section.num_layers)
        """The names of the angles, in order."""

    def reset(self, seed: np.random.SeedSequence) -> None:
        """Forget everything; start at the angles of the initializer."""
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._noise: list[float] = []
        size = len(self.parameters)
        match self._initializer.type:
            case "manual":
                values = self._initializer.manual_parameter_values or {}
                self._angles = [values[name] for name in self.parameters]
            case "zero":
                self._angles = [0.0] * size
            case "random_pi":
                self._angles = self._rng.uniform(-pi, pi, size).tolist()
            case "random_small":
                self._angles = self._rng.uniform(-0.1, 0.1, size).tolist()
        self._optimiser = make_optimiser(self._rate_section, size)
        self._recent: list[float] = []
        self._boost_left = 0

    def begin(self) -> None:
        """An episode is about to start."""
        self._last: int | None = None
        self._reward = self._slope_sum = 0.0
        self._updates = 0

    def act(self, strength: float, angle: float) -> int:
        """An action drawn from the frequencies of `shots` measurements."""
        added = [0.0] * (3 * self._qubits)
        for feature, qubits in self._features:
            for axis, value in enumerate(feature(strength, angle, self._last)):
                for qubit in qubits:
                    added[axis * self._qubits + qubit] = value
        added *= self._section.num_layers
        inputs = [a + b for a, b in zip(self._angles, added, strict=True)]
        probabilities = self._circuit.run(inputs)
        total = sum(probabilities)
        counts = self._rng.multinomial(self._shots, [p / total for p in probabilities]).tolist()
        drawn = self._rng.random() * self._shots
        string = 0
        while drawn >= counts[string]:
            drawn -= counts[string]
            string += 1
        self._last = action = string % len(ACTIONS)
        self._strings = range(action, self._circuit.size, len(ACTIONS))
        self._frequency = sum([counts[s] for s in self._strings]) / self._shots
        return action

    def learn(self, reward: float, done: bool) -> None:
        """One step uphill on reward · log(probability of the action), each shifted circuit measured
        `shots` times, less the pull of `l2_reg` toward zero; then `noise_std` of noise.
        """
        section = self._section
        plus, minus = self._circuit.shifted(self._strings)
        chances = [min(1.0, max(0.0, p)) for p in (*plus, *minus)]
        counts = self._rng.binomial(self._shots, chances).tolist()
        n = len(plus)
        floor = section.min_gradient_magnitude
        slopes = []
        for up, down in zip(counts[:n], counts[n:], strict=True):
            slope = (up - down) / self._shots
            if -floor < slope < floor:
                slope = -floor if slope < 0 else floor
            slopes.append(0.5 * slope / self._frequency * reward)
        slopes = _tamed(slopes, self._method)
        self._slope_sum += sum([slope * slope for slope in slopes]) ** 0.5
        self._updates += 1
        self._reward += reward
        self._move(slopes, self._boost(reward))
        if done:
            self._optimiser.observe(self._reward)

    def _boost(self, reward: float) -> float:
        """The factor on the learning rate: raised for a while after a run of low rewards."""
        section = self._section
        if not section.lr_boost:
            return 1.0
        recent, window = self._recent, section.low_reward_window
        recent.append(reward)
        del recent[:-window]
        low = len(recent) == window and sum(recent) / window < section.low_reward_threshold
        if low and not self._boost_left:
            self._boost_left = section.lr_boost_duration
        if not self._boost_left:
            return 1.0
        self._boost_left -= 1
        return section.lr_boost_factor

    def _move(self, slopes: list[float], boost: float) -> None:
        section = self._section
        l2 = section.l2_reg
        angles = self._angles
        uphill = [slope - l2 * angle for slope, angle in zip(slopes, angles, strict=True)]
        moves = self._optimiser.moves(uphill, boost)
        n = len(angles)
        if len(self._noise) < n:
            self._noise = (self._rng.standard_normal(512 * n) * section.noise_std).tolist()
        noise = self._noise[-n:]
        del self._noise[-n:]
        angles = [a + b + c for a, b, c in zip(angles, moves, noise, strict=True)]
        if section.param_clip:
            angles = [min(pi, max(-pi, angle)) for angle in angles]
        if section.param_modulo:
            angles = [(angle + pi) % (2 * pi) - pi for angle in angles]
        self._angles = angles

    def end(self) -> Mapping[str, float]:
        """`learning_rate` of the last update and mean `gradient_norm` of the episode's updates."""
        if not self._updates:
            return {}
        return {
            "learning_rate": self._optimiser.rate,
            "gradient_norm": self._slope_sum / self._updates,
        }


def _tamed(slopes: list[float], method: str) -> list[float]:
    """The gradient as it is, with its largest entry scaled to 1, or each entry within ±1."""
    if method == "clip":
        return [min(1.0, max(-1.0, slope)) for slope in slopes]
    if method == "normalize":
        top = max(abs(slope) for slope in slopes)
        return [slope / top for slope in slopes] if top else slopes
    return slopes
