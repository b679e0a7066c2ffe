"""The contract of every simulation."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pytest

from qn_tracking import config as configuration
from qn_tracking.benchmark.task import task_digest, task_of
from qn_tracking.errors import ConfigError
from qn_tracking.records.model import (
    EpisodeFields,
    Simulation,
)
from qn_tracking.testing.builders import record
from qn_tracking.tracking.manager import make_manager, make_simulation
from qn_tracking.tracking.runner import cost_of


class SimulationContract:
    """The contract of every simulation. Define `config`, a configuration that it runs."""

    config: ClassVar[Mapping[str, Any]]
    wrong: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Invalid configurations."""
    same_task: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Configurations with the task of `config`: another brain, a default written out."""
    other_task: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Configurations with another task."""
    depends_on_seed: ClassVar[bool] = True
    episodes: ClassVar[int] = 4

    def make(self, data: Mapping[str, Any] | None = None) -> Simulation:
        """Make the simulation, as the runner does."""
        config = configuration.from_mapping(self.config if data is None else data)
        return make_simulation(config, make_manager(config=config))

    def _episodes(self, episodes: int | None = None, seed: int = 1) -> list[EpisodeFields]:
        return list(self.make().episodes(self.episodes if episodes is None else episodes, seed))

    def test_it_has_a_subject(self) -> None:
        about = self.make().subject
        assert about.environment
        assert about.brain
        # Without them a record cannot name the code.
        assert about.packages
        for package in about.packages:
            assert package in sys.modules

    def test_it_yields_the_requested_number_of_episodes(self) -> None:
        for episodes in (0, 1, self.episodes):
            assert len(self._episodes(episodes)) == episodes

    def test_a_recorder_accepts_every_episode(self) -> None:
        _, episodes, experiment = record([dict(one) for one in self._episodes()])
        assert len(episodes) == experiment.results.episodes == self.episodes
        assert experiment.warnings == ()

    def test_the_same_seed_gives_the_same_episodes(self) -> None:
        simulation = self.make()
        first = list(simulation.episodes(self.episodes, 1))
        # A new run of the same object, and a run of another object.
        assert list(simulation.episodes(self.episodes, 1)) == first == self._episodes()

    def test_the_first_episodes_do_not_depend_on_how_many_follow(self) -> None:
        assert self._episodes()[:2] == self._episodes(2)

    def test_another_seed_gives_other_episodes(self) -> None:
        found = [self._episodes(seed=seed) for seed in (1, 2, 3, 2**53 - 1)]
        assert not self.depends_on_seed or any(one != found[0] for one in found)

    def test_another_process_gives_the_same_episodes(self, tmp_path: Path) -> None:
        """Also with other hash seeds, and after other code has used the global generators.

        This process is not compared, because its libraries may use other numbers of threads, which
        changes last bits.
        """
        program = (
            "import json, random, sys\n"
            "from qn_tracking.tracking.runner import pin_numeric_threads\n"
            "pin_numeric_threads()\n"
            "import numpy\n"
            "random.seed(int(sys.argv[3])); numpy.random.seed(int(sys.argv[3]))\n"
            "from qn_tracking import testing\n"
            "class One(testing.SimulationContract): config = json.loads(sys.argv[1])\n"
            "episodes = [dict(one) for one in One().make().episodes(int(sys.argv[2]), 1)]\n"
            "print(testing.record(episodes)[2].digests.exact)\n"
        )
        digests = set()
        for number in ("0", "1"):
            given = [json.dumps(self.config), str(self.episodes), number]
            done = subprocess.run(
                [sys.executable, "-c", program, *given],
                cwd=tmp_path,
                env={**_environment(), "PYTHONHASHSEED": number},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            digests.add(done.stdout)
        assert len(digests) == 1

    def test_it_leaves_the_global_generators_alone(self) -> None:
        import numpy

        self.make()
        before = random.getstate(), numpy.random.get_state(legacy=False)
        self._episodes()
        after = random.getstate(), numpy.random.get_state(legacy=False)
        assert repr(before) == repr(after)

    def test_it_can_be_closed_early(self) -> None:
        before = threading.active_count()
        episodes = self.make().episodes(1000, 1)
        list(islice(episodes, 1))
        close = getattr(episodes, "close", None)
        if close is not None:
            close()
        assert threading.active_count() <= before

    def _task(self, data: Mapping[str, Any]) -> str | None:
        config = configuration.from_mapping(data)
        task = task_of(config, make_manager(config=config))
        return None if task is None else task_digest(task)

    def test_its_task_is_plain_data_and_leaves_out_the_brain(self) -> None:
        task = self._task(self.config)
        assert self._task(self.config) == task
        for data in self.same_task:
            assert self._task(data) == task is not None
        for data in self.other_task:
            assert self._task(data) not in (task, None)

    def test_what_it_counts_are_whole_numbers(self) -> None:
        simulation = self.make()
        for _ in simulation.episodes(self.episodes, 1):
            pass
        assert all(name for name in cost_of(simulation))

    def test_invalid_configurations_are_refused(self) -> None:
        for data in self.wrong:
            with pytest.raises(ConfigError) as raised:
                self.make(data)
            assert "\n" not in str(raised.value)


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
