"""The parts of the brains that learn from memory, and of the one that spikes, each against what it
should be by an independent way.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings, strategies as st

from qn_tracking.nematode.circuit import Circuit
from qn_tracking.nematode.circuits import Circuits
from qn_tracking.nematode.neurons import Neurons, Stdp
from qn_tracking.nematode.qlearning import QLearner
from qn_tracking.nematode.qmlp import QmlpBrain
from qn_tracking.nematode.qmodular import GAMMA, QmodularBrain
from qn_tracking.nematode.replay import Replay
from qn_tracking.nematode.schema import (
    InitializerSection,
    QmlpSection,
    QmodularSection,
    RateParameters,
    RateSection,
    SpikingSection,
)
from qn_tracking.nematode.spiking import DIRECTIONS, SpikingBrain

Array = npt.NDArray[Any]


def qmlp(**fields: Any) -> QmlpBrain:
    section = {"hidden_dim": 6, "batch_size": 8, "buffer_size": 50, "epsilon": 0.5, **fields}
    return QmlpBrain(QmlpSection(**section))


def qmodular(
    *, shots: int = 1000, rate: float = 0.01, kind: Any = "random_pi", **fields: Any
) -> QmodularBrain:
    return QmodularBrain(
        QmodularSection(**{"batch_size": 8, "buffer_size": 50, **fields}),
        shots=shots,
        rate=RateSection(parameters=RateParameters(initial_learning_rate=rate, min_lr=rate)),
        gradient="raw",
        initializer=InitializerSection(type=kind),
    )


def live(brain: Any, steps: int, *, seed: int = 0, episode: int = 7) -> None:
    """Let it act and learn in a world without sense, in episodes of so many steps."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        if step % episode == 0:
            brain.begin()
        brain.act(float(rng.random()), float(rng.uniform(-math.pi, math.pi)))
        brain.learn(float(rng.normal()), (step + 1) % episode == 0)


def born(brain: Any, seed: int = 1) -> Any:
    brain.reset(np.random.SeedSequence(seed))
    return brain


# ------------------------------------------------------------------------------------------- replay


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=60),
    st.integers(0, 2**32),
)
@settings(max_examples=100, deadline=None)
def test_what_is_drawn_was_so_and_is_recent(
    capacity: int, steps: list[tuple[int, bool]], seed: int
) -> None:
    replay = Replay(capacity, 1, 40)
    rng = np.random.default_rng(seed)
    known: list[tuple[int, int, bool]] = []
    for number, (action, done) in enumerate(steps):
        replay.see(number)
        replay.keep(action, -number, done)
        known.append((number, action, done))
        # The successor of the last step is not known before it has been seen.
        ready = known if done else known[:-1]
        assert len(replay) == min(capacity, len(ready))
        if not ready:
            continue
        replay.draw(rng)
        recent = {number: (action, done) for number, action, done in ready[-capacity:]}
        for row in range(40):
            number = int(replay.states[row, 0])
            action, done = recent[number]
            assert (replay.actions[row], replay.rewards[row]) == (action, -number)
            assert replay.alive[row] == (not done)
            assert done or replay.nexts[row, 0] == number + 1


def test_every_step_is_drawn_equally_often() -> None:
    replay = Replay(10, 1, 1000)
    for number in range(25):
        replay.see(number)
        replay.keep(0, 0.0, number == 24)
    rng = np.random.default_rng(0)
    counts = np.zeros(25)
    for _ in range(20):
        replay.draw(rng)
        np.add.at(counts, replay.states[:, 0].astype(int), 1)
    assert not counts[:15].any()
    assert counts[15:] == pytest.approx(np.full(10, 2000), abs=6 * math.sqrt(1800))


# --------------------------------------------------------------------------------------- Q-learning

LEARNERS = {"qmlp": qmlp, "qmodular": qmodular}
learners = pytest.mark.parametrize("name", LEARNERS)


def parameters(brain: QLearner) -> tuple[list[Array], list[Array]]:
    """Copies of what has been learned, and of the target."""
    if isinstance(brain, QmlpBrain):
        both = brain.weights.layers, brain.target.layers
    else:
        assert isinstance(brain, QmodularBrain)
        both = [brain.angles, brain.weights], list(brain.target)
    now, target = ([part.copy() for part in parts] for parts in both)
    return now, target


def same(one: list[Array], other: list[Array]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@learners
def test_the_target_is_copied_every_so_many_updates(name: str) -> None:
    brain = born(LEARNERS[name](target_update_freq=3, batch_size=4))
    brain.begin()
    updates = 0
    first = held = parameters(brain)[1]
    for step in range(20):
        brain.act(0.1 * (step % 7), 0.3 * (step % 5))
        brain.learn(1.0, False)
        now, target = parameters(brain)
        # The state after the newest step is seen with the next one only.
        if step < 4:
            assert same(now, first)
        else:
            updates += 1
            assert not same(now, held)
            if updates % 3 == 0:
                held = now
        assert same(target, held)
    assert updates == 16


@learners
def test_epsilon_falls_with_each_update_to_its_least(name: str) -> None:
    least = {"epsilon_min" if name == "qmlp" else "min_epsilon": 0.2}
    brain = born(LEARNERS[name](epsilon_decay=0.9, batch_size=5, **least))
    first = 0.5 if name == "qmlp" else 1.0
    # The newest step cannot be drawn before its successor is seen: four are not enough.
    live(brain, 5)
    assert brain.end()["epsilon"] == first
    live(brain, 3)
    assert brain.end()["epsilon"] == pytest.approx(first * 0.9**3)
    live(brain, 50)
    assert brain.end()["epsilon"] == 0.2


@pytest.mark.parametrize(
    ("brain", "random"),
    [(qmlp(epsilon=1.0), True), (qmlp(epsilon=0.0), False), (qmodular(kind="zero"), True)],
    ids=["qmlp-1", "qmlp-0", "qmodular-1"],
)
def test_epsilon_is_the_share_of_random_actions(brain: Any, random: bool) -> None:
    born(brain).begin()
    counts = np.bincount([brain.act(0.4, 0.2) for _ in range(4000)], minlength=4)
    if random:
        assert counts == pytest.approx(np.full(4, 1000), abs=6 * math.sqrt(750))
    else:
        values = brain.values(0.4, 0.2)
        assert counts[values.index(max(values))] == 4000


def test_without_exploring_qmodular_takes_the_most_valuable_action() -> None:
    brain = born(qmodular(shots=10**6))
    brain.begin()
    brain.epsilon = 0.0
    clear = 0
    for k in range(20):
        strength, angle = k / 20, k / 7 - 1.4
        inputs = brain.angles + np.tile(
            np.repeat([strength * math.pi - math.pi / 2, angle / 2, 0], 2), 2
        )
        values = brain.weights @ Circuit(2, 2).run(inputs.tolist())
        action = brain.act(strength, angle)
        second, best = sorted(values)[-2:]
        if best - second > 0.01:
            assert action == values.argmax()
            clear += 1
    assert clear > 10


def reference(layers: list[Array], state: Array) -> Array:
    """A network in the plainest way."""
    x = state
    for i, weights in enumerate(layers):
        x = weights[:, :-1] @ x + weights[:, -1]
        if i < len(layers) - 1:
            x = np.maximum(x, 0)
    return x


@pytest.mark.parametrize("layers", [1, 3])
def test_the_slope_of_qmlp_agrees_with_finite_differences(layers: int) -> None:
    brain = born(qmlp(num_hidden_layers=layers, gamma=0.8, target_update_freq=40))
    live(brain, 70, episode=3)
    brain.replay.draw(np.random.default_rng(3))
    replay = brain.replay
    assert set(replay.alive) == {0, 1}

    weights, target = ([w.astype(float) for w in part] for part in parameters(brain))

    def loss() -> float:
        total = 0.0
        for k, action in enumerate(replay.actions):
            ahead = reference(target, replay.nexts[k, :2].astype(float)).max()
            wanted = replay.rewards[k] + 0.8 * ahead * replay.alive[k]
            value = reference(weights, replay.states[k, :2].astype(float))[action]
            total += (wanted - value) ** 2
        return total / len(replay.actions)

    assert brain.slope() == pytest.approx(loss(), rel=1e-4)
    for part, slopes in zip(weights, brain.weights.slopes, strict=True):
        for index in np.ndindex(part.shape):
            middle = part[index]
            sides = []
            for part[index] in (middle + 1e-6, middle - 1e-6):
                sides.append(loss())
            part[index] = middle
            assert slopes[index] == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=1e-4)


def test_the_states_of_qmlp_are_those_it_saw() -> None:
    """Its values for one state are those of the plain network there."""
    brain = born(qmlp())
    live(brain, 30)
    layers = parameters(brain)[0]
    for strength, angle in ((0.0, 0.0), (0.7, -3.0), (0.3, 2.0)):
        plain = reference(layers, np.array([strength, angle / math.pi], np.float32))
        assert brain.values(strength, angle) == pytest.approx(plain.tolist(), abs=1e-5)


SHAPES = [(1, 1), (2, 2), (3, 2), (4, 1)]


@pytest.mark.parametrize(("qubits", "layers"), SHAPES)
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_many_circuits_are_each_as_one(qubits: int, layers: int, seed: int, sets: int) -> None:
    size = 3 * qubits * layers
    angles = np.random.default_rng(seed).uniform(-7, 7, (size, sets))
    many, one = Circuits(qubits, layers), Circuit(qubits, layers)
    probabilities = many.run(angles)
    for count in {1, sets}:
        plus, minus = many.shifted(count)
        assert plus.shape == minus.shape == (size, 1 << qubits, count)
        for k in range(count):
            alone = one.run(angles[:, k].tolist())
            assert probabilities[:, k] == pytest.approx(np.array(alone), abs=1e-12)
            for string in range(1 << qubits):
                up, down = one.shifted([string])
                assert plus[:, string, k] == pytest.approx(np.array(up), abs=1e-12)
                assert minus[:, string, k] == pytest.approx(np.array(down), abs=1e-12)


@pytest.mark.parametrize(
    "modules",
    [{"chemotaxis": (0, 1)}, {"chemotaxis": (2, 0), "action": (1,)}],
    ids=["2-qubits", "3-qubits"],
)
def test_the_slope_of_qmodular_agrees_with_finite_differences_of_exact_values(
    modules: dict[str, tuple[int, ...]],
) -> None:
    """With so many shots that a frequency is a probability."""
    brain = born(qmodular(modules=modules, shots=10**9, rate=0.05, target_update_freq=40))
    live(brain, 70, episode=3)
    brain.replay.draw(np.random.default_rng(3))
    replay = brain.replay
    assert set(replay.alive) == {0, 1}
    (angles, weights), target = parameters(brain)
    circuit = Circuit(sum(map(len, modules.values())), 2)

    def values(angles: Array, weights: Array, state: Array) -> Array:
        found: Array = weights @ circuit.run((angles + np.tile(state, 2)).tolist())
        return found

    def loss() -> float:
        total = 0.0
        for k, action in enumerate(replay.actions):
            ahead = values(target[0], target[1], replay.nexts[k]).max()
            wanted = replay.rewards[k] + GAMMA * ahead * replay.alive[k]
            total += (wanted - values(angles, weights, replay.states[k])[action]) ** 2
        return total / len(replay.actions)

    found, *slopes = brain.slope()
    assert found == pytest.approx(loss(), rel=1e-3)
    for part, slope in zip((angles, weights), slopes, strict=True):
        assert np.abs(slope).max() > 0.05
        for index in np.ndindex(part.shape):
            middle = part[index]
            sides = []
            for part[index] in (middle + 1e-5, middle - 1e-5):
                sides.append(loss())
            part[index] = middle
            assert slope[index] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-3)


def test_an_update_of_qmodular_goes_downhill() -> None:
    brain = born(qmodular(shots=10**7, rate=0.002))
    live(brain, 60)
    brain.replay.draw(np.random.default_rng(0))
    losses = [brain.update() for _ in range(60)]
    assert losses[-1] < 0.9 * losses[0]


# ------------------------------------------------------------------------------------------ spiking


def spiking(**fields: Any) -> SpikingSection:
    return SpikingSection(**{"hidden_size": 16, "tau_m": 25.0, "v_threshold": 1.2, **fields})


@given(
    tau=st.floats(2, 60),
    step=st.sampled_from([0.25, 0.5, 1.0]),
    rest=st.floats(-70, 1),
    threshold=st.floats(0.5, 20),
    reset=st.floats(-5, 0.4),
    over=st.floats(1.2, 5),
)
@settings(max_examples=200, deadline=None)
def test_under_a_constant_current_the_intervals_are_those_of_the_closed_form(
    tau: float, step: float, rest: float, threshold: float, reset: float, over: float
) -> None:
    """From v towards v + I: T = τ ln((I - reset) / (I - threshold)), all counted from rest."""
    section = spiking(
        tau_m=tau,
        time_step=step,
        simulation_duration=1000 * step,
        v_rest=rest,
        v_threshold=rest + threshold,
        v_reset=rest + reset,
    )
    current = over * threshold
    intervals = [
        tau / step * math.log((current - start) / (current - threshold)) for start in (0.0, reset)
    ]
    # Spikes are seen at whole steps: not where rounding decides which.
    assume(all(0.05 < interval % 1 < 0.95 for interval in intervals))
    moments = np.arange(1000)
    charges = np.full((1000, 3), current * (1 - math.exp(-step / tau)), np.float32)
    fired = Neurons(section, 3).fire(moments, charges)
    first, later = (math.ceil(interval) for interval in intervals)
    expected = list(range(first - 1, 1000, later))
    for neuron in range(3):
        assert np.flatnonzero(fired[:, neuron]).tolist() == expected


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_moments_at_which_nothing_arrives_may_be_left_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    charges = rng.normal(0.3, 0.5, (100, 5)).astype(np.float32)
    arrives = rng.random(100) < 0.3
    charges[~arrives] = 0
    neurons = Neurons(spiking(), 5)
    whole = neurons.fire(np.arange(100), charges)
    assert not whole[~arrives].any()
    moments = np.flatnonzero(arrives)
    # A potential that decays in one go or in steps may differ in its last digit.
    part = neurons.fire(moments, charges[arrives])
    assert np.mean(part == whole[arrives]) > 0.98


def test_a_spike_before_the_synapse_and_one_behind_it_mark_it_by_their_order() -> None:
    section = spiking(tau_plus=10.0, tau_minus=30.0, a_plus=0.5, a_minus=0.2, time_step=2.0)
    moments = np.array([0, 5, 7])
    marks = Stdp(section).window(moments)
    assert marks.diagonal() == pytest.approx([0.5] * 3)
    for before, behind in ((0, 1), (0, 2), (1, 2)):
        gap = 2.0 * (moments[behind] - moments[before])
        assert marks[before, behind] == pytest.approx(0.5 * math.exp(-gap / 10))
        assert marks[behind, before] == pytest.approx(-0.2 * math.exp(-gap / 30))


def changes(reward: float, **fields: Any) -> tuple[int, Array, Array]:
    """The action of one decision, and what its reward made of the output and input synapses."""
    brain = born(SpikingBrain(spiking(weight_mean=0.3, weight_clip=9.0, **fields)))
    brain.begin()
    action = brain.act(0.5, 0.3)
    out, into = brain.out.copy(), brain.into.copy()
    brain.learn(reward, False)
    return action, brain.out - out, brain.into - into


@pytest.mark.parametrize("reward", [2.0, -2.0])
@pytest.mark.parametrize(
    ("order", "sign"), [({"a_minus": 0.0}, 1), ({"a_plus": 0.0}, -1)], ids=["before", "behind"]
)
def test_reward_turns_marks_into_changes(order: dict[str, float], sign: int, reward: float) -> None:
    """With a_minus 0 only spikes before those behind count, and potentiate if reward is good."""
    action, out, into = changes(reward, learning_rate=0.01, **order)
    chosen = out[:, action] * sign * reward
    others = np.delete(out, action, 1) * sign * reward
    assert chosen.min() >= 0 >= others.max()
    assert chosen.max() > 0 > others.min()
    assert np.abs(into).max() > 0


def test_what_was_expected_changes_nothing() -> None:
    _, out, into = changes(0.0)
    assert not out.any()
    assert not into.any()
    brain = born(SpikingBrain(spiking(weight_mean=0.3, learning_rate=0.01)))
    brain.begin()
    sizes = []
    for _ in range(400):
        before = brain.out.copy()
        brain.act(0.5, 0.3)
        brain.learn(1.0, False)
        sizes.append(float(np.abs(brain.out - before).sum()))
    assert sum(sizes[-20:]) < 1e-3 * sum(sizes[:20])


def test_weights_start_as_told_and_stay_within_the_clip() -> None:
    section = {"weight_mean": 0.2, "weight_std": 0.1, "weight_clip": 0.3, "learning_rate": 1.0}
    brain = born(SpikingBrain(spiking(hidden_size=800, **section)))
    inside = brain.out[np.abs(brain.out) < 0.3]
    assert 0.75 < inside.size / brain.out.size < 0.9
    assert np.median(brain.out) == pytest.approx(0.2, abs=0.01)
    live(brain, 10)
    for weights in (brain.into, brain.out):
        assert np.abs(weights).max() == np.float32(0.3)


@given(st.floats(-0.5, 1.5), st.floats(-math.pi, math.pi))
def test_inputs_fire_the_faster_the_nearer_to_what_they_prefer(
    strength: float, angle: float
) -> None:
    brain = SpikingBrain(spiking(min_rate=5.0, max_rate=90.0))
    rates = brain.rates(strength, angle)
    assert all(5 <= rate <= 90 for rate in rates)
    directions, levels = rates[:DIRECTIONS], rates[DIRECTIONS:]
    away = [math.cos(angle - 2 * math.pi * i / DIRECTIONS) for i in range(DIRECTIONS)]
    assert (
        np.argsort(directions).tolist() == np.argsort(away).tolist()
        or min(np.diff(sorted(away))) < 1e-9
    )
    distances = [abs(min(max(strength, 0), 1) - i / (len(levels) - 1)) for i in range(len(levels))]
    assert levels[int(np.argmin(distances))] == max(levels)
    assert brain.rates(strength, angle + 2 * math.pi) == pytest.approx(rates)


def test_a_silent_network_chooses_at_random() -> None:
    brain = born(SpikingBrain(spiking(max_rate=0.0)))
    brain.begin()
    counts = np.bincount([brain.act(0.4, 0.2) for _ in range(2000)], minlength=4)
    assert counts == pytest.approx(np.full(4, 500), abs=6 * math.sqrt(375))
    brain.learn(1.0, True)
    assert brain.end() == {"hidden_rate": 0.0, "entropy": pytest.approx(math.log(4))}


def test_the_action_is_drawn_from_the_spike_counts() -> None:
    """An output that nothing reaches but strong synapses fires most, and wins most."""
    brain = born(SpikingBrain(spiking(weight_mean=0.4)))
    brain.begin()
    brain.out[:, [0, 1, 3]] = -1
    brain.out[:, 2] = 1
    assert {brain.act(0.4, 0.2) for _ in range(50)} == {2}
    rate = brain.end()["hidden_rate"]
    assert 0 < rate < 1000


def test_inputs_fire_at_their_rates() -> None:
    """Seen from behind synapses that are so strong that each spike makes another."""
    brain = born(SpikingBrain(spiking(weight_mean=5.0, weight_std=0.0, weight_clip=9.0)))
    brain.begin()
    for _ in range(100):
        brain.act(0.4, 0.2)
    silent = math.prod(1 - rate / 1000 for rate in brain.rates(0.4, 0.2))
    assert 0.2 < 1 - silent < 0.8
    assert brain.end()["hidden_rate"] == pytest.approx(1000 * (1 - silent), rel=0.05)
