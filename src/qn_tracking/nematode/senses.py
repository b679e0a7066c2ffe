"""The senses of a quantum brain: each module turns a signal into angles of the circuit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import pi

from qn_tracking.nematode.world import FORWARD, LEFT, RIGHT

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
signal and the last action. The environments have no signal yet for the last three."""


class Senses:
    """The modules of one brain, and the qubits of each."""

    def __init__(self, modules: Mapping[str, Sequence[int]]) -> None:
        self._modules = [(FEATURES[module], list(qubits)) for module, qubits in modules.items()]
        self.qubits = sum(len(qubits) for _, qubits in self._modules)

    def angles(self, strength: float, angle: float, last: int | None) -> list[float]:
        """What is added to the 3 · qubits angles of each layer, ordered as `parameter_names`."""
        added = [0.0] * (3 * self.qubits)
        for feature, qubits in self._modules:
            for axis, value in enumerate(feature(strength, angle, last)):
                for qubit in qubits:
                    added[axis * self.qubits + qubit] = value
        return added
