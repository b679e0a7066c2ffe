"""The wrapper for your own loop around one environment."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import gymnasium
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import Autoreset, TimeLimit

from qn_tracking.plugin import UsageError
from qn_tracking_gymnasium.ending import (
    Ending,
    EpisodeWriter,
    Run,
    Shared,
    Success,
    check_seed,
    reward_of,
    wrappers,
)


class TrackEpisodes(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Counts steps and rewards, and records each episode on `run` when it ends.

    Observations, rewards and infos are returned unchanged, as the same objects. The seed of `reset`
    is recorded with its episode. `success` is a function of an `Ending`, or the least sum of
    rewards; by default it is `info["is_success"]` or `info["success"]` at the end, else unknown.
    `info` has the keys whose values at the end become metrics: a list, or a mapping to the names of
    the metrics.

    `gymnasium.make(env.spec)` makes another environment that records on the same run. The run gets
    the id of the spec as its environment, if it has none. A `TimeLimit` around this wrapper ends
    an episode, too.

    An episode that `reset` or `close` cuts short has no end and is not recorded. `abandoned` counts
    those that a `reset` cut short; the first causes a warning of the run. Steps between an end
    and the next `reset` belong to no episode.

    Raises UsageError for a vector of environments; for an environment that resets itself, because
    the step that resets looks like a step of an episode; and in a forked process, such as a worker
    of `AsyncVectorEnv`, where the run does not record. `step` also raises the errors of
    `run.episode`.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        run: Run | Shared,
        *,
        success: Success | Shared = None,
        info: Mapping[str, str] | Iterable[str] = (),
    ) -> None:
        if isinstance(env, VectorEnv):
            raise UsageError(
                "TrackEpisodes is for one environment", hint="TrackVectorEpisodes is for many"
            )
        super().__init__(env)
        if any(isinstance(one, Autoreset) for one in wrappers(env)):
            raise UsageError(
                "TrackEpisodes cannot be put around Autoreset",
                hint="put it inside: Autoreset(TrackEpisodes(env, run))",
            )
        run, success = Shared(run), Shared(success)
        self._writer = EpisodeWriter(run.value, success.value, info, env.spec)
        for one in wrappers(env):
            self._writer.refuse_twice(one)
        RecordConstructorArgs.__init__(
            self, _disable_deepcopy=True, run=run, success=success, info=self._writer.names
        )
        self._limits: tuple[Any, ...] = ()
        self._elapsed: list[int] = []
        self.abandoned = 0
        self._live = False
        self._seed: int | None = None
        self._steps = 0
        self._total = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode. Raises UsageError for a seed that cannot be recorded."""
        check_seed(seed)
        self._writer.check_process()
        if self._live and self._steps:
            self.abandoned += 1
            if self.abandoned == 1:
                self._writer.warn_abandoned(self._steps)
        self._live = False
        result = self.env.reset(seed=seed, options=options)
        self._live, self._seed, self._steps, self._total = True, seed, 0, 0.0
        self._limits, self._elapsed = tuple(self._limits_around(sys._getframe(1))), []
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a step; the last one of an episode records it before it returns."""
        result = self.env.step(action)
        if self._live:
            _, reward, terminated, truncated, info = result
            self._steps += 1
            self._total += reward if type(reward) is float else reward_of(reward)
            truncated = truncated or (bool(self._limits) and self._limit_reached())
            if terminated or truncated:
                self._live = False
                ending = Ending(
                    steps=self._steps,
                    reward=self._total,
                    terminated=bool(terminated),
                    truncated=bool(truncated),
                    info=info,
                )
                self._writer.write(ending, self._seed)
        return result

    def _limit_reached(self) -> bool:
        """Whether a TimeLimit around this wrapper ends the episode after this step."""
        elapsed = [limit._elapsed_steps for limit in self._limits]
        if elapsed == self._elapsed:  # a wrapper between repeats steps: which is the last?
            self._limits = ()
        self._elapsed = elapsed
        return any(
            steps + 1 >= limit._max_episode_steps
            for steps, limit in zip(elapsed, self._limits, strict=False)
        )

    def _limits_around(self, frame: Any) -> Iterator[TimeLimit[Any, Any]]:
        """The time limits whose `reset` is calling: a wrapper does not know what is around it."""
        while frame is not None and isinstance(frame.f_locals.get("self"), gymnasium.Wrapper):
            outer = frame.f_locals["self"]
            if isinstance(outer, TimeLimit) and frame.f_code.co_name == "reset":
                yield outer
            frame = frame.f_back
