"""The wrapper for a loop of one's own around one environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium
from gymnasium.wrappers import Autoreset

from qn_tracking.plugin import UsageError
from qn_tracking_gymnasium.ending import Ending, Run, Success, Teller, check_seed


class TrackEpisodes(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Counts in `step`, and tells `run` of each episode when it is terminated or truncated.

    Observations, rewards and infos pass unchanged, as the objects that they are. The seed that
    `reset` was given is recorded with its episode. `success` is a function of an `Ending`, or the
    least sum of rewards; without it, what `info["is_success"]` or `info["success"]` says at the
    end, else unknown. `info` names keys whose values at the end become metrics: a list, or a
    mapping to the names that they get in the record.

    An episode that `reset` or `close` cuts short has no end and is not recorded; `abandoned` counts
    those that a `reset` did, and the first of them is a warning of the run. Steps between an end
    and the next `reset` belong to no episode.

    Raises UsageError for an environment that resets itself: the step that does so could not be told
    from one of an episode. From `step` comes what `run.episode` raises.
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
                    "TrackEpisodes around Autoreset",
                    hint="put it inside: Autoreset(TrackEpisodes(env, run))",
                )
            inner = inner.env
        self._teller = Teller(run, success, info)
        self.abandoned = 0
        self._live = False
        self._seed: int | None = None
        self._steps = 0
        self._total = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """An episode begins. Raises UsageError for a seed that cannot be recorded."""
        check_seed(seed)
        if self._live and self._steps:
            self.abandoned += 1
            if self.abandoned == 1:
                self._teller.tell_abandoned(self._steps)
        self._live = False
        result = self.env.reset(seed=seed, options=options)
        self._live, self._seed, self._steps, self._total = True, seed, 0, 0.0
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """A step; the last one of an episode is told before it returns."""
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
                self._teller.tell(ending, self._seed)
        return result
