"""The simulation: one policy in one environment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from qn_tracking.plugin import EpisodeFields, Subject
from qn_tracking_gymnasium.ending import Ending, Success, success_in
from qn_tracking_gymnasium.environment import Recipe
from qn_tracking_gymnasium.episodes import TrackEpisodes
from qn_tracking_gymnasium.policy import Policy, Trainer
from qn_tracking_gymnasium.relay import Relay
from qn_tracking_gymnasium.schema import EnvironmentSection

MAX_SEED = 1 << 53
OWN = __name__.partition(".")[0]


class GymnasiumSimulation:
    """Episodes of a policy in an environment; one run at a time, because the policy has state."""

    def __init__(
        self, section: EnvironmentSection, recipe: Recipe, policy: Policy | Trainer
    ) -> None:
        self._section, self._recipe, self._policy = section, recipe, policy
        self.warnings = tuple(dict.fromkeys((*recipe.warnings, *getattr(policy, "warnings", ()))))
        packages = [OWN, type(policy).__module__.partition(".")[0], recipe.package]
        self.subject = Subject(
            environment=section.id,
            brain=policy.name,
            family=policy.family,
            device=getattr(policy, "device", "cpu"),
            backend=getattr(policy, "backend", None),
            # Gymnasium itself is an installed package; these are the packages under development.
            packages=tuple(dict.fromkeys(name for name in packages if name != "gymnasium")),
        )

    def episodes(self, count: int, seed: int) -> Iterator[EpisodeFields]:
        """Start a new run of `count` episodes in a new environment.

        All randomness derives from `seed` (0 or more): the same seed yields the same episodes,
        bit for bit, and the first ones do not depend on `count`. The `seed` of an episode (below
        2**53) is that of the environment's reset. `reward` is the sum of its rewards.
        """
        worlds, mind = np.random.SeedSequence(seed).spawn(2)
        seeds = np.random.Generator(np.random.PCG64(worlds))
        env = self._recipe.make()
        try:
            if isinstance(self._policy, Policy):
                yield from self._stepped(self._policy, env, count, seeds, mind)
            else:
                yield from self._trained(self._policy, env, count, seeds, mind)
        finally:
            env.close()

    def _stepped(
        self,
        policy: Policy,
        env: gymnasium.Env[Any, Any],
        count: int,
        seeds: np.random.Generator,
        mind: np.random.SeedSequence,
    ) -> Iterator[EpisodeFields]:
        last = _LastEpisode()
        tracked = self._tracked(env, last)
        step, act, learn = tracked.step, policy.act, policy.learn
        policy.reset(mind)
        for _ in range(count):
            observation, _ = tracked.reset(seed=int(seeds.integers(MAX_SEED)))
            policy.begin(observation)
            over = False
            while not over:
                observation, reward, terminated, truncated, _ = step(act())
                learn(observation, float(reward), terminated, truncated)
                over = terminated or truncated
            fields = last.fields
            measured = policy.end()
            if measured:
                fields["metrics"] = {**fields["metrics"], **measured}
            yield fields

    def _trained(
        self,
        policy: Trainer,
        env: gymnasium.Env[Any, Any],
        count: int,
        seeds: np.random.Generator,
        mind: np.random.SeedSequence,
    ) -> Iterator[EpisodeFields]:
        from qn_tracking_gymnasium.generators import Generators

        relay = Relay(lambda: policy.train(training, mind))
        training = _TrainingEnv(self._tracked(env, relay), relay, seeds)
        generators = Generators()
        try:
            for _ in range(count):
                with generators.active():
                    fields = relay.next()
                yield fields
        finally:
            relay.close()

    def _tracked(self, env: gymnasium.Env[Any, Any], run: Any) -> TrackEpisodes:
        return TrackEpisodes(env, run, success=self._success(), info=self._section.info)

    def _success(self) -> Success:
        """From the configuration, else from the environment, else from its registration."""
        if self._section.success_reward is not None:
            return self._section.success_reward
        least = self._recipe.least
        if least is None:
            return None

        def succeeded(ending: Ending) -> bool:
            success = success_in(ending.info)
            return ending.reward >= least if success is None else success

        return succeeded


class _LastEpisode:
    """Keeps the last recorded episode."""

    def __init__(self) -> None:
        self.fields: EpisodeFields = {}

    def episode(self, **fields: Any) -> None:
        self.fields = EpisodeFields(**fields)  # type: ignore[typeddict-item]


class _TrainingEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The environment of a trainer: it resets with seeds of the run, and ends with the run."""

    def __init__(self, env: TrackEpisodes, relay: Relay, seeds: np.random.Generator) -> None:
        super().__init__(env)
        self._relay, self._seeds = relay, seeds

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset with the next seed of the run; the trainer's own seed is ignored."""
        self._relay.check()
        return self.env.reset(seed=int(self._seeds.integers(MAX_SEED)), options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a step, unless the run has ended."""
        self._relay.check()
        return self.env.step(action)
