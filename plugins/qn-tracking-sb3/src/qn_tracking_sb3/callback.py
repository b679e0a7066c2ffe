"""The callback: records each episode that ends in any of the model's environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize, unwrap_vec_normalize

from qn_tracking import Recorder
from qn_tracking.plugin import UsageError

Success = float | Callable[[Mapping[str, Any]], bool | None]


class Track(BaseCallback):
    """Records every episode on a run, and does not change the training.

    `success` is the least reward of a successful episode, or a function of its last `info`; by
    default it is `info["is_success"]`, else the registered reward threshold of the environment
    decides, else it is unknown. `metrics` has the names of values of the model's logger, such as
    `train/loss`: each episode gets the latest value, if there is one; by default all of `train/`.

    Rewards are those of the environment, also under `VecNormalize`. With a `Monitor`, which
    Stable-Baselines3 adds by itself, they are the `Monitor`'s, rounded to six digits. Episodes that
    end in the same step are recorded in the order of their environments.

    A run that has not started starts and ends with the training. Stable-Baselines3 does not inform
    callbacks about errors: after one, the run stays open until `run.end("failed", error)`, or until
    the program ends.

    A training raises UsageError at its start if the run has ended.
    """

    def __init__(
        self,
        run: Recorder,
        *,
        success: Success | None = None,
        metrics: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.run = run
        self._success = success
        self._names = metrics
        self._latest: dict[str, float] = {}
        self._own = False
        self._rewards: list[float] = []
        self._steps: list[int] = []
        self._normalized: VecNormalize | None = None

    def _on_training_start(self) -> None:
        if self.run.experiment is not None:
            raise UsageError(
                f"run {self.run.id} has ended and cannot record another training",
                hint="make a Track of a new run",
            )
        if not self.run.started:
            self._own = True
            self.run.start(at_exit=True)
        environments = self.training_env
        self._normalized = unwrap_vec_normalize(environments)
        # A training may be continued; then its open episodes continue, too.
        if len(self._steps) != environments.num_envs or self.num_timesteps == 0:
            self._rewards = [0.0] * environments.num_envs
            self._steps = [0] * environments.num_envs
        if self._success is None:
            spec = environments.get_attr("spec", 0)[0]
            self._success = getattr(spec, "reward_threshold", None)

    def _on_rollout_start(self) -> None:
        # Here the logger still has the values of the model's last update.
        for name, value in self.logger.name_to_value.items():
            wanted = name.startswith("train/") if self._names is None else name in self._names
            if wanted and isinstance(value, (int, float, np.number)):
                self._latest[name] = float(value)

    def _on_step(self) -> bool:
        rewards = self.locals["rewards"]
        if self._normalized is not None:
            rewards = self._normalized.get_original_reward()
        for place, (reward, done, info) in enumerate(
            zip(rewards, self.locals["dones"], self.locals["infos"], strict=True)
        ):
            self._rewards[place] += float(reward)
            self._steps[place] += 1
            if done:
                self._record(place, info)
        return True

    def _record(self, place: int, info: Mapping[str, Any]) -> None:
        counted = info.get("episode") or {}
        reward = float(counted.get("r", self._rewards[place]))
        self.run.episode(
            success=self._success_of(reward, info),
            termination="truncated" if info.get("TimeLimit.truncated") else "terminated",
            steps=int(counted.get("l", self._steps[place])),
            reward=reward,
            counts={"environment": place} if len(self._steps) > 1 else {},
            metrics=self._latest,
        )
        self._rewards[place], self._steps[place] = 0.0, 0

    def _success_of(self, reward: float, info: Mapping[str, Any]) -> bool | None:
        if callable(self._success):
            return self._success(info)
        success = info.get("is_success")
        if success is not None and success == success:  # NaN is unknown
            return bool(success)
        return None if self._success is None else reward >= self._success

    def _on_training_end(self) -> None:
        if self._own:
            self.run.end()
