"""The callback: records each episode that ends in any of the model's environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecNormalize, unwrap_vec_normalize

from qn_tracking import Recorder, track
from qn_tracking.plugin import UsageError, did_you_mean, scalar
from qn_tracking_sb3.settings import settings

Success = float | Callable[[Mapping[str, Any]], bool | None]


class Values(KVWriter):
    """The latest values of a logger: of all that it had, those that are wanted."""

    def __init__(self, names: Sequence[str] | None) -> None:
        self._names = names
        self.latest: dict[str, float] = {}
        self.seen: set[str] = set()

    def write(self, key_values: Mapping[str, Any], *_: Any) -> None:
        """Called by the logger before it forgets its values."""
        for name, value in key_values.items():
            self.seen.add(name)
            wanted = name.startswith("train/") if self._names is None else name in self._names
            number = scalar(value) if wanted else None
            if isinstance(number, (int, float)):
                self.latest[name] = float(number)

    def close(self) -> None:
        """Nothing is open."""

    def absent(self) -> list[str]:
        """What to say about each name that had no number."""
        out = []
        for name in self._names or ():
            if name in self.latest:
                continue
            hint = "not a number" if name in self.seen else did_you_mean(name, self.seen)
            out.append(f"metrics: the model logged no {name}" + (f" ({hint})" if hint else ""))
        return out


class Track(BaseCallback):
    """Records every episode on a run, and does not change the training.

    `success` is the least reward of a successful episode, or a function of its last `info`; by
    default it is `info["is_success"]`, else the registered reward threshold of the environment
    decides, else it is unknown. `metrics` has the names of values of the model's logger, such as
    `train/loss`: each episode gets the latest value, if there is one; by default all of `train/`.
    A name without a value in the whole training causes a warning.

    Rewards are those of the environment, also under `VecNormalize`. With a `Monitor`, which
    Stable-Baselines3 adds by itself, episodes are the `Monitor`'s, with its rewards, rounded to six
    digits: a game of Atari is one episode, however many lives it has. Episodes that end in the same
    step are recorded in the order of their environments.

    Without `run`, each training has a run of its own, with `settings(model)` as configuration. A
    run that has not started starts and ends with the training. Stable-Baselines3 does not inform
    callbacks about errors: after one, the run stays open until `run.end("failed", error)`, or until
    the program ends.

    A training raises UsageError at its start if the run has ended, and if its algorithm reports no
    steps to callbacks, as ARS; later, if it sees some steps only, as inside of
    `EveryNTimesteps`.
    """

    def __init__(
        self,
        run: Recorder | None = None,
        *,
        success: Success | None = None,
        metrics: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(metrics, str):
            raise UsageError("metrics: expected names, got one text", hint=f"[{metrics!r}]")
        self.run = run
        self._success = success
        self._values = Values(metrics)
        self._makes = run is None
        self._ends = False
        self._rewards: list[float] = []
        self._steps: list[int] = []
        self._monitored: list[bool] = []
        self._normalized: VecNormalize | None = None
        self._seen = 0

    def _on_training_start(self) -> None:
        name = type(self.model).__name__
        if not hasattr(self.model, "collect_rollouts"):
            raise UsageError(
                f"{name} does not report its steps to callbacks",
                hint="put TrackEpisodes of qn-tracking-gymnasium around its environment",
            )
        environments = self.training_env
        spec = environments.get_attr("spec", 0)[0]
        run = self._started_run()
        run.describe(environment=getattr(spec, "id", ""), brain=name.lower(), family="classical")
        self._seen = self.model.num_timesteps
        self._normalized = unwrap_vec_normalize(environments)
        self._monitored = environments.env_is_wrapped(Monitor)
        # A training may be continued; then its open episodes continue, too.
        if len(self._steps) != environments.num_envs or self.num_timesteps == 0:
            self._rewards = [0.0] * environments.num_envs
            self._steps = [0] * environments.num_envs
        if self._success is None:
            self._success = getattr(spec, "reward_threshold", None)
        if self._values not in self.logger.output_formats:
            self.logger.output_formats.append(self._values)

    def _started_run(self) -> Recorder:
        run = self.run
        if self._makes and (run is None or run.experiment is not None):
            seed = self.model.seed
            run = track(settings(self.model), seed=None if seed is None else int(seed))
        assert run is not None
        if run.experiment is not None:
            raise UsageError(
                f"run {run.id} has ended and cannot record another training",
                hint="make a Track of a new run",
            )
        if not run.started:
            self._ends = True
            run.start(at_exit=True)
        self.run = run
        return run

    def _on_rollout_start(self) -> None:
        # Here the logger still has the values of the model's last update.
        self._values.write(self.logger.name_to_value)

    def _on_step(self) -> bool:
        if self.num_timesteps - self._seen > len(self._steps):
            raise UsageError(
                "Track does not see every step, so that episodes would be missing",
                hint="give it to learn() itself, not to a callback that is called now and then",
            )
        self._seen = self.num_timesteps
        rewards = self.locals["rewards"]
        if self._normalized is not None:
            rewards = self._normalized.get_original_reward()
        for place, (reward, done, info) in enumerate(
            zip(rewards, self.locals["dones"], self.locals["infos"], strict=True)
        ):
            self._rewards[place] += float(reward)
            self._steps[place] += 1
            if done and not self._goes_on(place, info):
                self._record(place, info)
        return True

    def _goes_on(self, place: int, info: Mapping[str, Any]) -> bool:
        """Whether only a life ended: there is a Monitor, which saw no end and was not reset."""
        return (
            "episode" not in info
            and self._monitored[place]
            and bool(self.training_env.get_attr("rewards", place)[0])
        )

    def _record(self, place: int, info: Mapping[str, Any]) -> None:
        counted = info.get("episode") or {}
        reward = float(counted.get("r", self._rewards[place]))
        assert self.run is not None
        self.run.episode(
            success=self._success_of(reward, info),
            termination="truncated" if info.get("TimeLimit.truncated") else "terminated",
            steps=int(counted.get("l", self._steps[place])),
            reward=reward,
            counts={"environment": place} if len(self._steps) > 1 else {},
            metrics=self._values.latest,
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
        assert self.run is not None
        with suppress(ValueError):
            self.logger.output_formats.remove(self._values)
        self._values.write(self.logger.name_to_value)
        for text in self._values.absent():
            if text not in self.run.warnings:
                self.run.warn(text)
        if self._ends:
            self.run.end()
