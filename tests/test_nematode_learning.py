"""The brains learn, with the shipped configurations and with the real ones, unmodified."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import numpy as np
import pluggy
import pytest

from qn_tracking import config as configuration
from qn_tracking.nematode.plugin import Nematode
from qn_tracking.nematode.simulation import NematodeSimulation
from qn_tracking.records.model import EpisodeFields
from qn_tracking.tracking import hookspecs

pytestmark = pytest.mark.slow

REAL = Path(os.environ.get("QN_REAL_DATA", "/nonexistent"), "quantum-nematode", "configs")
WITHOUT_LEARNING = (
    "learning_rate.parameters.initial_learning_rate=0",
    "learning_rate.parameters.min_lr=0",
    "brain.config.noise_std=0",
)

both = pytest.mark.parametrize(
    "source",
    [
        "shipped",
        pytest.param(
            "real",
            marks=[
                pytest.mark.real_data,
                pytest.mark.skipif(not REAL.is_dir(), reason="QN_REAL_DATA is not set"),
            ],
        ),
    ],
)
seeds = pytest.mark.parametrize("seed", range(3))


class RandomActions:
    """The baseline: every action equally often."""

    name, family = "random", "classical"

    def reset(self, seed: np.random.SeedSequence) -> None:
        self.rng = np.random.default_rng(seed)

    def begin(self) -> None: ...

    def act(self, strength: float, angle: float) -> int:
        return int(self.rng.integers(4))

    def learn(self, reward: float, done: bool) -> None: ...

    def end(self) -> Mapping[str, float]:
        return {}


class RandomProvider:
    """Answers for every brain before the built-in ones do."""

    @hookspecs.hookimpl(tryfirst=True)
    def make_brain(self) -> RandomActions:
        return RandomActions()


def play(
    source: str, name: str, runs: int, seed: int, *plugins: object, overrides: tuple[str, ...] = ()
) -> list[EpisodeFields]:
    """The episodes of a run of a shipped or real configuration."""
    path = name if source == "shipped" else REAL / f"{name}.yml"
    config = configuration.load(path, overrides)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for plugin in (Nematode(), *plugins):
        manager.register(plugin)
    simulation = manager.hook.make_simulation(config=config, hook=manager.hook)
    assert isinstance(simulation, NematodeSimulation)
    return list(simulation.episodes(runs, seed))


def steps(episodes: list[EpisodeFields]) -> float:
    return mean(episode["steps"] for episode in episodes)


def success(episodes: list[EpisodeFields]) -> float:
    return mean(episode["success"] for episode in episodes)


@both
@seeds
def test_mlp_shortens_its_path(source: str, seed: int) -> None:
    episodes = play(source, "mlp_simple_medium", 200, seed)
    assert steps(episodes[-50:]) < 0.75 * steps(episodes[:50])
    assert success(episodes[-50:]) == 1


@both
@seeds
def test_mlp_learns_to_forage(source: str, seed: int) -> None:
    episodes = play(source, "mlp_dynamic_small", 100, seed)
    random = play(source, "mlp_dynamic_small", 20, seed, RandomProvider())
    assert success(random) < 0.2
    assert success(episodes[-50:]) > 0.8
    assert steps(episodes[-50:]) < 0.85 * steps(episodes[:25])


@both
@seeds
def test_modular_needs_less_than_half_of_random_steps(source: str, seed: int) -> None:
    learned = play(source, "modular_simple_medium", 20, seed)
    random = play(source, "modular_simple_medium", 20, seed, RandomProvider())
    assert [episode["seed"] for episode in learned] == [episode["seed"] for episode in random]
    assert steps(learned) < 0.5 * steps(random)


@both
@seeds
def test_the_manual_parameters_alone_reach_the_goal(source: str, seed: int) -> None:
    episodes = play(source, "modular_simple_medium", 30, seed, overrides=WITHOUT_LEARNING)
    assert success(episodes) == 1


@both
def test_modular_learns_to_forage(source: str) -> None:
    episodes = play(source, "modular_dynamic_small", 60, 0)
    random = play(source, "modular_dynamic_small", 20, 0, RandomProvider())
    assert success(random) < 0.2
    assert success(episodes[-30:]) > 0.8


def test_modular_learns_from_random_angles_on_the_medium_grid() -> None:
    episodes = play("shipped", "modular_dynamic_medium", 25, 0)
    assert success(episodes[-10:]) > 0.6
    assert steps(episodes[-10:]) < steps(episodes[:10])


@both
@seeds
@pytest.mark.parametrize("brain", ["qmlp", "qmodular"])
def test_q_learning_soon_needs_few_steps(brain: str, source: str, seed: int) -> None:
    episodes = play(source, f"{brain}_simple_medium", 50, seed)
    random = play(source, f"{brain}_simple_medium", 20, seed, RandomProvider())
    assert success(episodes[-30:]) == 1
    # The shortest way is 14.
    assert steps(episodes[-30:]) < min(22, 0.15 * steps(random))


@seeds
def test_spiking_neurons_learn_the_way(seed: int) -> None:
    episodes = play("shipped", "spiking_simple_medium", 80, seed)
    random = play("shipped", "spiking_simple_medium", 20, seed, RandomProvider())
    assert success(episodes[-30:]) == 1
    assert steps(episodes[-30:]) < min(22, 0.15 * steps(random))
    assert steps(episodes[:20]) > 25


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="QN_REAL_DATA is not set")
@seeds
def test_spiking_neurons_learn_slowly_at_the_real_rate(seed: int) -> None:
    episodes = play("real", "spiking_simple_medium", 200, seed)
    random = play("real", "spiking_simple_medium", 100, seed, RandomProvider())
    assert success(random) < 0.75 < success(episodes[-50:])
    assert steps(episodes[-50:]) < 0.75 * steps(random)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="QN_REAL_DATA is not set")
def test_real_configurations_run_unmodified() -> None:
    names = {path.stem for path in REAL.glob("*.yml")}
    assert len(names) == 12
    for name in names:
        (episode,) = play("real", name, 1, 1)
        assert episode["steps"] > 0
