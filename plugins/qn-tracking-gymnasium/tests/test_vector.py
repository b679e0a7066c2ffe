"""The wrapper for vectors: each environment by itself, whatever resets them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from qn_tracking.errors import UsageError
from qn_tracking_gymnasium import TrackEpisodes, TrackVectorEpisodes

KINDS = [SyncVectorEnv, AsyncVectorEnv]
MODES = list(AutoresetMode)
Step = tuple[float, bool, bool, dict[str, Any]]


class Scripted(gymnasium.Env[int, int]):
    """Episode after episode, each a list of steps."""

    observation_space = gymnasium.spaces.Discrete(100)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, *episodes: list[Step]) -> None:
        self.episodes, self.number = episodes, -1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        self.number, self.at = self.number + 1, 0
        return 0, {"began": self.number}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.at += 1
        return self.at, *self.episodes[self.number][self.at - 1]


def lasting(steps: int, worth: float = 1.0, **info: Any) -> list[Step]:
    """An episode of so many steps."""
    return [(worth, False, False, {})] * (steps - 1) + [(worth, True, False, info)]


def reset_by_hand(envs: VectorEnv[Any, Any, Any], result: Any) -> None:
    """What a loop does where nothing is reset by itself."""
    over = np.logical_or(result[2], result[3])
    if over.any():
        envs.reset(options={"reset_mask": over})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_environment_is_counted_by_itself(
    kind: Any, mode: AutoresetMode, recording: Any
) -> None:
    def make(i: int) -> Callable[[], gymnasium.Env[int, int]]:
        # One of i+2 steps, then of 3, then of 3 …, each step worth i+1
        return partial(Scripted, lasting(i + 2, i + 1.0), *[lasting(3, i + 1.0)] * 5)

    with recording() as (run, recorded):
        envs = TrackVectorEpisodes(kind([make(i) for i in range(3)], autoreset_mode=mode), run)
        envs.reset()
        for _ in range(6):
            result = envs.step(np.zeros(3, dtype=int))
            if mode is AutoresetMode.DISABLED:
                reset_by_hand(envs, result)
        envs.close()
    told = recorded.values("steps", "reward")
    first = [(2, 2.0), (3, 6.0), (4, 12.0)]
    if mode is AutoresetMode.NEXT_STEP:  # the resets take a step each
        assert told == [*first, (3, 3.0)]
    else:
        assert told == [*first, (3, 3.0), (3, 6.0)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_those_that_end_together_are_told_by_index(
    kind: Any, mode: AutoresetMode, recording: Any
) -> None:
    with recording() as (run, recorded):
        scripts = [partial(Scripted, lasting(2, float(i)), lasting(9)) for i in range(5)]
        envs = TrackVectorEpisodes(kind(scripts, autoreset_mode=mode), run)
        envs.reset(seed=100)
        envs.step(np.zeros(5, dtype=int))
        envs.step(np.zeros(5, dtype=int))
        envs.close()
    assert recorded.values("reward", "seed") == [(2.0 * i, 100 + i) for i in range(5)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_success_and_metrics_are_of_the_last_step_of_their_environment(
    kind: Any, mode: AutoresetMode, recording: Any
) -> None:
    with recording() as (run, recorded):
        scripts = [
            partial(Scripted, lasting(2, is_success=True, x=1.5, deep={"y": 1}), lasting(9)),
            partial(Scripted, lasting(3, is_success=False, x=2.5), lasting(9)),
            partial(Scripted, lasting(2), lasting(9)),
        ]
        envs = TrackVectorEpisodes(
            kind(scripts, autoreset_mode=mode), run, info={"x": "place", "began": "began"}
        )
        envs.reset()
        for _ in range(3):
            result = envs.step(np.zeros(3, dtype=int))
            if mode is AutoresetMode.DISABLED:
                reset_by_hand(envs, result)
        envs.close()
    assert recorded.values("success", "metrics") == [
        (True, {"place": 1.5}),
        (None, {}),
        (False, {"place": 2.5}),
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_episodes_are_those_of_single_environments(
    kind: Any, mode: AutoresetMode, recording: Any, play: Any
) -> None:
    env = gymnasium.make("CartPole-v1")
    single = [play(env, range(seed, seed + 1), actions=seed)[0] for seed in (3, 4, 5)]
    with recording() as (run, recorded):
        makers = [partial(gymnasium.make, "CartPole-v1")] * 3
        envs = TrackVectorEpisodes(kind(makers, autoreset_mode=mode), run, success=475)
        draws = [gymnasium.spaces.Discrete(2, seed=seed) for seed in (3, 4, 5)]
        envs.reset(seed=[3, 4, 5])
        while len({one.seed for one in recorded.episodes} - {None}) < 3:
            result = envs.step(np.array([draw.sample() for draw in draws]))
            if mode is AutoresetMode.DISABLED:
                reset_by_hand(envs, result)
        envs.close()
    found = {one.seed: (one.steps, one.reward, one.termination) for one in recorded.episodes}
    assert [found[seed] for seed in (3, 4, 5)] == single
    assert {one.success for one in recorded.episodes} == {False}


@pytest.mark.parametrize(
    "make",
    [
        partial(gymnasium.make_vec, "CartPole-v1", num_envs=2),
        partial(gymnasium.make_vec, "CartPole-v1", num_envs=2, vectorization_mode="async"),
        partial(SyncVectorEnv, [partial(gymnasium.make, "CartPole-v1")]),
    ],
)
def test_the_record_has_the_id_of_the_environments(make: Any, recording: Any) -> None:
    with recording() as (run, _):
        TrackVectorEpisodes(make(), run).close()
    assert run.experiment.subject.environment == "CartPole-v1"


def test_what_the_vector_returns_passes_as_it_is(recording: Any) -> None:
    bare = gymnasium.make_vec("CartPole-v1", num_envs=3)
    with recording() as (run, _):
        envs = TrackVectorEpisodes(gymnasium.make_vec("CartPole-v1", num_envs=3), run)
        for one in (bare, envs):
            one.action_space.seed(1)
        for left, right in zip(bare.reset(seed=1), envs.reset(seed=1), strict=True):
            np.testing.assert_equal(left, right)
        for _ in range(100):
            left, right = (
                bare.step(bare.action_space.sample()),
                envs.step(envs.action_space.sample()),
            )
            np.testing.assert_equal(left, right)


def test_a_vector_that_is_made_as_one_is_counted_too(recording: Any) -> None:
    with recording() as (run, recorded):
        bare = gymnasium.make_vec(
            "CartPole-v1", num_envs=4, vectorization_mode="vector_entry_point"
        )
        envs = TrackVectorEpisodes(bare, run)
        envs.reset(seed=1)
        for _ in range(60):
            envs.step(np.zeros(4, dtype=int))
    assert len(recorded.episodes) > 12
    assert all(7 <= one.steps <= 12 and one.reward == one.steps for one in recorded.episodes)  # type: ignore[operator]


def test_a_reset_of_all_or_some_cuts_episodes_short(recording: Any) -> None:
    with recording() as (run, recorded):
        scripts = [partial(Scripted, *[lasting(3)] * 5)] * 3
        made = SyncVectorEnv(scripts, autoreset_mode=AutoresetMode.DISABLED)
        envs = TrackVectorEpisodes(made, run)
        zeros = np.zeros(3, dtype=int)
        envs.reset(seed=10)
        envs.step(zeros)
        options = {"reset_mask": np.array([True, False, False])}
        envs.reset(seed=[50, 60, 70], options=options)
        assert options == {}
        envs.step(zeros)
        envs.step(zeros)
        assert recorded.values("seed", "steps") == [(11, 3), (12, 3)]
        envs.reset()
        assert envs.abandoned == 2
        envs.reset(seed=1)
        assert envs.abandoned == 2
    assert len(recorded.warnings) == 1
    assert len(recorded.episodes) == 2


def test_seeds_that_no_record_holds_are_refused(recording: Any) -> None:
    with recording() as (run, _):
        envs = TrackVectorEpisodes(gymnasium.make_vec("CartPole-v1", num_envs=2), run)
        for seed in (2**53 - 1, [1, 2**60]):
            with pytest.raises(UsageError, match="cannot be recorded"):
                envs.reset(seed=seed)


def test_each_wrapper_names_the_other_where_that_one_is_meant(recording: Any) -> None:
    with recording() as (run, _):
        with pytest.raises(UsageError, match="for one environment.*TrackVectorEpisodes"):
            TrackEpisodes(gymnasium.make_vec("CartPole-v1", 2), run)  # type: ignore[arg-type]
        with pytest.raises(
            UsageError, match="expected a gymnasium.vector.VectorEnv, got .*TrackEpisodes"
        ):
            TrackVectorEpisodes(gymnasium.make("CartPole-v1"), run)  # type: ignore[arg-type]


def test_a_vector_that_does_not_say_how_it_resets_is_refused(recording: Any) -> None:
    envs = gymnasium.make_vec("CartPole-v1", num_envs=2)
    del envs.metadata["autoreset_mode"]
    with recording() as (run, _), pytest.raises(UsageError, match="expected an autoreset_mode"):
        TrackVectorEpisodes(envs, run)


def test_nothing_is_recorded_twice_on_one_run(recording: Any) -> None:
    with recording() as (run, _):
        tracked = SyncVectorEnv([lambda: TrackEpisodes(Scripted(lasting(2)), run)])
        with pytest.raises(UsageError, match="tracked on this run already"):
            TrackVectorEpisodes(tracked, run)
        once = TrackVectorEpisodes(SyncVectorEnv([lambda: Scripted(lasting(2))]), run)
        with pytest.raises(UsageError, match="tracked on this run already"):
            TrackVectorEpisodes(once, run)
