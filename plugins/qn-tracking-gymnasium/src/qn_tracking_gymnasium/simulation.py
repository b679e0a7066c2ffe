"""The run: one policy in one environment, episode after episode."""

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
    """Episodes of a policy in an environment; the policy keeps state, so one run at a time."""

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
            # Gymnasium itself is in the list of packages; a record's code is what is worked on.
            packages=tuple(dict.fromkeys(name for name in packages if name != "gymnasium")),
        )

    def episodes(self, count: int, seed: int) -> Iterator[EpisodeFields]:
        """A fresh run of `count` episodes in an environment of its own.

        Everything random derives from `seed` (0 or more): the same seed yields the same episodes,
        bit for bit, and the first ones do not depend on `count`. An episode's own `seed` (below
        2**53) is what the environment was reset with. `reward` is the sum of its rewards.
        """
        worlds, mind = np.random.SeedSequence(seed).spawn(2)
        seeds = np.random.Generator(np.random.PCG64(worlds))
        env = self._recipe.make()
        try:
            if isinstance(self._policy, Policy):
                yield from self._played(self._policy, env, count, seeds, mind)
            else:
                yield from self._trained(self._policy, env, count, seeds, mind)
        finally:
            env.close()

    def _played(
        self,
        policy: Policy,
        env: gymnasium.Env[Any, Any],
        count: int,
        seeds: np.random.Generator,
        mind: np.random.SeedSequence,
    ) -> Iterator[EpisodeFields]:
        heard = _Heard()
        tracked = self._tracked(env, heard)
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
            fields = heard.fields
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

        relay = Relay(lambda: policy.train(rein, mind))
        rein = _Rein(self._tracked(env, relay), relay, seeds)
        generators = Generators()
        try:
            for _ in range(count):
                with generators.lent():
                    fields = relay.next()
                yield fields
        finally:
            relay.close()

    def _tracked(self, env: gymnasium.Env[Any, Any], run: Any) -> TrackEpisodes:
        return TrackEpisodes(env, run, success=self._success(), info=self._section.info)

    def _success(self) -> Success:
        """What the configuration says, else the environment, else those who registered it."""
        if self._section.success_reward is not None:
            return self._section.success_reward
        least = self._recipe.least
        if least is None:
            return None

        def succeeded(ending: Ending) -> bool:
            told = success_in(ending.info)
            return ending.reward >= least if told is None else told

        return succeeded


class _Heard:
    """Keeps the last episode that it is told of."""

    def __init__(self) -> None:
        self.fields: EpisodeFields = {}

    def episode(self, **fields: Any) -> None:
        self.fields = EpisodeFields(**fields)  # type: ignore[typeddict-item]


class _Rein(gymnasium.Wrapper[Any, Any, Any, Any]):
    """What a trainer plays in: each episode has a seed of the run, and the run an end."""

    def __init__(self, env: TrackEpisodes, relay: Relay, seeds: np.random.Generator) -> None:
        super().__init__(env)
        self._relay, self._seeds = relay, seeds

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The trainer's own seed is not asked: what the run's does is in the record."""
        self._relay.check()
        return self.env.reset(seed=int(self._seeds.integers(MAX_SEED)), options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """A step, unless the run is over."""
        self._relay.check()
        return self.env.step(action)
