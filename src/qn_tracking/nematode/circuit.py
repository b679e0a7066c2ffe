"""The layered quantum circuit of the modular brains, simulated exactly.

Hadamards on every qubit, then in each layer RX, RY, RZ on each qubit and CZ between all pairs.
R_P(t) = exp(-i t P / 2). Index i of a state is the bit string of i, qubit 0 rightmost.

States of a few qubits are too small for arrays: plain Python is several times faster than NumPy.
The shifted circuits of the parameter-shift rule are not run one by one: one forward and one
backward pass give the amplitude of all of them, since exp(-i (t ± π/2) P / 2) =
exp(-i t P / 2) (1 ∓ i P) / √2.
"""

from __future__ import annotations

from cmath import exp
from collections.abc import Sequence
from math import cos, sin, sqrt

AXES = ("rx", "ry", "rz")
MAX_QUBITS = 8

State = list[complex]
Matrix = tuple[complex, complex, complex, complex]


def parameter_names(qubits: int, layers: int) -> tuple[str, ...]:
    """`θ_AXIS LAYER _ QUBIT` for each angle, layers from 1: axis by axis within a layer."""
    return tuple(
        f"θ_{axis}{layer}_{qubit}"
        for layer in range(1, layers + 1)
        for axis in AXES
        for qubit in range(qubits)
    )


def depth(qubits: int, layers: int) -> int:
    """How many gates follow each other on a qubit: gates of different qubits run side by side.

    The Hadamard, then in each layer three rotations and the rounds of CZ: all pairs of an even
    number of qubits n need n - 1 rounds, of an odd one n.
    """
    rounds = qubits - 1 + (qubits % 2 if qubits > 1 else 0)
    return 1 + layers * (3 + rounds)


def rotation(rx: float, ry: float, rz: float) -> Matrix:
    """RZ · RY · RX as (u00, u01, u10, u11), for angles in radians."""
    c, s = cos(ry / 2), sin(ry / 2)
    cx, sx = cos(rx / 2), -1j * sin(rx / 2)
    down, up = exp(-0.5j * rz), exp(0.5j * rz)
    return (
        down * (c * cx - s * sx),
        down * (c * sx - s * cx),
        up * (s * cx + c * sx),
        up * (s * sx + c * cx),
    )


class Circuit:
    """Runs one set of angles after another; `shifted` uses the last one."""

    def __init__(self, qubits: int, layers: int) -> None:
        size = 1 << qubits
        self.size = size
        self._qubits = qubits
        self._start: State = [complex(1 / sqrt(size))] * size
        # The indices that differ in one qubit only, for each qubit.
        self._pairs = [
            [(i, i | 1 << q) for i in range(size) if not i >> q & 1] for q in range(qubits)
        ]
        # CZ between all pairs: a sign for every pair of ones.
        ones = [i.bit_count() for i in range(size)]
        self._flipped = [i for i in range(size) if ones[i] * (ones[i] - 1) // 2 % 2]
        # Where the three angles of each gate are, in the order of the gates.
        block = 3 * qubits
        self._places = [
            (layer * block + q, layer * block + qubits + q, layer * block + 2 * qubits + q)
            for layer in range(layers)
            for q in range(qubits)
        ]

    def run(self, angles: Sequence[float]) -> list[float]:
        """Probabilities of the 2**qubits bit strings.

        `angles` has 3 · layers · qubits entries in radians, ordered as `parameter_names`.
        """
        state = self._start
        self._before: list[State] = []
        self._gates: list[Matrix] = []
        self._phases: list[float] = []
        qubit = 0
        for x, y, z in self._places:
            u00, u01, u10, u11 = gate = rotation(angles[x], angles[y], angles[z])
            self._before.append(state)
            self._gates.append(gate)
            self._phases.append(angles[z])
            after = state[:]
            for i, j in self._pairs[qubit]:
                a, b = state[i], state[j]
                after[i] = u00 * a + u01 * b
                after[j] = u10 * a + u11 * b
            state = after
            qubit += 1
            if qubit == self._qubits:
                qubit = 0
                for i in self._flipped:
                    state[i] = -state[i]
        self._final = state
        return [a.real * a.real + a.imag * a.imag for a in state]

    def shifted(self, strings: Sequence[int]) -> tuple[list[float], list[float]]:
        """Probability of ending in one of `strings` with each angle shifted by +π/2, and by -π/2.

        Both lists are ordered as the angles. Half their difference is the exact derivative: the
        parameter-shift rule (Mitarai et al., 2018, arXiv:1803.00745; Schuld et al., 2019,
        arXiv:1811.11184).
        """
        plus = [0.0] * len(self._places) * 3
        minus = plus[:]
        for string in strings:
            self._shift(string, plus, minus)
        return plus, minus

    def _shift(self, string: int, plus: list[float], minus: list[float]) -> None:
        """Add the probabilities of one string.

        The amplitude is Σ r[i] U[i, j] s[j] with the state s before a gate U and the row r of the
        circuit after it. Multiplying U by a Pauli matrix gives the amplitudes needed.
        """
        row: State = [0j] * self.size
        row[string] = 1 + 0j
        qubit = self._qubits
        amplitude = self._final[string]
        for k in range(len(self._places) - 1, -1, -1):
            if qubit == self._qubits:
                for i in self._flipped:
                    row[i] = -row[i]
            qubit -= 1
            before = self._before[k]
            u00, u01, u10, u11 = self._gates[k]
            e00 = e01 = e10 = e11 = 0j
            for i, j in self._pairs[qubit]:
                a, b = before[i], before[j]
                p, q = row[i], row[j]
                e00 += p * a
                e01 += p * b
                e10 += q * a
                e11 += q * b
                row[i] = p * u00 + q * u10
                row[j] = p * u01 + q * u11
            x, y, z = self._places[k]
            # U·X; (RZ·Y·RZ†)·U with RZ·Y·RZ† = [[0, -i e^-iz], [i e^iz, 0]]; Z·U
            turn = 1j * exp(1j * self._phases[k])
            low = e10 * u00 + e11 * u01
            high = e00 * u10 + e01 * u11
            top = e00 * u00 + e01 * u01
            for at, other in (
                (x, e00 * u01 + e01 * u00 + e10 * u11 + e11 * u10),
                (y, turn * low + turn.conjugate() * high),
                (z, top + top - amplitude),
            ):
                mean = abs(amplitude) ** 2 + abs(other) ** 2
                cross = 2 * (amplitude * other.conjugate()).imag
                plus[at] += (mean - cross) / 2
                minus[at] += (mean + cross) / 2
            if qubit == 0:
                qubit = self._qubits
