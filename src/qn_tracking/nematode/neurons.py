"""Spiking neurons and the plasticity of their synapses, in NumPy.

Time is counted in steps of `time_step`. Between two spikes that reach it a potential only decays
towards rest, so moments at which no spike arrives are skipped.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qn_tracking.nematode.schema import SpikingSection

Floats = npt.NDArray[np.float32]
Moments = npt.NDArray[np.intp]


def duration(section: SpikingSection) -> int:
    """Time steps of one decision."""
    return round(section.simulation_duration / section.time_step)


class Neurons:
    """A layer of leaky integrate-and-fire neurons, at rest before every decision.

    τ_m dv/dt = v_rest - v, solved exactly from step to step; incoming charge is added to v; at
    `v_threshold` or above a neuron fires, and v becomes `v_reset` (Gerstner et al., 2014, Neuronal
    Dynamics, §1.3). There is no refractory time but the step itself.
    """

    def __init__(self, section: SpikingSection, size: int) -> None:
        gaps = np.arange(duration(section)) * section.time_step
        self._decays = np.exp(-gaps / section.tau_m).astype(np.float32)
        # Potentials are counted from rest.
        self._threshold = np.float32(section.v_threshold - section.v_rest)
        self._reset = np.float32(section.v_reset - section.v_rest)
        self._potentials = np.empty(size, np.float32)

    def fire(self, moments: Moments, charges: Floats) -> Floats:
        """Which neuron fires when: 1 or 0, (moments, neurons).

        `charges`, of the same shape, is what arrives at each of these ascending steps. Nothing
        arrives at other steps.
        """
        fired = np.empty(charges.shape, np.bool_)
        v, threshold, reset = self._potentials, self._threshold, self._reset
        v.fill(0)
        reaches, put = np.greater_equal, np.putmask
        decays = self._decays[np.diff(moments, prepend=0)]
        for decay, charge, row in zip(decays, charges, fired, strict=True):
            v *= decay
            v += charge
            reaches(v, threshold, row)
            put(v, row, reset)
        return fired.astype(np.float32)


class Stdp:
    """Spike-timing-dependent plasticity: the trace that a pair of spikes leaves at a synapse.

    Every pair of a spike before the synapse and one after it counts: + a_plus · exp(-Δ / tau_plus)
    if the second came Δ ≥ 0 later, -a_minus · exp(-Δ / tau_minus) if it came Δ > 0 earlier
    (Song et al., 2000, doi:10.1038/78829).
    """

    def __init__(self, section: SpikingSection) -> None:
        steps = np.arange(duration(section))
        lag = (steps - steps[:, None]) * section.time_step
        early, late = np.minimum(lag, 0), np.maximum(lag, 0)
        window = np.where(
            lag >= 0,
            section.a_plus * np.exp(-late / section.tau_plus),
            -section.a_minus * np.exp(early / section.tau_minus),
        )
        self._window = window.astype(np.float32)

    def window(self, moments: Moments) -> Floats:
        """The trace of a pair of spikes, (moment before the synapse, moment after it)."""
        traces: Floats = self._window[moments[:, None], moments]
        return traces
