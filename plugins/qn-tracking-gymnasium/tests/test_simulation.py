"""The host: whatever Gymnasium has registered, with a policy, as runs of `qn-run`."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import find_highest_version

from qn_tracking import config as configuration
from qn_tracking.api.tasks import config_tasks
from qn_tracking.benchmark.category import categorize
from qn_tracking.benchmark.protocol import rulebook
from qn_tracking.config import shipped
from qn_tracking.errors import ConfigError
from qn_tracking.testing import SimulationContract
from qn_tracking.tracking.manager import make_manager, make_simulation
from qn_tracking_gymnasium.qlearning import QLearning
from qn_tracking_gymnasium.schema import QLearningSection, ScheduleSection

Data = Mapping[str, Any]
Program = Callable[..., "subprocess.CompletedProcess[str]"]


def data(id: str, brain: str = "random", config: Data | None = None, **environment: Any) -> Data:
    return {
        "environment": {"type": "gymnasium", "id": id, **environment},
        "brain": {"name": brain, **({} if config is None else {"config": config})},
    }


def make(config: Data) -> Any:
    read = configuration.from_mapping(config)
    return make_simulation(read, make_manager(config=read))


def episodes(config: Data, count: int = 5, seed: int = 1) -> list[Any]:
    return list(make(config).episodes(count, seed))


LAKE = {"is_slippery": True}
BINS = {"bins": [1, 1, 6, 6], "low": [-3, -3, -0.2095, -1], "high": [3, 3, 0.2095, 1]}


class TestRandom(SimulationContract):
    config: ClassVar[Data] = data("CartPole-v1")
    wrong: ClassVar[list[Data]] = [
        data("CartPole-v1", config={"a": 1}),
        data("CartPole-v99"),
        data("CartPole-v1", max_steps=0),
        data("CartPole-v1", max_step=9),
        data("CartPole-v1", kwargs={"nope": 1}),
        {**data("CartPole-v1"), "seeds": 1},
    ]
    same_task: ClassVar[list[Data]] = [
        data("CartPole-v1", "qlearning", BINS),
        data("CartPole-v1", max_steps=500),  # as registered
        data("CartPole-v1", kwargs={}, info={"a": "b"}),
    ]
    other_task: ClassVar[list[Data]] = [
        data("CartPole-v0"),
        data("CartPole-v1", max_steps=499),
        data("CartPole-v1", success_reward=475),
        data("CartPole-v1", kwargs={"sutton_barto_reward": True}),
    ]


class TestQLearningInABox(SimulationContract):
    config: ClassVar[Data] = data("CartPole-v1", "qlearning", BINS)
    wrong: ClassVar[list[Data]] = [
        data("CartPole-v1", "qlearning"),
        data("CartPole-v1", "qlearning", {"bins": [2, 2, 2, 2]}),
        data("CartPole-v1", "qlearning", {**BINS, "bins": [2, 2]}),
        data("CartPole-v1", "qlearning", {**BINS, "high": [3, 3, -0.3, 1]}),
        data("Pendulum-v1", "qlearning", {"bins": [2, 2, 2]}),
        data("Blackjack-v1", "qlearning"),
        data("FrozenLake-v1", "qlearning", {"bins": [16]}),
    ]


class TestQLearningOnALake(SimulationContract):
    config: ClassVar[Data] = data("FrozenLake-v1", "qlearning", kwargs=LAKE)


# -------------------------------------------------------------------------------------- what is run


def test_an_episode_is_what_gymnasium_plays_from_its_seed() -> None:
    """The world of an episode is its seed's; replayed here with the actions drawn again."""
    found = episodes(data("FrozenLake-v1", kwargs=LAKE), count=30)
    env = gymnasium.make("FrozenLake-v1", is_slippery=True)
    _, mind = np.random.SeedSequence(1).spawn(2)
    env.action_space.seed(int(mind.generate_state(1)[0]))
    for told in found:
        env.reset(seed=told["seed"])
        steps, total, over = 0, 0.0, False
        while not over:
            _, reward, ended, cut, _ = env.step(env.action_space.sample())
            steps, total, over = steps + 1, total + float(reward), ended or cut
        assert (told["steps"], told["reward"]) == (steps, total)
        assert told["success"] is (total >= 0.7)


@pytest.mark.parametrize(
    ("config", "success"),
    [
        (data("CartPole-v1"), False),  # registered: 475
        (data("CartPole-v1", success_reward=5), True),
        (data("CartPole-v1", max_steps=4, success_reward=4), True),
        (data("Pendulum-v1"), None),  # nothing is registered
        (data("MountainCar-v0", success_reward=-200.0), True),
    ],
)
def test_what_a_success_is(config: Data, success: bool | None) -> None:
    assert {one["success"] for one in episodes(config, count=3)} == {success}


def test_arguments_of_the_environment_are_plain_data() -> None:
    ice = {"desc": ["SF", "HG"], "is_slippery": False}
    found = episodes(data("FrozenLake-v1", kwargs=ice, max_steps=200), count=50)
    assert {one["termination"] for one in found} == {"terminated"}
    assert 0.2 < sum(one["success"] for one in found) / 50 < 0.8


# Each release of Gymnasium has one version of these.
TAXI, CLIFF = (f"{name}-v{find_highest_version(None, name)}" for name in ("Taxi", "CliffWalking"))


def test_infos_of_the_environment_become_metrics() -> None:
    config = data(TAXI, max_steps=3, info={"prob": "probability"})
    assert [one["metrics"] for one in episodes(config, count=2)] == [{"probability": 1.0}] * 2


def test_steps_without_a_limit_are_warned_of() -> None:
    said = (
        f"{CLIFF} has no registered limit of steps: without environment.max_steps an "
        "episode may not end"
    )
    assert make(data(CLIFF)).warnings == (said,)
    assert make(data(CLIFF, max_steps=50)).warnings == ()
    (one,) = episodes(data(CLIFF, max_steps=50), count=1)
    assert (one["steps"], one["termination"]) == (50, "truncated")


def test_what_gymnasium_warns_of_is_said_once(program: Program) -> None:
    done = program("qn-run", "cartpole_random", "--set", "environment.id=CartPole-v0", "--dry-run")
    assert done.returncode == 0
    assert done.stderr == (
        "warning: The environment CartPole-v0 is out of date. "
        "You should consider upgrading to version `v1`.\n"
    )


def test_runs_side_by_side_do_not_share_an_environment() -> None:
    alone = episodes(data("CartPole-v1"), count=4)
    one, two = make(data("CartPole-v1")), make(data("CartPole-v1"))
    mixed = list(zip(one.episodes(4, 1), two.episodes(4, 1), strict=True))
    assert mixed == [(told, told) for told in alone]


def test_qlearning_learns() -> None:
    """A lake that is not slippery: six steps to the goal, found and kept."""
    config = data(
        "FrozenLake-v1",
        "qlearning",
        {"alpha": {"initial": 1.0}, "epsilon": {"initial": 1.0, "decay": 0.99}, "gamma": 0.9},
        kwargs={"is_slippery": False},
    )
    found = episodes(config, count=1500)
    assert [one["steps"] for one in found[-20:]] == [6] * 20
    assert all(one["success"] for one in found[-20:])
    assert found[0]["metrics"]["epsilon"] == 1.0
    assert found[100]["metrics"] == {"epsilon": 0.99**100, "alpha": 1.0, "states": 16.0}


@pytest.mark.parametrize(("terminated", "then"), [(False, 0), (True, 1)])
def test_what_was_cut_short_could_have_gone_on(terminated: bool, then: int) -> None:
    """An action that ends an episode is worth its reward only; one that is truncated, more."""
    section = QLearningSection(
        alpha=ScheduleSection(initial=1.0), epsilon=ScheduleSection(initial=0.0), initial_value=9.0
    )
    policy = QLearning(section, file="test")
    policy.prepare(gymnasium.make("FrozenLake-v1"))
    policy.reset(np.random.SeedSequence(1))
    policy.begin(0)
    assert policy.act() == 0
    policy.learn(1, 1.0, terminated, not terminated)
    policy.begin(0)
    assert policy.act() == then


# ---------------------------------------------------------------------------- what a plugin may add

LEFT = """\
from qn_tracking import hookimpl

class Left:
    name, family = "left", "quantum"

    def prepare(self, env): pass
    def reset(self, seed): pass
    def begin(self, observation): pass
    def act(self): return 0
    def learn(self, observation, reward, terminated, truncated): self.reward = reward
    def end(self): return {"last": self.reward}

class Plugin:
    @hookimpl
    def make_brain(self, config):
        return Left()
"""

ENVIRONMENT = """\
import gymnasium

class Coin(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(1)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.side = int(self.np_random.integers(2))
        return 0, {}
    def step(self, action):
        return 0, float(action == self.side), True, False, {"is_success": action == self.side}

gymnasium.register("Coin-v0", Coin)
"""


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., str]:
    """As pip would: a module, and what says that it is installed. Gives the folder."""

    def installed(name: str, code: str, requires: str, entry_points: str = "") -> str:
        place = tmp_path / "site"
        info = place / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (place / f"{name}.py").write_text(code)
        about = f"Name: {name}\nVersion: 1.0\nRequires-Dist: {requires}\n"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\n{about}")
        (info / "entry_points.txt").write_text(entry_points)
        return str(place)

    return installed


def test_policies_and_environments_of_installed_packages(
    program: Program, install: Callable[..., str]
) -> None:
    install("left", LEFT, "qn-tracking", "[qn_tracking]\nbrain.left = left:Plugin\n")
    site = install("coins", ENVIRONMENT, 'gymnasium[extra]>=1; extra == "all"')
    done = program(
        "qn-run", "cartpole_random", "--set", "environment.id=Coin-v0",
        "--set", "environment.package=coins", "--set", "brain.name=left",
        "--episodes", "40", "--seed", "1", "--track-experiment", "--json", PYTHONPATH=site,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["subject"] == {
        "environment": "Coin-v0",
        "brain": "left",
        "family": "quantum",
        "device": "cpu",
        "backend": None,
        "packages": ["qn_tracking_gymnasium", "left", "coins"],
    }
    assert all(one["digest"] for one in record["facts"]["metadata"]["code"])
    assert 0.2 < record["results"]["success_rate"] < 0.8  # as the environment says
    assert record["results"]["metrics"]["last"]["mean"] == record["results"]["success_rate"]


@pytest.mark.parametrize(
    ("code", "requires", "said"),
    [
        ("raise RuntimeError('boom')", "gymnasium", "coins cannot be imported: boom"),
        (
            "open('witness', 'w')",
            "gymnasium-like",
            "coins does not require gymnasium, so it is not imported",
        ),
    ],
)
def test_a_package_that_is_not_for_gymnasium_is_not_imported(
    program: Program, install: Callable[..., str], code: str, requires: str, said: str
) -> None:
    site = install("coins", code, requires)
    override = ("--set", "environment.package=coins")
    done = program("qn-run", "cartpole_random", *override, "--dry-run", PYTHONPATH=site)
    assert done.returncode == 2
    assert done.stderr == f"error: cartpole_random: environment.package: {said}\n"
    assert not Path("witness").exists()


# ------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("environment.id=os:CartPole-v1", "environment.id: a module before the id is not allowed"),
        ("environment.id=CartPole", "environment.id: no environment 'CartPole' (did you mean"),
        ("environment.id=Cartpole-v1", "(did you mean CartPole-v1?)"),
        ("environment.id=", "environment.id: expected text, got nothing"),
        (
            "environment.id=Maze-v0",
            "no environment 'Maze-v0' (environment.package names the package",
        ),
        ("environment.package=nope", "environment.package: nope is not installed"),
        ("environment.package=a-b", "environment.package: expected the import name of a package"),
        ("environment.package=numpy", "environment.package: numpy does not require gymnasium"),
        ("environment.idd=1", "environment: unknown key 'idd' (did you mean id?)"),
        ("environment.kwargs.sutton=1", "unexpected keyword argument 'sutton'"),
        (
            "environment.kwargs.render_mode=human",
            "kwargs.render_mode: cannot be set here (a run",
        ),
        ("environment.kwargs.max_episode_steps=5", "cannot be set here (environment.max_steps)"),
        ("environment.max_steps=1.5", "environment.max_steps: expected a whole number, got 1.5"),
        ("environment.success_reward=high", "success_reward: expected a number, got 'high'"),
        ("environment.info.x=3", "environment.info.x: expected text, got 3"),
        ("environment.info.x=reward", "environment.info: reward is recorded already"),
        ("environment.id=GymV26Environment-v0", "GymV26Environment-v0 cannot be made: "),
        ("brain.name=nope", "brain.name: unknown policy 'nope' (known: random, qlearning, sb3"),
        ("brain.name=mlp", "brain.name: 'mlp' is not a policy (known: random, qlearning, sb3"),
        ("brain.config.a=1", "brain.config: random has no options"),
        ("brain=random", "brain: expected a mapping, got 'random'"),
        ("max_steps=5", "cartpole_random: unknown key 'max_steps'"),
    ],
)
def test_every_mistake_is_one_line_with_its_field(override: str, said: str) -> None:
    config = configuration.load("cartpole_random", [override])
    with pytest.raises(ConfigError) as raised:
        make_simulation(config, make_manager(config=config))
    line = str(raised.value)
    assert said in line
    assert line.startswith("cartpole_random: ")
    assert "\n" not in line


def test_a_mistake_ends_the_program_before_anything_runs(program: Program) -> None:
    override = "environment.id=os:CartPole-v1"
    done = program("qn-run", "cartpole_random", "--set", override, "--track-experiment")
    assert done.returncode == 2
    assert done.stderr == (
        "error: cartpole_random: environment.id: a module before the id is not allowed, "
        "because it would be imported (use environment.package for an installed package)\n"
    )
    assert done.stdout == ""
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("config", "field", "said"),
    [
        ({**BINS, "bins": [0, 1, 1, 1]}, "bins", "must be from 1 to 10000 each"),
        ({**BINS, "bins": []}, "bins", "must be from 1 to 10000 each"),
        ({**BINS, "low": [1]}, "low", "expected 4 values, got 1"),
        ({"bins": [1, 2, 1, 1]}, "low", "missing; dimension 1 of the observations has no bound"),
        ({**BINS, "high": [3, 3, -1, 1]}, "high[2]", "-1.0 is not above low, -0.2095"),
        ({**BINS, "gamma": 1.5}, "gamma", "must be between 0 and 1, got 1.5"),
        ({**BINS, "alpha": 0.5}, "alpha", "expected a mapping, got 0.5"),
        ({**BINS, "alpha": {"decay": 0.5}}, "alpha.initial", "missing"),
        (
            {**BINS, "epsilon": {"initial": 2}},
            "epsilon.initial",
            "must be between 0 and 1, got 2.0",
        ),
    ],
)
def test_mistakes_of_qlearning(config: Data, field: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make(data("CartPole-v1", "qlearning", config))
    assert raised.value.field == f"brain.config.{field}"
    assert raised.value.cause == said or raised.value.cause.startswith(said)


def test_our_policies_serve_no_other_environment() -> None:
    with pytest.raises(ConfigError, match="unknown brain 'qlearning'"):
        make({"environment": {"type": "static"}, "brain": {"name": "qlearning"}})


# --------------------------------------------------------------------------------------- categories


def category(config: Data) -> str:
    read = configuration.from_mapping(config)
    book = rulebook("no-such-folder")
    return str(categorize(read, book.now, make_manager(config=read)))


def test_categories_are_named_after_the_task() -> None:
    assert category(data("CartPole-v1")) == "cartpole-v1/classical"
    assert category(data("CartPole-v1", kwargs={}, info={"a": "b"})) == "cartpole-v1/classical"
    assert category(data("CartPole-v1", max_steps=200)) == "cartpole-v1-steps200/classical"
    assert category(data("CartPole-v1", "qlearning", BINS, max_steps=200, success_reward=195)) == (
        "cartpole-v1-steps200-success195/classical"
    )
    assert category(data("MountainCar-v0", success_reward=-110)) == (
        "mountaincar-v0-success-110/classical"
    )


def test_another_task_is_another_category(monkeypatch: pytest.MonkeyPatch) -> None:
    named = ("a/FrozenLake-v1", "a-FrozenLake-v1", "a_FrozenLake-v1", "FrozenLake-v1-steps1",
             "x" * 100 + "-v1", "x" * 99 + "-v1")  # fmt: skip
    for id in named:
        monkeypatch.setitem(
            gymnasium.registry, id, dataclasses.replace(gymnasium.spec("FrozenLake-v1"), id=id)
        )
    tasks = [
        data("FrozenLake-v1"),
        data("FrozenLake8x8-v1"),
        data("FrozenLake-v1", kwargs={"is_slippery": True}),
        data("FrozenLake-v1", kwargs={"is_slippery": False}),
        data("FrozenLake-v1", kwargs={"is_slippery": False}, max_steps=20),
        data("FrozenLake-v1", success_reward=0.5),
        data("FrozenLake-v1", success_reward=0.6),
        data("FrozenLake-v1", success_reward=1),
        data("FrozenLake-v1", max_steps=1),
        data("a/FrozenLake-v1"),
        data("a-FrozenLake-v1"),
        data("a_FrozenLake-v1"),
        data("FrozenLake-v1-steps1"),
        data("FrozenLake-v1", package="qn_tracking_gymnasium"),
        data("x" * 100 + "-v1"),
        data("x" * 99 + "-v1"),
    ]
    assert len({category(task) for task in tasks}) == len(tasks)


@pytest.mark.parametrize("name", ["cartpole_qlearning", "cartpole_ppo", "cartpole_random"])
def test_the_configurations_that_come_along_are_of_the_closed_division(name: str) -> None:
    (found,) = config_tasks(rulebook("no-such-folder").version(2), [name])
    if name == "cartpole_ppo" and found.error is not None:
        pytest.skip("Stable-Baselines3 is not installed")
    assert (found.category, found.division, found.differs) == (
        "cartpole-v1/classical",
        "closed",
        (),
    )


def test_a_category_is_told_without_gymnasium() -> None:
    """A leaderboard asks for many, and without closed tasks it has no use for environments."""
    program = (
        "import sys\n"
        "from qn_tracking import config as c\n"
        "from qn_tracking.benchmark.category import categorize\n"
        "from qn_tracking.benchmark.protocol import rulebook\n"
        "from qn_tracking.tracking.manager import make_manager\n"
        "for name in ('cartpole_qlearning', 'cartpole_ppo', 'cartpole_random'):\n"
        "    config = c.load(name)\n"
        "    print(categorize(config, rulebook('x').version(1), make_manager(config=config)))\n"
        "heavy = {'gymnasium', 'torch', 'stable_baselines3'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["cartpole-v1/classical"] * 3


def test_the_configurations_that_come_along() -> None:
    ours = {name for name, path in shipped().items() if "qn_tracking_gymnasium" in path}
    assert ours == {"cartpole_ppo", "cartpole_qlearning", "cartpole_random"}
