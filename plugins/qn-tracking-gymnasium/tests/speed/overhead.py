"""What a step costs with the wrappers and without: `python tests/speed/overhead.py`."""

from __future__ import annotations

from statistics import median
from time import perf_counter_ns
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from qn_tracking import Recorder, make_manager
from qn_tracking_gymnasium import TrackEpisodes, TrackVectorEpisodes

STEPS, ROUNDS = 20_000, 15


class Idle(gymnasium.Env[int, int]):
    """Costs as little as an environment can."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, ends: bool = False) -> None:
        self.result: Any = (0, 1.0, ends, False, {})

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return self.result  # type: ignore[no-any-return]


class IdleVector(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Costs as little as a vector can; no episode ends."""

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, n: int) -> None:
        self.num_envs = n
        no = np.zeros(n, dtype=bool)
        self.result: Any = (None, np.ones(n), no, no, {})

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return None, {}

    def step(self, actions: Any) -> Any:
        return self.result


def single(env: Any) -> float:
    """Nanoseconds of a step, episodes that end included."""
    env.reset(seed=1)
    step, action = env.step, 0
    began = perf_counter_ns()
    for _ in range(STEPS):
        _, _, ended, cut, _ = step(action)
        action = 1 - action
        if ended or cut:
            env.reset()
    return (perf_counter_ns() - began) / STEPS


def many(envs: Any) -> float:
    """Nanoseconds of a step of all."""
    envs.reset(seed=1)
    actions = np.zeros(envs.num_envs, dtype=int)
    began = perf_counter_ns()
    for _ in range(STEPS // 10):
        envs.step(actions)
    return (perf_counter_ns() - began) / (STEPS // 10)


def compare(name: str, measure: Any, bare: Any, wrapped: Any) -> None:
    """Prints medians; the two by turns, so that a busy machine is busy for both."""
    pairs = [(measure(bare), measure(wrapped)) for _ in range(ROUNDS)]
    without, with_it = (median(column) for column in zip(*pairs, strict=True))
    extra = median(after - before for before, after in pairs)
    print(f"{name:<34}{without:>10,.0f}{with_it:>10,.0f}{extra:>+10,.0f} ns")


def main() -> None:
    with Recorder({}, manager=make_manager(), command=["speed"], warn=lambda text: None) as run:
        print(f"{'':<34}{'bare':>10}{'wrapped':>10}{'more':>10}")
        compare("a step of nothing", single, Idle(), TrackEpisodes(Idle(), run))
        compare("an episode of one step", single, Idle(True), TrackEpisodes(Idle(True), run))
        made = (gymnasium.make("CartPole-v1") for _ in range(2))
        compare("a step of CartPole-v1", single, next(made), TrackEpisodes(next(made), run))
        for n in (4, 64, 1024):
            wrapped = TrackVectorEpisodes(IdleVector(n), run)
            compare(f"a step of {n} of nothing", many, IdleVector(n), wrapped)


if __name__ == "__main__":
    main()
