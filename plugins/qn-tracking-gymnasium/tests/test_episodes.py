"""The wrapper for one environment: it counts, tells once, and changes nothing."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import find_highest_version
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import Autoreset, RecordEpisodeStatistics, TimeLimit

from qn_tracking import Subject
from qn_tracking.errors import UsageError
from qn_tracking_gymnasium import Ending, TrackEpisodes


class Scripted(gymnasium.Env[int, int]):
    """Returns what it was given, step by step."""

    observation_space = gymnasium.spaces.Discrete(100)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, *steps: tuple[Any, bool, bool, dict[str, Any]]) -> None:
        self.steps, self.at = steps, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        self.at = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, Any, bool, bool, dict[str, Any]]:
        self.at += 1
        return self.at, *self.steps[self.at - 1]


@pytest.fixture
def episode(recording: Any) -> Any:
    """Plays an episode of one step; how it is recorded."""

    def play_one(reward: Any = 1.0, said: dict[str, Any] | None = None, **options: Any) -> Any:
        with recording() as (run, recorded):
            env = TrackEpisodes(Scripted((reward, True, False, said or {})), run, **options)
            env.reset()
            env.step(0)
        (one,) = recorded.episodes
        return one

    return play_one


TAXI = f"Taxi-v{find_highest_version(None, 'Taxi')}"


@pytest.mark.parametrize("id", ["CartPole-v1", "FrozenLake-v1", "MountainCar-v0", TAXI])
def test_it_records_what_a_loop_without_it_counts(id: str, recording: Any, play: Any) -> None:
    kwargs = {"is_slippery": True} if id == "FrozenLake-v1" else {}
    bare = play(gymnasium.make(id, **kwargs), range(20))
    with recording() as (run, recorded):
        env = TrackEpisodes(gymnasium.make(id, **kwargs), run)
        assert play(env, range(20)) == bare
    assert recorded.values("steps", "reward", "termination") == bare
    assert recorded.values("seed") == [(seed,) for seed in range(20)]
    assert [len(one.metrics) for one in recorded.episodes] == [0] * 20


def test_observations_rewards_and_infos_pass_as_they_are(recording: Any) -> None:
    info = {"is_success": True, "x": 1.0}
    inner = Scripted((np.float32(0.1), False, False, info), (2, True, False, info))
    with recording() as (run, recorded):
        env = TrackEpisodes(inner, run, info=["x"])
        assert env.reset(seed=5, options={"a": 1}) == (0, {})
        first = env.step(0)
        assert first[3] is False
        assert first[1].dtype == np.float32
        assert first[4] is info
        assert env.step(1)[1] == 2
    assert info == {"is_success": True, "x": 1.0}
    assert env.unwrapped is inner
    assert recorded.values("reward", "steps") == [(float(np.float32(0.1)) + 2, 2)]


@pytest.mark.parametrize(
    ("ended", "cut", "said"),
    [(True, False, "terminated"), (False, True, "truncated"), (True, True, "terminated")],
)
def test_how_it_ended(ended: bool, cut: bool, said: str, recording: Any) -> None:
    with recording() as (run, recorded):
        env = TrackEpisodes(Scripted((1.0, ended, cut, {})), run)
        env.reset()
        env.step(0)
    assert recorded.values("termination") == [(said,)]


@pytest.mark.parametrize(
    ("info", "success"),
    [
        ({"is_success": True}, True),
        ({"is_success": np.float32(0.0)}, False),
        ({"success": np.bool_(True)}, True),
        ({"success": 0}, False),
        ({"is_success": False, "success": True}, False),
        ({"is_success": float("nan")}, None),
        ({"is_success": None}, None),
        ({"is_success": None, "success": True}, True),
        ({"is_success": np.array([True])}, True),
        ({"success": np.array([0.0])}, False),
        ({"success": np.float32("nan")}, None),
        ({}, None),
    ],
)
def test_the_environment_may_say_what_a_success_is(
    info: dict[str, Any], success: Any, episode: Any
) -> None:
    assert episode(said=info).success is success


def test_the_host_may_say_what_a_success_is(episode: Any) -> None:
    assert episode(reward=2, success=2, said={"is_success": False}).success is True
    assert episode(reward=1.9, success=2).success is False
    seen: list[Ending] = []

    def succeeded(ending: Ending) -> bool | None:
        seen.append(ending)
        return None

    assert episode(reward=4, said={"a": 1}, success=succeeded).success is None
    assert seen == [Ending(steps=1, reward=4.0, terminated=True, truncated=False, info={"a": 1})]


def test_chosen_infos_become_metrics_under_the_names_of_the_host(recording: Any) -> None:
    info = {"x_position": np.float64(2.5), "laps": 3, "other": "text"}
    with recording() as (run, recorded):
        env = TrackEpisodes(
            Scripted((1.0, True, False, info)), run, info={"x_position": "x", "absent": "absent"}
        )
        env.reset()
        env.step(0)
        env = TrackEpisodes(Scripted((1.0, True, False, info)), run, info=["laps"])
        env.reset()
        env.step(0)
        infos = {"laps": np.array([3.0]), "none": None}
        env = TrackEpisodes(Scripted((1.0, True, False, infos)), run, info=list(infos))
        env.reset()
        env.step(0)
    assert recorded.values("metrics") == [({"x": 2.5},), ({"laps": 3.0},), ({"laps": 3.0},)]


def test_an_info_that_is_no_number_stops_the_loop_naming_it(recording: Any) -> None:
    with recording() as (run, recorded):
        env = TrackEpisodes(Scripted((1.0, True, False, {"a": "text"})), run, info=["a"])
        env.reset()
        with pytest.raises(TypeError, match="^metrics.a: expected a number, got str"):
            env.step(0)
    assert recorded.episodes == []


def test_an_episode_that_is_cut_short_is_not_recorded(recording: Any, play: Any) -> None:
    with recording() as (run, recorded):
        env = TrackEpisodes(gymnasium.make("CartPole-v1"), run)
        env.reset(seed=1)  # nothing was done: nothing is lost
        for _ in range(2):
            env.reset(seed=2)
            env.step(0)
            env.step(1)
        assert env.abandoned == 1
        play(env, range(3, 4))
        assert env.abandoned == 2
        env.reset()
        env.step(0)
        env.close()
    assert recorded.values("seed") == [(3,)]
    assert recorded.warnings == [
        "reset() after 2 steps: an episode without an end is not recorded; if another wrapper "
        "ends it, put the tracking around that one (one warning)"
    ]


def test_steps_after_the_end_belong_to_no_episode(recording: Any) -> None:
    with recording() as (run, recorded):
        env = TrackEpisodes(Scripted((1.0, True, False, {}), (1.0, True, False, {})), run)
        env.step(0)  # and those before the first reset
        env.reset()
        env.step(0)
        env.step(0)
    assert recorded.values("steps", "reward") == [(1, 1.0)]


def test_the_seed_is_of_the_episode_that_it_was_given_for(recording: Any) -> None:
    with recording() as (run, recorded):
        env = TrackEpisodes(Scripted((1.0, True, False, {})), run)
        for seed in (7, None, np.int64(8)):
            env.reset(seed=seed)  # type: ignore[arg-type]
            env.step(0)
        with pytest.raises(UsageError, match="seed 9007199254740992 cannot be recorded"):
            env.reset(seed=2**53)
    assert recorded.values("seed") == [(7,), (None,), (8,)]


def test_it_stands_among_other_wrappers(recording: Any, play: Any) -> None:
    with recording() as (run, recorded):
        inner = TimeLimit(gymnasium.make("CartPole-v1").unwrapped, 5)
        env = RecordEpisodeStatistics(TrackEpisodes(inner, run))
        assert [steps for steps, *_ in play(env, range(3))] == [5, 5, 5]
        auto = Autoreset(TrackEpisodes(inner, run))
        auto.reset(seed=1)
        for _ in range(12):  # five, a reset, five, a reset
            auto.step(0 if auto.unwrapped.state[3] > 0 else 1)  # type: ignore[attr-defined]
        with pytest.raises(
            UsageError, match=r"TrackEpisodes cannot be put around Autoreset \(put it inside"
        ):
            TrackEpisodes(TimeLimit(Autoreset(inner), 9), run)
    assert recorded.values("steps", "termination") == [(5, "truncated")] * 5


def test_nothing_is_recorded_twice_on_one_run(recording: Any, play: Any) -> None:
    with recording() as (run, _), recording() as (other, recorded):
        inner = TrackEpisodes(gymnasium.make("CartPole-v1"), run)
        with pytest.raises(UsageError, match="tracked on this run already"):
            TrackEpisodes(TimeLimit(inner, 5), run)
        play(TrackEpisodes(inner, other), range(2))  # two runs are another matter
    assert len(recorded.episodes) == 2


@pytest.mark.parametrize(
    "reward", [np.array([1.5]), np.array(1.5), np.float32(1.5), Fraction(3, 2)]
)
def test_a_reward_may_be_an_array_of_one_element(episode: Any, reward: Any) -> None:
    assert episode(reward).reward == 1.5


@pytest.mark.parametrize("reward", [None, "1.5", np.array([1.0, 2.0])])
def test_a_reward_that_is_no_number_is_named(episode: Any, reward: Any) -> None:
    with pytest.raises(TypeError, match="^reward: expected a number, got"):
        episode(reward)


def test_a_time_limit_around_it_ends_episodes_too(recording: Any, play: Any) -> None:
    with recording() as (run, recorded):
        inner = TrackEpisodes(gymnasium.make("CartPole-v1").unwrapped, run)
        env = TimeLimit(RecordEpisodeStatistics(inner), 15)
        bare = play(env, range(5))
        assert recorded.values("steps", "reward", "termination") == bare
        assert {how for *_, how in bare} == {"terminated", "truncated"}
        auto = Autoreset(TimeLimit(inner, 5))
        auto.reset(seed=1)
        for _ in range(12):
            auto.step(0 if auto.unwrapped.state[3] > 0 else 1)  # type: ignore[attr-defined]
        for _ in range(20):  # without the limit again
            inner.reset(seed=2)
            while not any(inner.step(0)[2:4]):
                pass
        assert recorded.values("steps", "termination")[5:7] == [(5, "truncated")] * 2
        assert {how for (how,) in recorded.values("termination")[7:]} == {"terminated"}
    assert recorded.warnings == []


def test_where_a_wrapper_between_repeats_steps_the_limit_is_not_guessed(recording: Any) -> None:
    class Twice(gymnasium.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            self.env.step(action)
            return self.env.step(action)

    with recording() as (run, recorded):
        env = TimeLimit(Twice(TrackEpisodes(gymnasium.make("CartPole-v1").unwrapped, run)), 3)
        for seed in range(2):
            env.reset(seed=seed)
            assert [env.step(action % 2)[3] for action in range(3)] == [False, False, True]
        env.reset()
    assert recorded.episodes == []
    assert recorded.warnings[0].startswith("reset() after 6 steps")


@pytest.mark.filterwarnings("ignore")
def test_it_passes_the_checker_of_environments_and_is_made_again_from_its_spec(
    recording: Any, play: Any
) -> None:
    with recording() as (run, recorded):
        env: Any = TrackEpisodes(gymnasium.make("CartPole-v1"), run, success=lambda _: True)
        check_env(env, skip_render_check=True)
        recorded.episodes.clear()
        again: Any = gymnasium.make(RecordEpisodeStatistics(env).spec)
        play(again, range(2))
    assert str(again).startswith("<RecordEpisodeStatistics<TrackEpisodes<")
    assert recorded.values("seed", "success") == [(0, True), (1, True)]  # on the same run


@pytest.mark.parametrize("subject", [Subject(), Subject(environment="mine", brain="b")])
def test_the_record_has_the_id_of_the_environment_unless_it_has_one(
    subject: Subject, recording: Any, play: Any
) -> None:
    with recording(subject=subject) as (run, _):
        TrackEpisodes(Scripted(), run)  # it has none
        TrackEpisodes(gymnasium.make("CartPole-v1"), run)
        TrackEpisodes(gymnasium.make("MountainCar-v0"), run)
    assert run.experiment.subject.environment == (subject.environment or "CartPole-v1")
    assert run.experiment.subject.brain == subject.brain


WORKERS = """
import gymnasium
from gymnasium.vector import AsyncVectorEnv
from qn_tracking import track
from qn_tracking_gymnasium import TrackEpisodes

if __name__ == "__main__":
    with track({{"a": 1}}) as run:
        make = lambda: TrackEpisodes(gymnasium.make("CartPole-v1"), run)
        AsyncVectorEnv([make] * 2, context={context!r}).reset()
"""


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_in_a_worker_of_a_vector_it_names_the_wrapper_for_vectors(
    context: str, program: Any
) -> None:
    ended = program("python", "-W", "ignore", "-c", WORKERS.format(context=context))
    assert ended.returncode == 1
    assert "TrackVectorEpisodes" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"success": "yes"}, "success: expected a function or a number, got 'yes'"),
        ({"success": float("nan")}, "success: expected a function or a number, got nan"),
        ({"info": "x"}, "info: expected a list or a mapping of names, got 'x'"),
        ({"info": {"x": 3}}, "info: expected names, got 3"),
        ({"info": ["reward"]}, "info: reward is recorded already (give it another name)"),
        ({"info": {"a": "x", "b": "x"}}, "info: two keys have the same name"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    options: dict[str, Any], said: str, recording: Any
) -> None:
    with recording() as (run, _), pytest.raises(UsageError) as raised:
        TrackEpisodes(Scripted(), run, **options)
    assert str(raised.value) == said


def test_success_that_is_no_truth_value_is_refused(episode: Any) -> None:
    with pytest.raises(TypeError, match=r"info\['success'\]: expected true, false or a number"):
        episode(said={"success": "no"})
