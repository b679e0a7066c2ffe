"""The `modular` brain: a quantum circuit whose measurement is the policy.

Learns by the parameter-shift rule on the log-probability of the chosen action, times its reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import pi

import numpy as np

from qn_tracking.nematode.circuit import Circuit, depth, parameter_names
from qn_tracking.nematode.schedules import make_optimiser
from qn_tracking.nematode.schema import InitializerSection, ModularSection, RateSection
from qn_tracking.nematode.senses import Senses
from qn_tracking.nematode.world import ACTIONS


class ModularBrain:
    """One qubit per index in `modules`; bit string i is action i modulo their number."""

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
        self._senses = Senses(section.modules)
        qubits = self._senses.qubits
        self._circuit = Circuit(qubits, section.num_layers)
        self.parameters = parameter_names(qubits, section.num_layers)
        """The names of the angles, in order."""

    def reset(self, seed: np.random.SeedSequence) -> None:
        """Forget everything; start at the angles of the initializer."""
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._noise: list[float] = []
        self._angles = first_angles(self._initializer, self.parameters, self._rng)
        self._executed = 0
        self._optimiser = make_optimiser(self._rate_section, len(self._angles))
        self._recent: list[float] = []
        self._boost_left = 0

    def begin(self) -> None:
        """An episode is about to start."""
        self._last: int | None = None
        self._reward = self._slope_sum = 0.0
        self._updates = 0

    def act(self, strength: float, angle: float) -> int:
        """An action drawn from the frequencies of `shots` measurements."""
        added = self._senses.angles(strength, angle, self._last) * self._section.num_layers
        inputs = [a + b for a, b in zip(self._angles, added, strict=True)]
        probabilities = self._circuit.run(inputs)
        self._executed += 1
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
        self._executed += len(chances)
        n = len(plus)
        floor = section.min_gradient_magnitude
        slopes = []
        for up, down in zip(counts[:n], counts[n:], strict=True):
            slope = (up - down) / self._shots
            if -floor < slope < floor:
                slope = -floor if slope < 0 else floor
            slopes.append(0.5 * slope / self._frequency * reward)
        slopes = tamed(slopes, self._method)
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

    def cost(self) -> Mapping[str, int]:
        """What the run has cost: every circuit, shifted or not, is measured `shots` times."""
        qubits = self._senses.qubits
        return {
            "parameters": len(self.parameters),
            "circuits": self._executed,
            "shots": self._executed * self._shots,
            "qubits": qubits,
            "depth": depth(qubits, self._section.num_layers),
        }

    def end(self) -> Mapping[str, float]:
        """`learning_rate` of the last update and mean `gradient_norm` of the episode's updates."""
        if not self._updates:
            return {}
        return {
            "learning_rate": self._optimiser.rate,
            "gradient_norm": self._slope_sum / self._updates,
        }


def first_angles(
    section: InitializerSection, names: Sequence[str], rng: np.random.Generator
) -> list[float]:
    """Where the parameters of these names start, in radians."""
    match section.type:
        case "manual":
            values = section.manual_parameter_values or {}
            return [values[name] for name in names]
        case "zero":
            return [0.0] * len(names)
        case "random_pi":
            most = pi
        case "random_small":
            most = 0.1
    angles: list[float] = rng.uniform(-most, most, len(names)).tolist()
    return angles


def tamed(slopes: list[float], method: str) -> list[float]:
    """The gradient as it is, with its largest entry scaled to 1, or each entry within ±1."""
    if method == "clip":
        return [min(1.0, max(-1.0, slope)) for slope in slopes]
    if method == "normalize":
        top = max(abs(slope) for slope in slopes)
        return [slope / top for slope in slopes] if top else slopes
    return slopes
