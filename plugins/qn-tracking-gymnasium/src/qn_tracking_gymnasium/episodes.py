"""The wrapper for your own loop around one environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium
from gymnasium.wrappers import Autoreset

from qn_tracking.plugin import UsageError
from qn_tracking_gymnasium.ending import Ending, EpisodeWriter, Run, Success, check_seed


class TrackEpisodes(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Counts steps and rewards, and records each episode on `run` when it ends.

    Observations, rewards and infos are returned unchanged, as the same objects. The seed of `reset`
    is recorded with its episode. `success` is a function of an `Ending`, or the least sum of
    rewards; by default it is `info["is_success"]` or `info["success"]` at the end, else unknown.
    `info` has the keys whose values at the end become metrics: a list, or a mapping to the names of
    the metrics.

    An episode that `reset` or `close` cuts short has no end and is not recorded. `abandoned` counts
    those that a `reset` cut short; the first causes a warning of the run. Steps between an end
    and the next `reset` belong to no episode.

    Raises UsageError for an environment that resets itself, because the step that resets looks like
    a step of an episode. `step` also raises the errors of `run.episode`.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        run: Run,
        *,
        success: Success = None,
        info: Mapping[str, str] | Iterable[str] = (),
    ) -> None:
        super().__init__(env)
        inner: Any = env
        while isinstance(inner, gymnasium.Wrapper):
            if isinstance(inner, Autoreset):
                raise UsageError(
                    "TrackEpisodes cannot be put around Autoreset",
                    hint="put it inside: Autoreset(TrackEpisodes(env, run))",
                )
            inner = inner.env
        self._writer = EpisodeWriter(run, success, info)
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
        if self._live and self._steps:
            self.abandoned += 1
            if self.abandoned == 1:
                self._writer.warn_abandoned(self._steps)
        self._live = False
        result = self.env.reset(seed=seed, options=options)
        self._live, self._seed, self._steps, self._total = True, seed, 0, 0.0
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a step; the last one of an episode records it before it returns."""
        result = self.env.step(action)
        if self._live:
            _, reward, terminated, truncated, info = result
            self._steps += 1
            self._total += float(reward)
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
