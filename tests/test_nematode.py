"""The built-in simulation, through its public doors: hooks, environments, brains, episodes."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import pluggy
import pytest
from hypothesis import assume, given, settings, strategies as st

from qn_tracking import config as configuration
from qn_tracking.errors import ConfigError
from qn_tracking.nematode.brains import FACTORIES
from qn_tracking.nematode.circuit import Circuit, parameter_names
from qn_tracking.nematode.mlp import MlpBrain
from qn_tracking.nematode.modular import ModularBrain
from qn_tracking.nematode.plugin import Nematode
from qn_tracking.nematode.qmlp import QmlpBrain
from qn_tracking.nematode.qmodular import QmodularBrain
from qn_tracking.nematode.schedules import Adam, ByPerformance, Decay, make_optimiser
from qn_tracking.nematode.schema import (
    DynamicSection,
    InitializerSection,
    MlpSection,
    ModularSection,
    QmlpSection,
    QmodularSection,
    RateParameters,
    RateSection,
    RewardSection,
    SatietySection,
    SpikingSection,
)
from qn_tracking.nematode.simulation import NematodeSimulation
from qn_tracking.nematode.spiking import SpikingBrain
from qn_tracking.nematode.world import (
    FORWARD,
    LEFT,
    RIGHT,
    STAY,
    STEPS,
    TURNS,
    UP,
    DynamicEnvironment,
    Outcome,
    StaticEnvironment,
    Worm,
    relative,
)
from qn_tracking.tracking import hookspecs

STATIC: dict[str, Any] = {
    "max_steps": 60,
    "body_length": 2,
    "environment": {"type": "static", "static": {"grid_size": 7}},
    "brain": {"name": "mlp", "config": {"hidden_dim": 8}},
}
DYNAMIC: dict[str, Any] = {
    **STATIC,
    "environment": {
        "type": "dynamic",
        "dynamic": {
            "grid_size": 12,
            "num_initial_foods": 3,
            "max_active_foods": 5,
            "min_food_distance": 2,
            "agent_exclusion_radius": 2,
        },
    },
}
MODULAR: dict[str, Any] = {**STATIC, "brain": {"name": "modular"}, "shots": 50, "qubits": 2}
QMODULAR: dict[str, Any] = {**MODULAR, "brain": {"name": "qmodular"}}
QMLP: dict[str, Any] = {**STATIC, "brain": {"name": "qmlp", "config": {"hidden_dim": 8}}}
SPIKING: dict[str, Any] = {**STATIC, "brain": {"name": "spiking", "config": {"hidden_size": 8}}}
NOTHING = RewardSection(
    reward_goal=0,
    reward_distance_scale=0,
    reward_exploration=0,
    penalty_step=0,
    penalty_anti_dithering=0,
    penalty_stuck_position=0,
    penalty_starvation=0,
)


def build(data: Mapping[str, Any], *plugins: object) -> NematodeSimulation:
    """The simulation of a configuration, by the hooks as the runner calls them."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for plugin in (Nematode(), *plugins):
        manager.register(plugin)
    made = manager.hook.make_simulation(config=configuration.from_mapping(data), hook=manager.hook)
    assert isinstance(made, NematodeSimulation)
    return made


def changed(data: Mapping[str, Any], field: str, value: Any) -> dict[str, Any]:
    """A copy of a configuration with one dotted field set."""
    copy = deepcopy(dict(data))
    *path, last = field.split(".")
    section = copy
    for key in path:
        section = section.setdefault(key, {})
    section[last] = value
    return copy


def static(
    reward: RewardSection = NOTHING, size: int = 7, max_steps: int = 60
) -> StaticEnvironment:
    """A static environment."""
    return StaticEnvironment(size, max_steps=max_steps, body_length=2, reward=reward)


def dynamic(
    reward: RewardSection = NOTHING, *, max_steps: int = 400, satiety: float = 1e9, **fields: Any
) -> DynamicEnvironment:
    """A dynamic environment; hungerless unless told otherwise."""
    section = {**DYNAMIC["environment"]["dynamic"], **fields}
    return DynamicEnvironment(
        DynamicSection(**section),
        max_steps=max_steps,
        body_length=2,
        reward=reward,
        satiety=SatietySection(initial_satiety=satiety),
    )


def homing(environment: DynamicEnvironment | StaticEnvironment, x: int, y: int) -> int:
    """The action that goes toward a cell by the shorter way around."""
    worm = environment.worm
    angle = relative(math.atan2(y - worm.y, x - worm.x), worm.facing)
    if abs(angle) < math.pi / 4 + 1e-9:
        return FORWARD
    return LEFT if angle > 0 else RIGHT


# -------------------------------------------------------------------------------------- the worm

actions = st.lists(st.integers(0, 3), max_size=200)


@given(actions, st.integers(5, 9), st.integers(0, 8))
def test_a_worm_never_leaves_the_grid_nor_enters_its_body(
    moves: list[int], size: int, length: int
) -> None:
    worm = Worm(size, (1, 1), length)
    path = [(1, 1)]
    for action in moves:
        body, facing = list(worm.body), worm.facing
        moved = worm.move(action)
        head = (worm.x, worm.y)
        assert 0 <= worm.x < size
        assert 0 <= worm.y < size
        if moved:
            assert head not in body
            assert worm.facing == (facing + TURNS[action]) % 4
            assert (
                path[-1][0] + STEPS[worm.facing][0],
                path[-1][1] + STEPS[worm.facing][1],
            ) == head
            path.append(head)
        else:
            assert head == path[-1]
            assert worm.facing == facing
            assert worm.body == body
        assert len(worm.body) == length
        trail = path[-2 : -2 - length : -1]
        assert worm.body[: len(trail)] == trail


@pytest.mark.parametrize(
    ("action", "cell", "facing"),
    [(FORWARD, (3, 4), UP), (LEFT, (2, 3), 2), (RIGHT, (4, 3), 0), (STAY, (3, 3), UP)],
)
def test_a_turn_also_moves(action: int, cell: tuple[int, int], facing: int) -> None:
    worm = Worm(7, (3, 3), 2)
    assert worm.move(action) is (action != STAY)
    assert ((worm.x, worm.y), worm.facing) == (cell, facing)


def test_a_blocked_worm_keeps_its_facing() -> None:
    worm = Worm(5, (0, 0), 2)
    assert not worm.move(LEFT)
    assert ((worm.x, worm.y), worm.facing) == ((0, 0), UP)


def test_a_long_worm_cannot_bite_itself() -> None:
    worm = Worm(9, (4, 4), 4)
    assert all(worm.move(action) for action in (FORWARD, LEFT, LEFT))
    assert not worm.move(LEFT)


@given(st.floats(-math.pi, math.pi), st.integers(0, 3))
def test_a_relative_angle_is_within_half_a_turn(direction: float, facing: int) -> None:
    angle = relative(direction, facing)
    assert -math.pi <= angle <= math.pi
    assert math.cos(angle + facing * math.pi / 2) == pytest.approx(math.cos(direction), abs=1e-9)


# ------------------------------------------------------------------------------ static environment


@given(st.integers(0, 2**53 - 1), st.integers(5, 30))
def test_the_goal_is_the_opposite_inner_corner(seed: int, size: int) -> None:
    environment = static(size=size)
    strength, angle = environment.begin(seed)
    worm = environment.worm
    assert {worm.x, worm.y} <= {1, size - 2}
    distance = 2 * (size - 3)
    assert strength == pytest.approx(math.tanh(1 - distance / (2 * size)))
    # The goal is diagonally ahead or diagonally behind, on the side where there is room.
    ahead = math.pi / 4 if worm.y == 1 else 3 * math.pi / 4
    assert angle == pytest.approx(-ahead if worm.x == 1 else ahead)


def test_all_four_corners_occur() -> None:
    environment = static()
    starts = set()
    for seed in range(40):
        environment.begin(seed)
        starts.add((environment.worm.x, environment.worm.y))
    assert len(starts) == 4


@given(st.integers(0, 2**53 - 1), actions)
def test_distance_rewards_telescope(seed: int, moves: list[int]) -> None:
    from attrs import evolve

    environment = static(evolve(NOTHING, reward_distance_scale=0.5))
    environment.begin(seed)
    worm = environment.worm
    goal = (6 - worm.x, 6 - worm.y)
    start = abs(worm.x - goal[0]) + abs(worm.y - goal[1])
    total = 0.0
    for action in moves:
        _, _, reward, over = environment.step(action)
        total += reward
        if over:
            break
    end = abs(worm.x - goal[0]) + abs(worm.y - goal[1])
    assert total == pytest.approx(0.5 * (start - end))


def test_the_shortest_path_is_efficient_and_earns_the_bonus_of_its_step() -> None:
    from attrs import evolve

    environment = static(evolve(NOTHING, reward_goal=2.0), max_steps=40)
    for seed in range(8):
        environment.begin(seed)
        x, y = 6 - environment.worm.x, 6 - environment.worm.y
        over, steps, reward = None, 0, 0.0
        while over is None:
            _, _, reward, over = environment.step(homing(environment, x, y))
            steps += 1
        assert (over, steps) == ("goal_reached", 8)
        assert reward == pytest.approx(2.0 * (1 - 8 / 40))
        outcome = environment.end()
        assert outcome == Outcome(
            success=True, metrics={"shortest_steps": 8.0, "path_efficiency": 1.0}
        )


def test_max_steps_is_no_success() -> None:
    environment = static(max_steps=3)
    environment.begin(0)
    assert [environment.step(STAY)[3] for _ in range(3)] == [None, None, "max_steps"]
    assert environment.end() == Outcome(
        success=False, metrics={"shortest_steps": 8.0, "path_efficiency": 0.0}
    )


def test_penalties_for_steps_dithering_and_being_stuck() -> None:
    from attrs import evolve

    step = static(evolve(NOTHING, penalty_step=0.25))
    step.begin(0)
    assert step.step(FORWARD)[2] == -0.25

    dither = static(evolve(NOTHING, penalty_anti_dithering=1.0))
    dither.begin(0)
    # A square takes four moves, back on the first cell: the one of two steps ago is never met.
    assert [dither.step(STAY)[2] for _ in range(3)] == [0, -1, -1]

    stuck = static(evolve(NOTHING, penalty_stuck_position=0.5, stuck_position_threshold=2))
    stuck.begin(0)
    rewards = [stuck.step(STAY)[2] for _ in range(14)]
    assert rewards == [0, 0, -0.5, -1, -1.5, -2, -2.5, -3, -3.5, -4, -4.5, -5, -5, -5]


# ----------------------------------------------------------------------------- dynamic environment


@given(st.integers(0, 2**53 - 1))
def test_foods_keep_their_distances(seed: int) -> None:
    environment = dynamic(num_initial_foods=5, min_food_distance=3, agent_exclusion_radius=4)
    environment.begin(seed)
    foods = environment.foods
    assert 1 <= len(foods) <= 5
    for i, food in enumerate(foods):
        assert math.dist(food, (6, 6)) >= 4
        assert all(0 <= part < 12 for part in food)
        assert all(math.dist(food, other) >= 3 for other in foods[:i])


def test_a_crowded_grid_takes_what_fits_and_can_still_be_finished() -> None:
    environment = dynamic(
        grid_size=5, num_initial_foods=9, max_active_foods=9, agent_exclusion_radius=2
    )
    environment.begin(1)
    over = None
    while over is None:
        x, y = min(
            environment.foods,
            key=lambda f: abs(f[0] - environment.worm.x) + abs(f[1] - environment.worm.y),
        )
        over = environment.step(homing(environment, x, y))[3]
    assert over == "completed_all_food"
    assert environment.end().counts == {"foods_collected": 9, "foods_offered": 9}


@given(st.integers(0, 2**53 - 1), actions)
@settings(max_examples=50)
def test_the_signal_is_the_sum_of_the_foods(seed: int, moves: list[int]) -> None:
    environment = dynamic(gradient_decay_constant=4.0, gradient_strength=2.0)
    strength, angle = environment.begin(seed)
    for action in [*moves, None]:
        worm = environment.worm
        east = north = 0.0
        for x, y in environment.foods:
            distance = math.dist((x, y), (worm.x, worm.y))
            if distance:
                pull = 2.0 * math.exp(-distance / 4.0)
                east += pull * (x - worm.x) / distance
                north += pull * (y - worm.y) / distance
        assert strength == pytest.approx(math.hypot(east, north), abs=1e-12)
        if strength > 1e-9:
            direction = angle + worm.facing * math.pi / 2
            assert math.cos(direction) == pytest.approx(east / strength, abs=1e-6)
            assert math.sin(direction) == pytest.approx(north / strength, abs=1e-6)
        if action is not None:
            strength, angle, _, over = environment.step(action)
            if over:
                return


@given(st.integers(0, 2**53 - 1), st.integers(0, 2**32))
@settings(max_examples=50)
def test_foods_are_conserved_and_efficiency_is_at_most_one(seed: int, choices: int) -> None:
    environment = dynamic()
    environment.begin(seed)
    rng = np.random.default_rng(choices)
    over = None
    while over is None:
        near = min(
            environment.foods, key=lambda f: math.dist(f, (environment.worm.x, environment.worm.y))
        )
        wander = rng.random() < 0.2
        action = int(rng.integers(4)) if wander else homing(environment, *near)
        over = environment.step(action)[3]
    outcome = environment.end()
    collected, offered = outcome.counts["foods_collected"], outcome.counts["foods_offered"]
    assert collected + len(environment.foods) == offered <= 5
    assert outcome.success == (collected == 5) == (over == "completed_all_food")
    efficiency = outcome.metrics.get("distance_efficiency")
    assert (efficiency is None) == (collected == 0)
    assert efficiency is None or 0 < efficiency <= 1


def test_hunger_starves_and_food_feeds() -> None:
    from attrs import evolve

    environment = dynamic(evolve(NOTHING, penalty_starvation=10.0), satiety=3.0)
    environment.begin(0)
    assert [environment.step(STAY)[2:] for _ in range(3)] == [
        (0, None),
        (0, None),
        (-10, "starved"),
    ]
    assert environment.end() == Outcome(
        success=False,
        counts={"foods_collected": 0, "foods_offered": 3},
        metrics={"final_satiety": 0.0},
    )

    environment = dynamic(satiety=100.0)
    environment.begin(0)
    x, y = min(environment.foods, key=lambda f: math.dist(f, (6, 6)))
    for _ in range(50):
        environment.step(STAY)
    steps = 0
    while (x, y) in environment.foods:
        environment.step(homing(environment, x, y))
        steps += 1
    assert environment.end().metrics["final_satiety"] == 100 - 50 - steps + 20


def test_exploration_pays_once_a_cell() -> None:
    from attrs import evolve

    environment = dynamic(evolve(NOTHING, reward_exploration=0.5))
    environment.begin(3)
    assert [environment.step(a)[2] for a in (STAY, LEFT, LEFT, LEFT, LEFT, LEFT)] == [
        0, 0.5, 0.5, 0.5, 0, 0,
    ]  # fmt: skip


def test_an_episode_of_the_world_is_its_seed_and_the_actions() -> None:
    environment = dynamic()
    tracks = []
    for _ in range(2):
        first = environment.begin(12345)
        rest = [environment.step(action) for action in (FORWARD, LEFT, FORWARD, RIGHT) * 10]
        tracks.append((first, rest, list(environment.foods)))
        environment.begin(999)
        environment.step(FORWARD)
    assert tracks[0] == tracks[1]


# ---------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize(
    ("fields", "updates", "rate"),
    [
        ({"decay_type": "inverse_time", "decay_rate": 0.5}, 4, 1 / 3),
        ({"decay_type": "exponential", "decay_rate": 0.5}, 4, math.exp(-2)),
        ({"decay_type": "step", "decay_factor": 0.5, "step_size": 2}, 5, 0.25),
        ({"decay_type": "polynomial", "max_steps": 8, "power": 2.0}, 4, 0.25),
        ({"decay_type": "polynomial", "max_steps": 8}, 80, 0.0),
        ({"decay_type": "cosine", "max_steps": 8}, 4, 0.5),
    ],
)
def test_decays(fields: dict[str, Any], updates: int, rate: float) -> None:
    decay = Decay(RateParameters(initial_learning_rate=1.0, min_lr=0.0, **fields))
    rates = [decay.next() for _ in range(updates + 1)]
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(rate, abs=1e-12)
    assert sorted(rates, reverse=True) == rates


def test_a_decay_stops_at_the_least_rate() -> None:
    decay = Decay(RateParameters(initial_learning_rate=1.0, decay_rate=9.0, min_lr=0.4))
    assert [decay.next() for _ in range(3)] == [1.0, 0.4, 0.4]


def test_a_rate_by_performance_follows_it_within_bounds() -> None:
    rate = ByPerformance(
        RateParameters(initial_learning_rate=0.1, adjustment_factor=2.0, max_learning_rate=0.3)
    )
    rates = []
    for performance in (1.0, 2.0, 3.0, 2.5):
        rate.observe(performance)
        rates.append(rate.next())
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.15])


def test_adam_moves_by_its_rate_at_first_whatever_the_gradient() -> None:
    adam = Adam(RateParameters(initial_learning_rate=0.1), 3)
    assert adam.moves([5.0, -1e-3, 0.0], 1.0) == pytest.approx([0.1, -0.1, 0.0], abs=1e-5)


@pytest.mark.parametrize("method", ["dynamic", "adam", "performance_based"])
def test_every_method_climbs(method: Any) -> None:
    optimiser = make_optimiser(
        RateSection(method=method, parameters=RateParameters(initial_learning_rate=0.05)), 1
    )
    x = 2.0
    for _ in range(300):
        x += optimiser.moves([-2 * x], 1.0)[0]
    assert abs(x) < 0.2


# ------------------------------------------------------------------------------------------ circuit


def angles_of(qubits: int, layers: int) -> st.SearchStrategy[list[float]]:
    size = 3 * qubits * layers
    return st.lists(st.floats(-7, 7), min_size=size, max_size=size)


SHAPES = [(1, 1), (2, 2), (3, 2), (4, 1)]


@pytest.mark.parametrize(("qubits", "layers"), SHAPES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_probabilities_agree_with_an_independent_simulator(
    qubits: int, layers: int, data: st.DataObject
) -> None:
    qulacs = pytest.importorskip("qulacs", reason="qulacs has no wheel for this Python")
    angles = data.draw(angles_of(qubits, layers))
    other = qulacs.QuantumCircuit(qubits)
    for q in range(qubits):
        other.add_H_gate(q)
    for layer in range(layers):
        for q in range(qubits):
            x, y, z = (angles[layer * 3 * qubits + axis * qubits + q] for axis in range(3))
            # It turns the other way: its RX(t) is exp(+i t X / 2).
            other.add_RX_gate(q, -x)
            other.add_RY_gate(q, -y)
            other.add_RZ_gate(q, -z)
        for q in range(qubits):
            for p in range(q + 1, qubits):
                other.add_CZ_gate(q, p)
    state = qulacs.QuantumState(qubits)
    other.update_quantum_state(state)
    probabilities = Circuit(qubits, layers).run(angles)
    assert probabilities == pytest.approx(np.abs(state.get_vector()) ** 2, abs=1e-12)
    assert sum(probabilities) == pytest.approx(1)


@pytest.mark.parametrize(("qubits", "layers"), SHAPES)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_parameter_shift_agrees_with_finite_differences(
    qubits: int, layers: int, data: st.DataObject
) -> None:
    angles = data.draw(angles_of(qubits, layers))
    strings = [i for i in range(1 << qubits) if i % 4 == 1]
    circuit, probe = Circuit(qubits, layers), Circuit(qubits, layers)

    def chance(k: int, shift: float) -> float:
        moved = [*angles[:k], angles[k] + shift, *angles[k + 1 :]]
        probabilities = probe.run(moved)
        return sum(probabilities[i] for i in strings)

    circuit.run(angles)
    plus, minus = circuit.shifted(strings)
    for k in range(len(angles)):
        assert plus[k] == pytest.approx(chance(k, math.pi / 2), abs=1e-12)
        assert minus[k] == pytest.approx(chance(k, -math.pi / 2), abs=1e-12)
        slope = (chance(k, 1e-5) - chance(k, -1e-5)) / 2e-5
        assert (plus[k] - minus[k]) / 2 == pytest.approx(slope, abs=1e-7)


def test_parameter_names_are_those_of_the_configurations() -> None:
    names = parameter_names(2, 2)
    assert names[:3] == ("θ_rx1_0", "θ_rx1_1", "θ_ry1_0")
    assert names[-1] == "θ_rz2_1"
    assert len(names) == 12


# ------------------------------------------------------------------------------------------- brains


def modular(**fields: Any) -> ModularBrain:
    section = ModularSection(**{"noise_std": 0.0, "lr_boost": False, "l2_reg": 0.0, **fields})
    rate = RateParameters(initial_learning_rate=0.05, min_lr=0.01)
    return ModularBrain(
        section,
        shots=200,
        rate=RateSection(parameters=rate),
        gradient="clip",
        initializer=InitializerSection(),
    )


def qmodular(**fields: Any) -> QmodularBrain:
    rate = RateParameters(initial_learning_rate=0.05, min_lr=0.01)
    return QmodularBrain(
        QmodularSection(**fields),
        shots=200,
        rate=RateSection(parameters=rate),
        gradient="clip",
        initializer=InitializerSection(),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: MlpBrain(MlpSection(hidden_dim=16, learning_rate=0.01, entropy_beta=0.0)),
        modular,
        lambda: modular(modules={"chemotaxis": (0, 2), "action": (1,)}, num_layers=1),
        lambda: QmlpBrain(QmlpSection(hidden_dim=16, learning_rate=0.005)),
        lambda: qmodular(epsilon_decay=0.98),
        lambda: qmodular(
            epsilon_decay=0.98, modules={"chemotaxis": (0, 2), "action": (1,)}, num_layers=1
        ),
        lambda: SpikingBrain(SpikingSection(weight_mean=0.2, learning_rate=0.1)),
    ],
    ids=[
        *("mlp", "modular", "modular-3-qubits"),
        *("qmlp", "qmodular", "qmodular-3-qubits", "spiking"),
    ],
)
@pytest.mark.parametrize("wanted", range(4))
def test_a_brain_learns_which_action_is_rewarded(make: Any, wanted: int) -> None:
    brain = make()
    brain.reset(np.random.SeedSequence(5))
    brain.begin()
    right = []
    for _ in range(400):
        action = brain.act(0.5, 0.3)
        right.append(action == wanted)
        brain.learn(1.0 if action == wanted else -1.0, False)
    assert sum(right[-100:]) > 75
    assert sum(right[-100:]) > sum(right[:100])
    assert all(math.isfinite(value) for value in brain.end().values())


def test_three_qubits_give_every_action_two_strings() -> None:
    brain = modular(modules={"chemotaxis": (0, 1, 2)})
    brain.reset(np.random.SeedSequence(0))
    brain.begin()
    assert {brain.act(0.5, 0.0) for _ in range(200)} == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", ["zero", "random_pi", "random_small"])
def test_initializers(kind: Any) -> None:
    brain = ModularBrain(
        ModularSection(),
        shots=10,
        rate=RateSection(),
        gradient="raw",
        initializer=InitializerSection(type=kind),
    )
    tracks = []
    for seed in (1, 1, 2):
        brain.reset(np.random.SeedSequence(seed))
        brain.begin()
        track = []
        for _ in range(50):
            track.append(brain.act(0.2, 1.0))
            brain.learn(0.1, False)
        tracks.append(track)
    assert tracks[0] == tracks[1] != tracks[2]


# ---------------------------------------------------------------------------------------- episodes

KINDS = {
    "static": STATIC,
    "dynamic": DYNAMIC,
    "modular": MODULAR,
    "qmlp": QMLP,
    "qmodular": QMODULAR,
    "spiking": SPIKING,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_episodes(kind: str) -> None:
    simulation = build(KINDS[kind])
    first = list(simulation.episodes(6, 42))
    assert list(simulation.episodes(6, 42)) == first
    assert list(build(KINDS[kind]).episodes(3, 42)) == first[:3]
    assert list(simulation.episodes(6, 43)) != first
    assert len({episode["seed"] for episode in first}) == 6


@pytest.mark.slow
def test_the_same_seed_gives_the_same_episodes_in_another_process() -> None:
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import test_nematode as t;"
        "print(json.dumps([list(t.build(d).episodes(4, 7)) for d in t.KINDS.values()]))"
    )
    folder = os.path.dirname(__file__)
    outputs = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code, folder],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout)
    here = json.dumps([list(build(data).episodes(4, 7)) for data in KINDS.values()])
    assert outputs == [here + "\n"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_is_plain_numbers(kind: str) -> None:
    for episode in build(KINDS[kind]).episodes(3, 0):
        assert 0 <= episode["seed"] < 2**53
        assert type(episode["seed"]) is int
        assert type(episode["steps"]) is int
        assert type(episode["success"]) is bool
        assert type(episode["reward"]) is float
        assert 1 <= episode["steps"] <= 60
        assert episode["termination"] in (
            "goal_reached", "completed_all_food", "starved", "max_steps",
        )  # fmt: skip
        assert all(type(count) is int for count in episode["counts"].values())
        assert all(type(metric) is float for metric in episode["metrics"].values())
        assert len(episode["metrics"]) <= 6


def test_the_reward_is_the_sum_of_the_steps() -> None:
    class Ledger:
        name, family = "ledger", "classical"

        def reset(self, seed: np.random.SeedSequence) -> None:
            self.rng = np.random.default_rng(seed)
            self.sums: list[float] = []

        def begin(self) -> None:
            self.sums.append(0.0)

        def act(self, strength: float, angle: float) -> int:
            return int(self.rng.integers(4))

        def learn(self, reward: float, done: bool) -> None:
            self.sums[-1] += reward

        def end(self) -> Mapping[str, float]:
            return {}

    brain = Ledger()
    episodes = list(NematodeSimulation(dynamic(RewardSection()), brain).episodes(5, 3))
    assert [episode["reward"] for episode in episodes] == brain.sums


def test_a_run_can_be_closed_between_episodes() -> None:
    simulation = build(STATIC)
    run = simulation.episodes(100, 1)
    assert isinstance(run, Iterator)
    first = next(run)
    run.close()  # type: ignore[attr-defined]
    assert list(run) == []
    assert next(simulation.episodes(100, 1)) == first


def test_the_subject_names_what_runs() -> None:
    subject = build(MODULAR).subject
    assert (subject.environment, subject.brain, subject.family) == ("static", "modular", "quantum")
    assert (subject.device, subject.packages) == ("cpu", ("qn_tracking.nematode",))
    assert subject.backend == "statevector"
    families = {name: build(data).subject.family for name, data in KINDS.items()}
    assert [name for name, family in families.items() if family == "quantum"] == [
        *("modular", "qmodular")
    ]


# ----------------------------------------------------------------------------------- configurations

# Values that the fields of a brain's own section are refused for.
BAD = (
    (
        QMLP,
        {
            "hidden_dim": (0, 10**6, 1.5, "8"),
            "num_hidden_layers": (0, 17),
            "learning_rate": (-0.1, "fast", True),
            "epsilon": (-0.1, 1.1, 0.005),
            "epsilon_decay": (-0.1, 1.1),
            "epsilon_min": (-0.1, 1.1),
            "gamma": (-0.1, 1.1),
            "target_update_freq": (0, 2.5),
            "buffer_size": (0, 31, 10**8),
            "batch_size": (0, 10**5, None),
        },
    ),
    (
        QMODULAR,
        {
            "modules": ({}, {"chemotaxsi": [0, 1]}, {"chemotaxis": [0, True]}, [0, 1]),
            "num_layers": (0, 65),
            "buffer_size": (0, 31, 10**8),
            "batch_size": (0, 10**5),
            "target_update_freq": (0,),
            "epsilon_decay": (-0.1, 1.1),
            "min_epsilon": (-0.1, 1.1),
            "negative_reward_threshold": ("low",),
            "min_state_features_for_proximity": (-1, 0.5),
            "high_gradient_threshold": ("high",),
            "medium_gradient_threshold": (None,),
        },
    ),
    (
        SPIKING,
        {
            "hidden_size": (0, 10**6),
            "simulation_duration": (0.0, -5.0, 0.5, 2001.0, 1e300),
            "time_step": (0.0, -1.0),
            "tau_m": (0.0, -1.0),
            "v_threshold": ("high", None, 1e7),
            "v_reset": (1.0, 7.0, -1e7),
            "v_rest": (1.0, 7.0, -1e7),
            "max_rate": (-1.0, 1001.0),
            "min_rate": (-1.0,),
            "tau_plus": (0.0,),
            "tau_minus": (0.0,),
            "a_plus": (-0.1, 1e7),
            "a_minus": (-0.1, 1e7),
            "learning_rate": (-0.1, 1e300),
            "reward_scaling": ("much", -1e7),
            "weight_mean": ("much", 1e7),
            "weight_std": (-0.1, 1e7),
            "weight_clip": (0.0, -1.0, 1e7),
        },
    ),
)


@pytest.mark.parametrize(
    ("data", "field", "value", "named"),
    [
        (STATIC, "max_step", 5, "max_step"),
        (STATIC, "max_steps", -1, "max_steps"),
        (STATIC, "max_steps", 0, "max_steps"),
        (STATIC, "max_steps", "7", "max_steps"),
        (STATIC, "max_steps", True, "max_steps"),
        (STATIC, "body_length", -3, "body_length"),
        (STATIC, "reward.reward_gaol", 1.0, "reward_gaol"),
        (STATIC, "reward.penalty_step", "high", "reward.penalty_step"),
        (STATIC, "environment.static.grid_size", 4, "environment.static.grid_size"),
        (STATIC, "environment.static.grid_size", 7.5, "environment.static.grid_size"),
        (STATIC, "environment.type", "maze", "environment.type"),
        (STATIC, "environment.type", 3, "environment.type"),
        (STATIC, "environment.sttaic", {}, "sttaic"),
        (STATIC, "environment", [], "environment"),
        (STATIC, "brain", "mlp", "brain"),
        (STATIC, "brain.name", "qmlpx", "brain.name"),
        (STATIC, "brain.name", None, "brain.name"),
        (STATIC, "brain.config.gamma", 1.5, "brain.config.gamma"),
        (STATIC, "brain.config.gamma", "high", "brain.config.gamma"),
        (STATIC, "brain.config.hidden_dim", 0, "brain.config.hidden_dim"),
        (STATIC, "brain.config.hiden_dim", 8, "hiden_dim"),
        (DYNAMIC, "satiety.initial_satiety", 0, "satiety.initial_satiety"),
        (
            DYNAMIC,
            "environment.dynamic.max_active_foods",
            2,
            "environment.dynamic.max_active_foods",
        ),
        (
            DYNAMIC,
            "environment.dynamic.agent_exclusion_radius",
            20,
            "environment.dynamic.agent_exclusion_radius",
        ),
        (DYNAMIC, "environment.dynamic.viewport_size", [1, 2, 3], "viewport_size"),
        (MODULAR, "qubits", 3, "qubits"),
        (MODULAR, "shots", 0, "shots"),
        (MODULAR, "brain.config.modules", {}, "brain.config.modules"),
        (MODULAR, "brain.config.modules", {"chemotaxis": [0, 2]}, "brain.config.modules"),
        (MODULAR, "brain.config.modules", {"chemotaxis": [0, 0]}, "brain.config.modules"),
        (MODULAR, "brain.config.modules", {"chemotaxsi": [0, 1]}, "brain.config.modules"),
        (MODULAR, "brain.config.modules", {"chemotaxis": list(range(20))}, "brain.config.modules"),
        (MODULAR, "brain.config.modules", {"chemotaxis": [0, True]}, "brain.config.modules"),
        (MODULAR, "learning_rate.method", "sgd", "learning_rate.method"),
        (
            MODULAR,
            "learning_rate.parameters.decay_type",
            "inverse_tim",
            "learning_rate.parameters.decay_type",
        ),
        (MODULAR, "gradient.method", "clipp", "gradient.method"),
        (MODULAR, "parameter_initializer.type", "random_e", "parameter_initializer.type"),
        (
            MODULAR,
            "parameter_initializer",
            {"type": "manual"},
            "parameter_initializer.manual_parameter_values",
        ),
        (
            MODULAR,
            "parameter_initializer",
            {"type": "manual", "manual_parameter_values": {"θ_rx1_7": 0.0}},
            "parameter_initializer.manual_parameter_values",
        ),
        (MODULAR, "manyworlds_mode.max_columns", 0, "manyworlds_mode.max_columns"),
        (QMODULAR, "qubits", 3, "qubits"),
        (QMODULAR, "brain.config.modules", {"chemotaxis": [0, 2]}, "brain.config.modules"),
        (
            QMODULAR,
            "parameter_initializer",
            {"type": "manual", "manual_parameter_values": {"θ_rx1_7": 0.0}},
            "parameter_initializer.manual_parameter_values",
        ),
        *(
            (data, f"brain.config.{field}", value, f"brain.config.{field}")
            for data, fields in BAD
            for field, values in fields.items()
            for value in values
        ),
    ],
)
def test_a_wrong_configuration_names_its_field(
    data: dict[str, Any], field: str, value: Any, named: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build(changed(data, field, value))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "field", "meant"),
    [
        (QMLP, "epsilon_decya", "epsilon_decay"),
        (QMODULAR, "target_update_frequency", "target_update_freq"),
        (SPIKING, "v_treshold", "v_threshold"),
    ],
)
def test_an_unknown_field_of_a_brain_is_refused_with_what_was_meant(
    data: dict[str, Any], field: str, meant: str
) -> None:
    with pytest.raises(ConfigError, match=f"{field}.*{meant}"):
        build(changed(data, f"brain.config.{field}", 1))


@pytest.mark.parametrize(
    ("data", "low", "bottom", "high", "top"),
    [
        (QMLP, "batch_size", 2, "buffer_size", 1),
        (QMLP, "epsilon_min", 0.5, "epsilon", 0.25),
        (QMODULAR, "batch_size", 2, "buffer_size", 1),
        (SPIKING, "min_rate", 0.5, "max_rate", 0.25),
        (SPIKING, "time_step", 0.5, "simulation_duration", 0.25),
    ],
)
def test_two_fields_that_cross_are_both_named(
    data: dict[str, Any], low: str, bottom: float, high: str, top: float
) -> None:
    data = changed(data, f"brain.config.{low}", bottom)
    assert build(changed(data, f"brain.config.{high}", bottom))
    message = f"brain.config.{high}: {top} is less than {low}, {bottom}"
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(changed(data, f"brain.config.{high}", top))


def test_a_batch_of_circuits_that_would_fill_the_memory_is_refused() -> None:
    data = changed(QMODULAR, "brain.config.modules", {"chemotaxis": list(range(8))})
    data = changed(data, "qubits", 8)
    assert build(data)
    with pytest.raises(ConfigError, match=r"brain\.config\.batch_size: .*memory"):
        build(changed(data, "brain.config.num_layers", 64))


def test_a_rate_whose_bounds_cross_is_refused() -> None:
    data = changed(MODULAR, "learning_rate.method", "performance_based")
    data = changed(data, "learning_rate.parameters.min_learning_rate", 0.9)
    with pytest.raises(ConfigError, match="min_learning_rate"):
        build(data)


def test_an_unknown_brain_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="mlp, modular, qmlp, qmodular, spiking"):
        build(changed(STATIC, "brain.name", "spikng"))


def test_what_is_not_ours_is_left_to_others() -> None:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(Nematode())
    config = configuration.from_mapping({"gamma": 0.9})
    assert manager.hook.make_simulation(config=config, hook=manager.hook) is None


def test_sections_without_effect_are_named_in_one_warning() -> None:
    data = changed(STATIC, "manyworlds_mode.max_columns", 3)
    data = changed(data, "gradient.method", "clip")
    data = changed(data, "satiety.satiety_decay_rate", 1.0)
    assert build(data).warnings == ("without effect here: manyworlds_mode, satiety, gradient",)
    assert build(STATIC).warnings == ()
    fields = ("high_gradient_threshold", "medium_gradient_threshold")
    data = changed(QMODULAR, "brain.config", dict.fromkeys(fields, 0.5))
    names = ", ".join(f"brain.config.{field}" for field in fields)
    assert build(data).warnings == (f"without effect here: {names}",)


def test_a_plugin_brings_its_own_brain_and_environment() -> None:
    class Spinner:
        name, family = "spinner", "classical"

        def reset(self, seed: np.random.SeedSequence) -> None: ...

        def begin(self) -> None: ...

        def act(self, strength: float, angle: float) -> int:
            return LEFT

        def learn(self, reward: float, done: bool) -> None: ...

        def end(self) -> Mapping[str, float]:
            return {"turns": 1.0}

    class Corridor:
        name = "corridor"

        def begin(self, seed: int) -> tuple[float, float]:
            self.left = 3
            return 1.0, 0.0

        def step(self, action: int) -> tuple[float, float, float, str | None]:
            self.left -= 1
            return 1.0, 0.0, 0.5, None if self.left else "goal_reached"

        def end(self) -> Outcome:
            return Outcome(success=True)

    class Plugin:
        @hookspecs.hookimpl
        def make_brain(self, config: Any) -> Spinner | None:
            return Spinner() if config.data["brain"]["name"] == "spinner" else None

        @hookspecs.hookimpl
        def make_environment(self, config: Any) -> Corridor | None:
            return Corridor() if config.data["environment"]["type"] == "corridor" else None

    data = {
        "environment": {"type": "corridor", "corridor": {"anything": [1]}},
        "brain": {"name": "spinner", "config": {"speed": 3}},
    }
    simulation = build(data, Plugin())
    assert simulation.subject.packages == (
        "qn_tracking.nematode",
        __name__.rpartition(".")[0] or __name__,
    )
    episode = next(simulation.episodes(1, 0))
    assert (episode["steps"], episode["reward"], episode["success"]) == (3, 1.5, True)
    assert episode["metrics"] == {"turns": 1.0}
    assert build(changed(STATIC, "brain", {"name": "spinner"}), Plugin()).subject.brain == "spinner"


def test_asking_what_plugins_there_are_imports_nothing_heavy() -> None:
    code = (
        "import sys, qn_tracking.nematode.plugin;"
        "print([m for m in ('numpy', 'cattrs', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", sorted(configuration.shipped()))
def test_a_shipped_configuration_says_what_it_is_and_runs(name: str) -> None:
    config = configuration.load(name)
    assert config.text.startswith("# ")
    assert config.text.splitlines()[0].endswith(".")
    assert config.settings == {}
    simulation = build(config.data)
    assert simulation.warnings == ()
    assert name.startswith(simulation.subject.brain)
    assert next(simulation.episodes(1, 0))["steps"] > 0


def test_a_configuration_for_each_brain_is_shipped() -> None:
    sizes = ("small", "medium", "large")
    assert set(configuration.shipped()) >= {
        *(f"{brain}_dynamic_{size}" for brain in ("mlp", "modular") for size in sizes),
        *(f"{brain}_simple_medium" for brain in FACTORIES),
    }


@given(st.integers(0, 10**6))
@settings(max_examples=5, deadline=None)
def test_manual_angles_are_taken_by_name(seed: int) -> None:
    """The order in which a file names them does not matter."""
    rng = np.random.default_rng(seed)
    names = list(parameter_names(2, 2))
    values = dict(zip(names, rng.uniform(-3, 3, len(names)).tolist(), strict=True))
    section = {"type": "manual", "manual_parameter_values": values}
    shuffled = {name: values[name] for name in sorted(names, reverse=True)}
    assume(list(shuffled) != names)
    first = list(build(changed(MODULAR, "parameter_initializer", section)).episodes(2, 1))
    section = {"type": "manual", "manual_parameter_values": shuffled}
    assert list(build(changed(MODULAR, "parameter_initializer", section)).episodes(2, 1)) == first
