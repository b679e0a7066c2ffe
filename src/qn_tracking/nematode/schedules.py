"""Learning rates of the quantum brains, and the two optimisers that use them."""

from __future__ import annotations

from math import cos, exp, pi, sqrt
from typing import Protocol

from qn_tracking.nematode.schema import RateParameters, RateSection

MOMENTUM = 0.9


class Rate(Protocol):
    """A learning rate that changes from update to update, or from episode to episode."""

    def next(self) -> float:
        """The rate of the next update."""
        ...

    def observe(self, performance: float) -> None:
        """An episode is over; `performance` is the larger the better."""
        ...


class Decay:
    """`dynamic`: a rate that decays with the number of updates, never below `min_lr`."""

    def __init__(self, parameters: RateParameters) -> None:
        self._parameters = parameters
        self._updates = 0

    def next(self) -> float:
        """The rate of the next update."""
        p, n = self._parameters, self._updates
        self._updates += 1
        return max(p.min_lr, decayed(p, n))

    def observe(self, performance: float) -> None:
        """Nothing: it does not depend on performance."""


def decayed(p: RateParameters, updates: int) -> float:
    """The rate after a number of updates, by `decay_type`; r is the initial rate, n the updates.

    inverse_time r / (1 + decay_rate·n) · exponential r·exp(-decay_rate·n) · step
    r·decay_factor^⌊n / step_size⌋ · polynomial r·(1 - n / max_steps)^power · cosine from r to
    min_lr over max_steps (Loshchilov & Hutter, 2017, arXiv:1608.03983, without restarts).
    """
    rate = p.initial_learning_rate
    done = min(updates / p.max_steps, 1.0)
    match p.decay_type:
        case "inverse_time":
            return rate / (1 + p.decay_rate * updates)
        case "exponential":
            return rate * exp(-p.decay_rate * updates)
        case "step":
            return float(rate * p.decay_factor ** (updates // p.step_size))
        case "polynomial":
            return float(rate * (1 - done) ** p.power)
        case "cosine":
            return p.min_lr + 0.5 * (rate - p.min_lr) * (1 + cos(pi * done))


class ByPerformance:
    """`performance_based`: grows by a factor after a better episode, shrinks by it otherwise."""

    def __init__(self, parameters: RateParameters) -> None:
        self._parameters = parameters
        self._rate = parameters.initial_learning_rate
        self._previous: float | None = None

    def next(self) -> float:
        """The rate of the next update."""
        return self._rate

    def observe(self, performance: float) -> None:
        """An episode is over with this sum of rewards."""
        p = self._parameters
        if self._previous is not None:
            factor = p.adjustment_factor
            self._rate *= factor if performance > self._previous else 1 / factor
        self._rate = max(p.min_learning_rate, min(p.max_learning_rate, self._rate))
        self._previous = performance


class Optimiser(Protocol):
    """Turns the gradients of an objective into moves of its parameters, uphill."""

    rate: float
    """The learning rate of the last update."""

    def moves(self, gradient: list[float], boost: float) -> list[float]:
        """What to add to each parameter; `boost` multiplies the learning rate."""
        ...

    def observe(self, performance: float) -> None:
        """An episode is over; `performance` is the larger the better."""
        ...


class Momentum:
    """Gradient ascent with momentum .9 at a `Rate`."""

    def __init__(self, rate: Rate, size: int) -> None:
        self._rate = rate
        self._moves = [0.0] * size
        self.rate = 0.0
        self.observe = rate.observe

    def moves(self, gradient: list[float], boost: float) -> list[float]:
        """What to add to each parameter."""
        self.rate = rate = self._rate.next() * boost
        pairs = zip(self._moves, gradient, strict=True)
        self._moves = [MOMENTUM * move + rate * slope for move, slope in pairs]
        return self._moves


class Adam:
    """Adam (Kingma & Ba, 2015, arXiv:1412.6980, algorithm 1), uphill."""

    def __init__(self, parameters: RateParameters, size: int) -> None:
        self._parameters = parameters
        self._first, self._second = [0.0] * size, [0.0] * size
        self._updates = 0
        self.rate = parameters.initial_learning_rate

    def moves(self, gradient: list[float], boost: float) -> list[float]:
        """What to add to each parameter."""
        p = self._parameters
        self._updates += 1
        self.rate = p.initial_learning_rate * boost
        b1, b2 = p.beta1, p.beta2
        first, second = self._first, self._second
        step = self.rate / (1 - b1**self._updates)
        scale = 1 - b2**self._updates
        out = []
        for i, slope in enumerate(gradient):
            first[i] = b1 * first[i] + (1 - b1) * slope
            second[i] = b2 * second[i] + (1 - b2) * slope * slope
            out.append(step * first[i] / (sqrt(second[i] / scale) + p.epsilon))
        return out

    def observe(self, performance: float) -> None:
        """Nothing: it does not depend on performance."""


def make_optimiser(section: RateSection, size: int) -> Optimiser:
    """A fresh optimiser for `size` parameters."""
    parameters = section.parameters
    match section.method:
        case "adam":
            return Adam(parameters, size)
        case "performance_based":
            return Momentum(ByPerformance(parameters), size)
        case "dynamic":
            return Momentum(Decay(parameters), size)
