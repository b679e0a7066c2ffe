"""The wrapper for your own loop around a vector of environments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from qn_tracking.plugin import UsageError
from qn_tracking_gymnasium.ending import Ending, EpisodeWriter, Run, Success, check_seed, wrappers


class TrackVectorEpisodes(VectorWrapper):
    """As `TrackEpisodes`, for each environment of a vector; all record on one run.

    Episodes are recorded in the order in which they end, and by the index of their environment if
    they end in the same step. `metadata["autoreset_mode"]` says how environments are reset:
    `NEXT_STEP`, where the step after the end only resets and belongs to no episode; `SAME_STEP`,
    where the last info is `infos["final_info"]`; or `DISABLED`, with `options["reset_mask"]`.

    Raises UsageError for a vector without that mode, and for an environment that is no vector.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        run: Run,
        *,
        success: Success = None,
        info: Mapping[str, str] | Iterable[str] = (),
    ) -> None:
        if not isinstance(env, VectorEnv):
            raise UsageError(
                f"expected a gymnasium.vector.VectorEnv, got {type(env).__name__}",
                hint="TrackEpisodes is for one environment",
            )
        super().__init__(env)
        mode = env.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise UsageError(
                f"expected an autoreset_mode of the vector environment, got {mode!r}",
                hint='set metadata["autoreset_mode"] to a gymnasium.vector.AutoresetMode',
            )
        self._mode = mode
        self._writer = EpisodeWriter(run, success, info, _spec(env))
        for one in (env, *getattr(env.unwrapped, "envs", ())):
            for inner in wrappers(one):
                self._writer.refuse_twice(inner)
        self.abandoned = 0
        self._began = False
        n = env.num_envs
        self._live = np.zeros(n, dtype=bool)
        self._steps = np.zeros(n, dtype=np.int64)
        self._totals = np.zeros(n)
        self._seeds: list[int | None] = [None] * n

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes in all environments, or where `options["reset_mask"]` is true.

        `seed` is one number, to which environment i adds i, or a number or None for each.
        Raises UsageError for a seed that cannot be recorded.
        """
        n = self.env.num_envs
        # Before the call: the environments remove it from the options.
        mask = None if options is None else options.get("reset_mask")
        chosen = np.ones(n, dtype=bool) if mask is None else np.array(mask, dtype=bool)
        if seed is None or isinstance(seed, (int, np.integer)):
            seeds = [None if seed is None else int(seed) + i for i in range(n)]
        else:
            seeds = list(seed)
        for one in seeds:
            check_seed(one)
        result = self.env.reset(seed=seed, options=options)
        cut = self._live & chosen & (self._steps > 0)
        if cut.any():
            if not self.abandoned:
                self._writer.warn_abandoned(int(self._steps[cut][0]))
            self.abandoned += int(cut.sum())
        self._began = True
        self._live |= chosen
        self._steps[chosen] = 0
        self._totals[chosen] = 0.0
        self._seeds = [
            new if i else old for new, old, i in zip(seeds, self._seeds, chosen, strict=True)
        ]
        return result

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Make a step in all environments, and record the episodes that end with it."""
        result = self.env.step(actions)
        if not self._began:
            return result
        _, rewards, terminations, truncations, infos = result
        live = self._live
        self._steps += live
        np.add(self._totals, rewards, out=self._totals, where=live)
        ended = np.logical_or(terminations, truncations) & live
        if ended.any():
            if self._mode is AutoresetMode.SAME_STEP:
                infos = infos.get("final_info", {})
            for i in np.flatnonzero(ended).tolist():
                self._end(i, bool(terminations[i]), bool(truncations[i]), infos)
        if self._mode is AutoresetMode.NEXT_STEP:
            np.logical_not(ended, out=live)
        elif self._mode is AutoresetMode.DISABLED:
            live &= ~ended
        return result

    def _end(self, i: int, terminated: bool, truncated: bool, infos: Mapping[str, Any]) -> None:
        ending = Ending(
            steps=int(self._steps[i]),
            reward=float(self._totals[i]),
            terminated=terminated,
            truncated=truncated,
            info=_of(i, infos),
        )
        seed, self._seeds[i] = self._seeds[i], None
        self._steps[i], self._totals[i] = 0, 0.0
        self._writer.write(ending, seed)


def _spec(env: VectorEnv[Any, Any, Any]) -> Any:
    """The spec of a vector, which has one if `make_vec` made it, or of its environments here."""
    return env.spec or next((one.spec for one in getattr(env.unwrapped, "envs", ())), None)


def _of(i: int, infos: Mapping[str, Any]) -> dict[str, Any]:
    """Return the info of one environment; `_key` says which environments have `key`."""
    out = {}
    for key, value in infos.items():
        there = infos.get(f"_{key}")
        if there is None or not there[i]:
            continue
        out[key] = _of(i, value) if isinstance(value, Mapping) else value[i]
    return out
