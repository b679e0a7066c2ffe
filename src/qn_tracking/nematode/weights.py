"""The weights of a small network of full layers, in NumPy, and Adam, which moves them.

The networks are small, so most of the time goes into the calls themselves. Therefore weights are
(out, in + 1) with the bias as last column, for inputs that end with a constant 1, and one flat
vector holds all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import numpy as np
import numpy.typing as npt

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
FLUSH = 256
"""Updates between two flushes of moments too small for float32 (see `_flush`)."""

Floats = npt.NDArray[np.float32]


class Weights:
    """Of layers of these widths, the inputs first; `layers` and `slopes` are (out, in + 1) each.

    To learn, write the gradient of a loss into `slopes` and call `descend`.
    """

    def __init__(self, widths: Sequence[int], *, max_norm: float) -> None:
        """`max_norm` is what the norm of the whole gradient is clipped at."""
        self._max_norm = max_norm
        self.shapes = [(out, into + 1) for into, out in pairwise(widths)]
        self._sizes = [out * into for out, into in self.shapes]
        self.count = total = sum(self._sizes)
        """How many weights and biases there are."""
        flat = {name: np.zeros(total, np.float32) for name in ("w", "g", "m", "v")}
        self._w, self._g, self._m, self._v = flat.values()
        self.layers, self.slopes = self._views(self._w), self._views(self._g)
        self._scratch = np.empty(total, np.float32)
        self._updates = 0

    def _views(self, flat: Floats) -> list[Floats]:
        ends = np.cumsum(self._sizes).tolist()
        parts = zip(ends, self._sizes, self.shapes, strict=True)
        return [flat[end - size : end].reshape(shape) for end, size, shape in parts]

    def draw(self, rng: np.random.Generator) -> None:
        """Start again: weights and biases uniform within ±1 / √(inputs of the layer)."""
        for weights in self.layers:
            bound = 1 / sqrt(weights.shape[1] - 1)
            weights[:] = rng.uniform(-bound, bound, weights.shape)
        self._m[:] = 0
        self._v[:] = 0
        self._updates = 0

    def copy(self, other: Weights) -> None:
        """Take over the weights of another network of these widths."""
        self._w[:] = other._w

    def descend(self, rate: float) -> None:
        """One step of Adam (Kingma & Ba, 2015, arXiv:1412.6980), downhill; spoils `slopes`.

        The moments are stored without their factors (1 - β), which are constant and are part of the
        step instead: that saves two passes over the parameters.
        """
        self._updates += 1
        n = self._updates
        g = self._g
        norm = sqrt(float(np.dot(g, g)))
        if norm > self._max_norm:
            g *= np.float32(self._max_norm / (norm + 1e-6))
        second = sqrt((1 - BETA2) / (1 - BETA2**n))
        m, v, t = self._m, self._v, self._scratch
        m *= np.float32(BETA1)
        m += g
        v *= np.float32(BETA2)
        g *= g
        v += g
        np.sqrt(v, t)
        t += np.float32(EPSILON / second)
        np.divide(m, t, t)
        t *= np.float32(rate * (1 - BETA1) / (1 - BETA1**n) / second)
        self._w -= t
        if n % FLUSH == 0:
            self._flush()

    def _flush(self) -> None:
        """Zero moments that would go subnormal before the next flush: arithmetic on subnormal
        numbers is many times slower, and an inactive ReLU leaves thousands of them.
        """
        for moment in (self._m, self._v):
            moment[np.abs(moment) < 1e-26] = 0
