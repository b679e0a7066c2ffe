"""Algorithms of Stable-Baselines3: they drive the environment, and are asked for episodes."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from subprocess import CompletedProcess
from typing import Any, ClassVar

import numpy as np
import pytest

from qn_tracking import config as configuration
from qn_tracking.errors import ConfigError
from qn_tracking.testing import SimulationContract
from qn_tracking.tracking.manager import make_manager, make_simulation

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
sb3 = pytest.importorskip("stable_baselines3", reason="the extra sb3 is not installed")

Data = Mapping[str, Any]


def data(algorithm: str, id: str = "CartPole-v1", steps: int = 1000, **kwargs: Any) -> Data:
    return {
        "environment": {"type": "gymnasium", "id": id, "max_steps": 40},
        "brain": {
            "name": "sb3",
            "config": {"algorithm": algorithm, "total_timesteps": steps, "kwargs": kwargs},
        },
    }


def make(config: Data) -> Any:
    read = configuration.from_mapping(config)
    return make_simulation(read, make_manager(config=read))


PPO = data("PPO", n_steps=32, batch_size=16, n_epochs=2, policy_kwargs={"net_arch": [8]})
DQN = data("DQN", learning_starts=20, batch_size=8, train_freq=[1, "episode"], buffer_size=500)


class TestPpo(SimulationContract):
    config: ClassVar[Data] = PPO
    wrong: ClassVar[list[Data]] = [
        data("PPO", nope=1),
        data("PPO", n_steps="many"),
        data("PPO", n_steps=1),
        data("PPO", device="cuda"),
        data("PPO", tensorboard_log="/tmp/x"),
        data("SAC"),
        data("XYZ"),
        data("PPO", id="Blackjack-v1"),
        data("PPO", steps=0),
    ]


class TestDqn(SimulationContract):
    config: ClassVar[Data] = DQN


@pytest.mark.parametrize("algorithm", ["A2C", "DDPG", "SAC", "TD3"])
def test_the_other_algorithms_play(algorithm: str) -> None:
    continuous = algorithm != "A2C"
    config = data(algorithm, id="Pendulum-v1" if continuous else "CartPole-v1")
    simulation = make(config)
    assert simulation.subject.brain == algorithm.lower()
    assert simulation.subject.packages == ("qn_tracking_gymnasium",)
    found = list(simulation.episodes(3, 1))
    assert len(found) == 3
    assert len({one["seed"] for one in found}) == 3
    assert all(0 < one["steps"] <= 40 for one in found)


def test_it_learns() -> None:
    """CartPole for 40 steps; random actions hold the pole for about 20."""
    config = data("PPO", n_steps=128, batch_size=32, learning_rate=0.003)
    found = list(make(config).episodes(120, 3))
    assert sum(one["steps"] for one in found[-20:]) / 20 > 35


def test_a_run_outlives_the_steps_of_its_schedules() -> None:
    config = data("PPO", steps=64, n_steps=32, batch_size=16, n_epochs=1)
    found = list(islice(make(config).episodes(40, 1), 40))
    assert sum(one["steps"] for one in found) > 5 * 64


def draws() -> Iterator[tuple[Any, ...]]:
    """What others of this process draw from the generators that everybody shares."""
    while True:
        yield random.random(), np.random.random(), torch.rand(1).item()


@pytest.mark.parametrize("config", [PPO, DQN], ids=["ppo", "dqn"])
def test_runs_by_turns_notice_neither_each_other_nor_anybody_else(config: Data) -> None:
    alone = {seed: list(make(config).episodes(6, seed)) for seed in (1, 2)}

    def seeded() -> Iterator[tuple[Any, ...]]:
        random.seed(3)
        np.random.seed(3)
        torch.manual_seed(3)
        return draws()

    theirs = list(islice(seeded(), 6))
    others = seeded()
    one, two = (make(config).episodes(6, seed) for seed in (1, 2))
    mixed = [(next(one), next(others), next(two)) for _ in range(6)]
    assert [row[0] for row in mixed] == alone[1]
    assert [row[1] for row in mixed] == theirs
    assert [row[2] for row in mixed] == alone[2]


def test_closing_ends_the_thread_and_the_number_of_threads_is_as_it_was() -> None:
    before, numeric = threading.active_count(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        episodes = make(PPO).episodes(1000, 1)
        next(episodes)
        assert threading.active_count() == before + 1
        assert torch.get_num_threads() == 2
        episodes.close()
        assert threading.active_count() == before
        # Also if nobody closes it.
        next(make(PPO).episodes(1000, 1))
        assert threading.active_count() == before
    finally:
        torch.set_num_threads(numeric)


def test_what_goes_wrong_while_training_is_an_error_of_the_run(
    program: Callable[..., CompletedProcess[str]],
) -> None:
    done = program(
        "qn-run", "cartpole_ppo", "--set", "brain.config.kwargs.n_steps=16",
        "--set", "brain.config.kwargs.batch_size=8", "--episodes", "30", "--seed", "1",
        "--set", "brain.config.kwargs.learning_rate=1e30", "--set", "environment.max_steps=40",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: simulation: ValueError: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            data("PPO", n_stepz=1),
            "config: brain.config.kwargs.n_stepz: PPO does not accept n_stepz here (did you mean n_steps",
        ),
        (
            data("XYZ"),
            "config: brain.config.algorithm: expected one of A2C, DDPG, DQN, PPO, SAC, TD3, "
            "got 'XYZ'",
        ),
        (
            data("DQN", id="Pendulum-v1"),
            "config: brain.config: DQN cannot be made: The algorithm only supports",
        ),
    ],
)
def test_mistakes_are_named(config: Data, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make(config)
    assert str(raised.value).startswith(said)


def test_what_it_warns_of_is_said_before_the_first_episode() -> None:
    (said,) = make(data("PPO", n_steps=30, batch_size=16)).warnings
    assert "truncated mini-batch" in said
