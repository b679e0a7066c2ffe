"""The loop: one brain in one environment, episode after episode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from qn_tracking.nematode.brain import Brain
from qn_tracking.nematode.copying import copied
from qn_tracking.nematode.world import Environment
from qn_tracking.records.model import EpisodeFields, Subject

MAX_SEED = 1 << 53


class NematodeSimulation:
    """Episodes of a brain in an environment; both keep state, so one run at a time."""

    def __init__(
        self, environment: Environment, brain: Brain, *, warnings: tuple[str, ...] = ()
    ) -> None:
        self._environment, self._brain = environment, brain
        self.warnings = warnings
        modules = [type(part).__module__ for part in (self, environment, brain)]
        makers = [module.rpartition(".")[0] or module for module in modules]
        self.subject = Subject(
            environment=environment.name,
            brain=brain.name,
            family=brain.family,
            device=getattr(brain, "device", "cpu"),
            backend=getattr(brain, "backend", None),
            packages=tuple(dict.fromkeys(makers)),
        )

    def episodes(self, count: int, seed: int) -> Iterator[EpisodeFields]:
        """A new run of `count` episodes, each simulated when it is requested.

        Everything random derives from `seed` (0 or more): the same seed yields the same episodes,
        bit for bit, and the first ones do not depend on `count`. An episode's own `seed` (below
        2**53) alone determines its world. `reward` is the sum of the rewards of its steps.
        """
        worlds, mind = np.random.SeedSequence(seed).spawn(2)
        seeds = np.random.Generator(np.random.PCG64(worlds))
        self._brain.reset(mind)
        self._run, self._worlds = (count, seed), np.empty(0, np.int64)
        for _ in range(count):
            yield self._episode(int(seeds.integers(MAX_SEED)))

    def cost(self) -> dict[str, int]:
        """What the last run has cost so far, as its brain counts it; empty if it counts nothing."""
        counted = getattr(self._brain, "cost", None)
        return {} if counted is None else dict(counted())

    def evaluate(self, count: int) -> Iterator[EpisodeFields]:
        """`count` episodes of the run that is going on, between two of its own.

        Nothing is learned, and nothing random of the run is used up: each is played by a copy of
        the brain, with the policy that it has by now, exploration included. The worlds are the
        same at every evaluation of the run, and none of its own.
        """
        if len(self._worlds) < count:
            self._worlds = self._unseen(count)
        for seed in self._worlds[:count].tolist():
            yield self._episode(seed, copied(self._brain))

    def _unseen(self, count: int) -> np.ndarray[Any, Any]:
        """Seeds that the run has not had and is not going to have."""
        episodes, seed = self._run
        own, _, other = np.random.SeedSequence(seed).spawn(3)
        taken = np.random.Generator(np.random.PCG64(own)).integers(MAX_SEED, size=episodes)
        draws = np.random.Generator(np.random.PCG64(other)).integers(MAX_SEED, size=count + 64)
        return draws[~np.isin(draws, taken)]

    def _episode(self, seed: int, player: Brain | None = None) -> EpisodeFields:
        brain, environment = player or self._brain, self._environment
        act, learn, step = brain.act, brain.learn, environment.step
        if player is not None:
            learn = _learn_nothing
        brain.begin()
        strength, angle = environment.begin(seed)
        steps = 0
        total = 0.0
        termination = None
        while termination is None:
            strength, angle, reward, termination = step(act(strength, angle))
            learn(reward, termination is not None)
            steps += 1
            total += reward
        outcome = environment.end()
        return {
            "seed": seed,
            "success": outcome.success,
            "termination": termination,
            "steps": steps,
            "reward": total,
            "counts": outcome.counts,
            "metrics": {**outcome.metrics, **brain.end()},
        }


def _learn_nothing(reward: float, done: bool) -> None:
    """What an evaluation has in place of learning."""
