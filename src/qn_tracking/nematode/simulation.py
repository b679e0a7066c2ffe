"""The loop: one brain in one environment, episode after episode."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qn_tracking.nematode.brain import Brain
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
        for _ in range(count):
            yield self._episode(int(seeds.integers(MAX_SEED)))

    def cost(self) -> dict[str, int]:
        """What the last run has cost so far, as its brain counts it; empty if it counts nothing."""
        counted = getattr(self._brain, "cost", None)
        return {} if counted is None else dict(counted())

    def _episode(self, seed: int) -> EpisodeFields:
        brain, environment = self._brain, self._environment
        act, learn, step = brain.act, brain.learn, environment.step
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
