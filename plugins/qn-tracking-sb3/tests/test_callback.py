"""A training leaves a record with every episode, and is what it was without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EveryNTimesteps
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from qn_tracking import track
from qn_tracking.errors import UsageError
from qn_tracking.store.read import Lines
from qn_tracking.testing import SinkContract
from qn_tracking_sb3 import Track, settings
from qn_tracking_sb3.facts import TorchFacts

SMALL: dict[str, Any] = {"seed": 3, "device": "cpu", "policy_kwargs": {"net_arch": [8]}}
PPO_SMALL: dict[str, Any] = {**SMALL, "n_steps": 64, "batch_size": 32, "n_epochs": 2}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    torch.set_num_threads(1)


def quiet(text: str) -> None:
    """No repository is here, and nobody needs to know."""


class Count(gym.Wrapper[Any, Any, Any, Any]):
    """Counts by itself what ends, next to the environment."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.ended: list[tuple[float, int]] = []
        self._sum, self._steps = 0.0, 0

    def reset(self, **options: Any) -> Any:
        self._sum, self._steps = 0.0, 0
        return super().reset(**options)

    def step(self, action: Any) -> Any:
        result = super().step(action)
        self._sum += float(result[1])
        self._steps += 1
        if result[2] or result[3]:
            self.ended.append((self._sum, self._steps))
        return result


def episodes_of(id: str) -> list[Any]:
    return list(Lines(f"experiments/runs/{id}/episodes.jsonl"))


@pytest.mark.parametrize("kind", ["PPO", "DQN"])
def test_every_episode_is_in_the_record(kind: str) -> None:
    env = Count(gym.make("CartPole-v1"))
    if kind == "PPO":
        model: Any = PPO("MlpPolicy", env, **PPO_SMALL)
    else:
        model = DQN("MlpPolicy", env, learning_starts=50, **SMALL)
    with track(settings(model), seed=3, warn=quiet) as run:
        model.learn(640, callback=Track(run))
    told = episodes_of(run.id)
    assert [(one.reward, one.steps) for one in told] == env.ended
    assert len(told) > 10
    assert {one.termination for one in told} == {"terminated"}
    assert {one.success for one in told} == {False}  # 475 is far away
    assert "train/loss" not in told[0].metrics
    assert told[-1].metrics["train/loss"] is not None
    assert run.experiment is not None
    assert run.experiment.status == "completed"
    assert run.experiment.config.data["algorithm"] == kind
    assert run.experiment.config.data["environment"]["id"] == "CartPole-v1"


def test_the_training_is_what_it_was_without() -> None:
    weights = []
    for tracked in (False, True):
        model = PPO("MlpPolicy", "CartPole-v1", **PPO_SMALL)
        if tracked:
            with track(settings(model), warn=quiet) as run:
                model.learn(256, callback=Track(run))
        else:
            model.learn(256)
        weights.append(torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach())
    assert torch.equal(*weights)


def test_many_environments_are_counted_each() -> None:
    env = make_vec_env("CartPole-v1", n_envs=3, seed=1, wrapper_class=Count)
    model = PPO("MlpPolicy", env, **PPO_SMALL)
    with track(settings(model), warn=quiet) as run:
        model.learn(384, callback=Track(run))
    told = episodes_of(run.id)
    for place, ended in enumerate(env.get_attr("ended")):
        mine = [(e.reward, e.steps) for e in told if e.counts["environment"] == place]
        assert mine == ended


@pytest.mark.parametrize("monitored", [True, False])
def test_rewards_are_the_environments_own_also_if_normalized(monitored: bool) -> None:
    if monitored:
        inner: Any = make_vec_env("CartPole-v1", n_envs=2, seed=1)
    else:
        inner = DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2)
    model = PPO("MlpPolicy", VecNormalize(inner), **PPO_SMALL)
    with track(settings(model), warn=quiet) as run:
        model.learn(256, callback=Track(run))
    told = episodes_of(run.id)
    # CartPole gives one a step.
    assert told
    assert [one.reward for one in told] == [one.steps for one in told]


def test_time_that_is_up_is_no_failure_of_the_pole() -> None:
    env = gym.make("CartPole-v1", max_episode_steps=5)
    model = PPO("MlpPolicy", env, **PPO_SMALL)
    with track(settings(model), warn=quiet) as run:
        model.learn(64, callback=Track(run, success=5.0))
    told = episodes_of(run.id)
    assert {one.termination for one in told} == {"truncated"}
    assert {one.success for one in told} == {True}


def test_success_and_metrics_are_as_one_says() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", **PPO_SMALL)
    callback = Track(
        track(settings(model), warn=quiet),
        success=lambda info: info["episode"]["l"] > 15,
        metrics=["train/entropy_loss"],
    )
    model.learn(256, callback=callback)
    told = episodes_of(callback.run.id)
    assert [one.success for one in told] == [one.steps > 15 for one in told]
    assert set(told[-1].metrics) == {"train/entropy_loss"}
    # It started the run, and has ended it.
    assert callback.run.experiment is not None


def test_training_goes_on_in_the_same_run() -> None:
    env = Count(gym.make("CartPole-v1"))
    model = PPO("MlpPolicy", env, **PPO_SMALL)
    with track(settings(model), warn=quiet) as run:
        callback = Track(run)
        model.learn(64, callback=callback)
        model.learn(64, callback=callback, reset_num_timesteps=False)
    assert [one.steps for one in episodes_of(run.id)] == [steps for _, steps in env.ended]


class Broken(gym.Wrapper[Any, Any, Any, Any]):
    """Breaks once."""

    steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == 100:
            raise RuntimeError("the pole is gone")
        return super().step(action)


def test_a_training_that_breaks_is_recorded_as_failed() -> None:
    model = PPO("MlpPolicy", Broken(gym.make("CartPole-v1")), **PPO_SMALL)
    with (
        pytest.raises(RuntimeError, match="the pole is gone"),
        track(settings(model), warn=quiet) as run,
    ):
        model.learn(256, callback=Track(run))
    assert run.experiment is not None
    assert run.experiment.status == "failed"
    assert run.experiment.results.episodes > 0


def broken() -> tuple[Any, Track, RuntimeError]:
    """A training that broke, in a run that the callback has started."""
    model = PPO("MlpPolicy", Broken(gym.make("CartPole-v1")), **PPO_SMALL)
    callback = Track(track(settings(model), warn=quiet))
    with pytest.raises(RuntimeError, match="the pole is gone") as raised:
        model.learn(256, callback=callback)
    return model, callback, raised.value


def test_who_catches_what_broke_ends_the_run() -> None:
    _, callback, error = broken()
    assert callback.run.experiment is None
    experiment = callback.run.end("failed", error)
    assert experiment is not None
    assert experiment.status == "failed"
    assert experiment.error is not None
    assert experiment.error.message == "the pole is gone"


def test_or_trains_on_in_it() -> None:
    model, callback, _ = broken()
    model.learn(64, callback=callback)
    assert callback.run.experiment is not None
    assert callback.run.experiment.status == "completed"


def test_a_run_that_is_over_takes_no_further_training() -> None:
    env = Count(gym.make("CartPole-v1"))
    model = PPO("MlpPolicy", env, **PPO_SMALL)
    callback = Track(track(settings(model), warn=quiet))
    model.learn(64, callback=callback)
    ended, steps = list(env.ended), model.num_timesteps
    with pytest.raises(UsageError, match="has ended and cannot record another training") as raised:
        model.learn(256, callback=callback, reset_num_timesteps=False)
    assert "\n" not in str(raised.value)
    assert (env.ended, model.num_timesteps) == (ended, steps)


@pytest.mark.parametrize("told", [float("nan"), np.float32("nan")])
def test_success_that_is_no_number_is_unknown(told: float) -> None:
    class Says(gym.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            result = super().step(action)
            result[4]["is_success"] = told
            return result

    # One without a threshold.
    inner = CartPoleEnv()
    env = TimeLimit(Says(inner), 5)
    model = PPO("MlpPolicy", env, **PPO_SMALL)
    with track(settings(model), warn=quiet) as run:
        model.learn(64, callback=Track(run))
    assert {one.success for one in episodes_of(run.id)} == {None}


class Game(gym.Env[Any, Any]):
    """So many steps, each worth a point; a tenth of them is a life."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return np.zeros(1, np.float32), 1.0, self.t >= self.steps, False, {}


class Lives(gym.Wrapper[Any, Any, Any, Any]):
    """Ends an episode with each life, and resets only after a game, as for Atari."""

    over = True

    def reset(self, **options: Any) -> Any:
        return self.env.reset(**options) if self.over else (np.zeros(1, np.float32), {})

    def step(self, action: Any) -> Any:
        seen, reward, ended, cut, info = self.env.step(action)
        self.over = ended or cut
        life = ended or self.unwrapped.t % (self.unwrapped.steps // 3) == 0  # type: ignore[attr-defined]
        return seen, reward / 2, life, cut, info  # a clipped reward


class Enough(gym.Wrapper[Any, Any, Any, Any]):
    """Ends each episode after ten steps."""

    def step(self, action: Any) -> Any:
        seen, reward, _, cut, info = self.env.step(action)
        return seen, reward, self.unwrapped.t >= 10, cut, info  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Lives(Monitor(Game(30))), [(30, 30.0)] * 2),  # as make_atari_env
        (lambda: Monitor(Lives(Game(30))), [(10, 5.0)] * 6),
        (lambda: TimeLimit(Monitor(Game(30)), 20), [(20, 20.0)] * 3),  # the Monitor sees no end
        (lambda: Enough(Monitor(Game(30))), [(10, 10.0)] * 6),
        (lambda: TimeLimit(Lives(Monitor(Game(60))), 30), [(60, 60.0)]),  # the game goes on
    ],
)
def test_one_counting_throughout(make: Any, expected: list[tuple[int, float]]) -> None:
    options = {**PPO_SMALL, "n_steps": 60, "batch_size": 60}
    with track({}, warn=quiet) as run:
        PPO("MlpPolicy", DummyVecEnv([make]), **options).learn(60, callback=Track(run))
    assert [(one.steps, one.reward) for one in episodes_of(run.id)] == expected


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_what_is_asked_of_the_logger_is_there_or_its_absence_is_said(kind: Any) -> None:
    class Mine(BaseCallback):
        def _on_rollout_end(self) -> None:
            self.logger.record("mine/number", np.float32(7))
            self.logger.record("mine/text", "seven")

        def _on_step(self) -> bool:
            return True

    names = [
        "train/loss",
        "rollout/ep_rew_mean",
        "time/fps",
        "mine/number",
        "mine/text",
        "train/los",
    ]
    more = {"learning_starts": 50} if kind is DQN else PPO_SMALL
    with track({}, warn=quiet) as run:
        model = kind("MlpPolicy", "CartPole-v1", **{**SMALL, **more})
        model.learn(600, callback=[Mine(), Track(run, metrics=names)])
    assert set(episodes_of(run.id)[-1].metrics) == set(names[:4])
    assert [text for text in run.warnings if text.startswith("metrics")] == [
        "metrics: the model logged no mine/text (not a number)",
        "metrics: the model logged no train/los (did you mean train/loss?)",
    ]


def test_without_a_run_each_training_makes_its_own() -> None:
    callback = Track()  # as rl-zoo3 makes it, from `callback: qn_tracking_sb3.Track`
    model = PPO("MlpPolicy", "CartPole-v1", **PPO_SMALL)
    ids = []
    for _ in range(2):
        model.learn(200, callback=callback)
        run = callback.run
        assert run is not None
        assert run.experiment is not None
        experiment = run.experiment
        assert (experiment.status, experiment.seed) == ("completed", 3)
        assert (experiment.subject.environment, experiment.subject.brain) == ("CartPole-v1", "ppo")
        assert experiment.config.data["settings"]["n_steps"] == 64
        assert experiment.results.episodes > 0
        ids.append(run.id)
    assert len(set(ids)) == 2
    assert model.logger.output_formats == []


def test_an_algorithm_without_steps_is_refused_at_the_start() -> None:
    class ARS(BaseAlgorithm):  # as in sb3-contrib
        _setup_model = learn = None  # type: ignore[assignment]

    ARS.__abstractmethods__ = frozenset()
    with track({}, warn=quiet) as run:
        callback = Track(run)
        callback.init_callback(ARS(BasePolicy, "CartPole-v1", 0.1))
        with pytest.raises(UsageError, match="^ARS does not report its steps .*TrackEpisodes"):
            callback.on_training_start({}, {})


def test_inside_of_a_callback_that_leaves_out_steps_it_is_refused() -> None:
    """Of five episodes it would record one."""
    with track({}, warn=quiet) as run, pytest.raises(UsageError, match="does not see every step"):
        PPO("MlpPolicy", "CartPole-v1", **PPO_SMALL).learn(64, EveryNTimesteps(32, Track(run)))


@pytest.mark.parametrize("environments", [1, 3])
def test_it_may_be_one_of_several_and_go_on_with_a_training(environments: int) -> None:
    vector = make_vec_env("CartPole-v1", environments, seed=1)
    model = PPO("MlpPolicy", vector, **PPO_SMALL)
    with track({}, warn=quiet) as run:
        callback = Track(run)
        for fresh in (True, False, True):
            several = CallbackList([EveryNTimesteps(32, CallbackList([])), callback])
            model.learn(64 * environments, several, reset_num_timesteps=fresh)
    assert run.experiment is not None
    assert run.experiment.results.episodes > 3


def test_names_are_several() -> None:
    with pytest.raises(UsageError, match="metrics: expected names, got one text"):
        Track(metrics="train/loss")


def test_settings_hold_what_a_configuration_can() -> None:
    model = PPO(
        "MlpPolicy",
        "CartPole-v1",
        **{**PPO_SMALL, "n_steps": np.int64(64)},
        gamma=np.float32(0.5),
        max_grad_norm=np.float64("inf"),
        target_kl=float("nan"),
        learning_rate=lambda left: left / 10 if left else float("-inf"),
    )
    found = settings(model)["settings"]
    assert (found["gamma"], type(found["gamma"])) == (0.5, float)
    assert (found["n_steps"], type(found["n_steps"])) == (64, int)
    assert (found["max_grad_norm"], found["target_kl"]) == ("inf", "nan")
    assert found["learning_rate"] == {"start": 0.1, "end": "-inf"}
    with track(settings(model), warn=quiet) as run:
        run.episode(reward=1.0)
    assert run.experiment is not None
    assert run.experiment.config.data["settings"]["max_grad_norm"] == "inf"


def test_settings_are_plain_and_complete() -> None:
    def schedule(left: float) -> float:
        return 0.001 * left

    model = PPO("MlpPolicy", "CartPole-v1", learning_rate=schedule, **PPO_SMALL)
    found = settings(model)
    assert json.loads(json.dumps(found)) == found
    assert found["settings"]["learning_rate"] == {"start": 0.001, "end": 0.0}
    assert found["settings"]["clip_range"] == 0.2
    assert found["settings"]["gamma"] == 0.99
    assert found["settings"]["policy"] == "ActorCriticPolicy"
    assert found["settings"]["device"] == "cpu"
    assert found["environment"]["count"] == 1


class TestTorchFacts(SinkContract):
    def make_sink(self, tmp_path: Path) -> TorchFacts:
        return TorchFacts()


def test_facts_of_torch_are_in_the_record() -> None:
    with track({"a": 1}, plugins=["torch"], warn=quiet) as run:
        run.episode(reward=float(np.float32(1)))
    assert run.experiment is not None
    assert run.experiment.facts["torch"]["threads"] == 1


def test_the_readmes_example_works() -> None:
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    Path("train.py").write_text(text.partition("```python\n")[2].partition("```")[0])
    done = subprocess.run([sys.executable, "train.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = Path("experiments").glob("*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "completed"
    assert f"{record['results']['episodes']} episodes in {record['id']}" in done.stdout
