"""The `spiking` brain: leaky integrate-and-fire neurons that learn by STDP under reward."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, exp, log, pi

import numpy as np

from qn_tracking.nematode.neurons import Neurons, Stdp, duration
from qn_tracking.nematode.schema import SpikingSection
from qn_tracking.nematode.world import ACTIONS

DIRECTIONS, LEVELS = 12, 4
"""Input neurons for the angle of the signal, and for its strength."""
SHARPNESS = 2.0
"""κ of the tuning to a direction, exp(κ (cos Δ - 1))."""
FOLLOW = 0.05
"""The share of a new reward in the reward that is expected from then on."""


class SpikingBrain:
    """Input neurons → `hidden_size` hidden ones → one for each action.

    Each input neuron has a direction or a strength that it prefers, and fires at random at a rate
    from `min_rate` to `max_rate`, faster the nearer the signal is to it. After
    `simulation_duration` the action is drawn from the softmax π of how often each output neuron
    fired.

    Learning has three factors (Frémaux & Gerstner, 2016, doi:10.3389/fncir.2015.00085): the timing
    of spikes leaves a trace at a synapse (`Stdp`), and reward turns the trace into a change,
    `learning_rate` · `reward_scaling` · (reward - expected reward) · trace · attention. Without the
    expected reward STDP would drift (Frémaux et al., 2010, doi:10.1523/JNEUROSCI.6249-09.2010).
    Attention is the part of a neuron in the choice (Roelfsema & van Ooyen, 2005,
    doi:10.1162/0899766054615699): 1 - π for the output neuron that was chosen, -π for the others,
    and for a hidden neuron the sum of these over its own synapses.
    """

    name = "spiking"
    family = "classical"

    def __init__(self, section: SpikingSection) -> None:
        self._section = section
        self._duration = duration(section)
        self._hidden = Neurons(section, section.hidden_size)
        self._outputs = Neurons(section, len(ACTIONS))
        self._stdp = Stdp(section)
        self._preferred = [2 * pi * i / DIRECTIONS for i in range(DIRECTIONS)]

    def reset(self, seed: np.random.SeedSequence) -> None:
        """Forget everything; weights normal with `weight_mean`, `weight_std`, then clipped."""
        section = self._section
        self._rng = np.random.Generator(np.random.PCG64(seed))
        sizes = (DIRECTIONS + LEVELS, section.hidden_size, len(ACTIONS))
        self.into, self.out = (
            self._rng.normal(section.weight_mean, section.weight_std, shape).astype(np.float32)
            for shape in (sizes[:2], sizes[1:])
        )
        self._clip()
        self._expected = 0.0

    def _clip(self) -> None:
        bound = np.float32(self._section.weight_clip)
        for weights in (self.into, self.out):
            np.clip(weights, -bound, bound, out=weights)

    def begin(self) -> None:
        """An episode is about to start."""
        self._steps = 0
        self._fired = self._entropy = 0.0

    def rates(self, strength: float, angle: float) -> list[float]:
        """How fast each input neuron fires, in Hz: those of a direction, those of a strength."""
        level = min(max(strength, 0.0), 1.0) * (LEVELS - 1)
        tuned = [exp(SHARPNESS * (cos(angle - p) - 1)) for p in self._preferred]
        tuned += [max(0.0, 1 - abs(level - i)) for i in range(LEVELS)]
        least = self._section.min_rate
        span = self._section.max_rate - least
        return [least + span * value for value in tuned]

    def act(self, strength: float, angle: float) -> int:
        """Simulate a decision; the action is drawn from the spike counts of the outputs."""
        chances = np.array(self.rates(strength, angle)) * (self._section.time_step / 1000)
        drawn = self._rng.random((self._duration, len(chances)), np.float32) < chances
        moments = np.flatnonzero(drawn.any(1))
        inputs = drawn[moments].astype(np.float32)
        hidden = self._hidden.fire(moments, inputs @ self.into)
        outputs = self._outputs.fire(moments, hidden @ self.out)
        counts = outputs.sum(0).tolist()
        top = max(counts)
        weights = [exp(count - top) for count in counts]
        total = sum(weights)
        policy = [weight / total for weight in weights]
        left = self._rng.random() * total
        action = 0
        while action < len(ACTIONS) - 1 and left >= weights[action]:
            left -= weights[action]
            action += 1
        self._trains = moments, inputs, hidden, outputs
        self._attention = np.array([-p for p in policy], np.float32)
        self._attention[action] += 1
        self._steps += 1
        self._fired += float(hidden.sum())
        self._entropy -= sum([p * log(p) for p in policy if p])
        return action

    def learn(self, reward: float, done: bool) -> None:
        """Turn the traces of the last decision into changes of the weights."""
        section = self._section
        surprise = section.reward_scaling * (reward - self._expected)
        self._expected += FOLLOW * (reward - self._expected)
        moments, inputs, hidden, outputs = self._trains
        window = self._stdp.window(moments)
        gain = np.float32(section.learning_rate * surprise) * self._attention
        back = self.out @ gain
        self.out += (hidden.T @ (window @ outputs)) * gain
        self.into += (inputs.T @ (window @ hidden)) * back
        self._clip()

    def cost(self) -> Mapping[str, int]:
        """The weights that it learns."""
        return {"parameters": self.into.size + self.out.size}

    def end(self) -> Mapping[str, float]:
        """`hidden_rate` of a hidden neuron in Hz, and `entropy` of the policy in nats, both means
        over the episode.
        """
        if not self._steps:
            return {}
        section = self._section
        seconds = self._steps * self._duration * section.time_step / 1000
        return {
            "hidden_rate": self._fired / section.hidden_size / seconds,
            "entropy": self._entropy / self._steps,
        }
