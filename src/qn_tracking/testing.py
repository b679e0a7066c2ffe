"""For tests of plugins: contracts to subclass, builders of records, and a manual clock.

    from qn_tracking.testing import SinkContract

    class TestMySink(SinkContract):
        def make_sink(self, tmp_path):
            return MySink(file=tmp_path / "episodes.txt")

pytest collects the tests that the subclass inherits. All of them use a real `Recorder`.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from itertools import islice
from math import nan
from operator import add, truediv
from pathlib import Path
from typing import Any, ClassVar

import pytest

from qn_tracking import config as configuration, ids
from qn_tracking.benchmark.task import task_digest, task_of
from qn_tracking.errors import ConfigError, QnError
from qn_tracking.records.model import (
    Config,
    Episode,
    EpisodeFields,
    Experiment,
    Membership,
    RunInfo,
    Simulation,
    Subject,
)
from qn_tracking.studies.remote import RemoteRun, run_remotely
from qn_tracking.tracking.hookspecs import RUN_HOOKS, hookimpl
from qn_tracking.tracking.manager import implemented, make_manager, make_simulation, register
from qn_tracking.tracking.pool import Task
from qn_tracking.tracking.recorder import Recorder
from qn_tracking.tracking.runner import cost_of

# ------------------------------------------------------------------------------------------- clock


class FakeClock:
    """A clock for `Recorder(clock=…)` that moves only by `advance`."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start, self._passed = start, 0.0

    def time(self) -> float:
        """Return seconds since 1970."""
        return self._start + self._passed

    def perf_counter(self) -> float:
        """Return seconds since this clock was made."""
        return self._passed

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._passed += seconds


# ---------------------------------------------------------------------------------------- builders


class _Received:
    """Keeps what a sink receives."""

    def __init__(self) -> None:
        self.run: RunInfo
        self.episodes: list[Episode] = []

    @hookimpl
    def run_start(self, run: RunInfo) -> None:
        self.run = run

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        self.episodes.append(episode)


def make_config(data: Mapping[str, Any] | None = None) -> Config:
    """Make a configuration from a mapping, by default a small one."""
    return configuration.from_mapping(
        {"policy": {"epsilon": 0.1}, "steps": 20} if data is None else data
    )


def record(
    episodes: Sequence[Mapping[str, Any]] = (),
    *,
    sinks: Sequence[object] = (),
    status: str = "completed",
    error: BaseException | None = None,
    config: Config | Mapping[str, Any] | None = None,
    clock: FakeClock | None = None,
    **options: Any,
) -> tuple[RunInfo, tuple[Episode, ...], Experiment]:
    """A run through a real recorder: what its sinks received.

    `episodes` are keyword arguments of `Recorder.episode`; a second passes before each. `options`
    are those of `Recorder`. Raises what a sink raised at the start or at the end.
    """
    manager = make_manager()
    received = _Received()
    for number, sink in enumerate((*sinks, received)):
        register(manager, f"sink{number}", sink)
    manager.check_pending()
    clock = clock or FakeClock()
    options = {"seed": 1, "command": ["test"], **options}
    given = config if isinstance(config, Config) else make_config(config)
    recorder = Recorder(given, manager=manager, clock=clock, **options).start()
    for episode in episodes:
        clock.advance(1.0)
        recorder.episode(**episode)
    experiment = recorder.end(status, error)
    assert experiment is not None
    return received.run, tuple(received.episodes), experiment


def _recorder(sink: object, tmp_path: Path, seed: int = 1) -> Recorder:
    """A run that has started, for a sink."""
    manager = make_manager()
    register(manager, "sink", sink)
    return Recorder(
        make_config(),
        manager=manager,
        seed=seed,
        experiments_dir=tmp_path / "e",
        warn=lambda text: None,
    ).start()


def _end(recorder: Recorder) -> None:
    """Ends a run in which no sink has failed."""
    experiment = recorder.end()
    assert experiment is not None
    assert experiment.failures == ()


def make_run(**fields: Any) -> RunInfo:
    """Make a run that is about to start; `fields` are options of `Recorder`, and `config`."""
    return record(**fields)[0]


def make_episode(index: int = 0, **fields: Any) -> Episode:
    """Make an episode; `fields` are keyword arguments of `Recorder.episode`."""
    return record([{}] * index + [fields or EPISODE])[1][-1]


def make_experiment(episodes: Sequence[Mapping[str, Any]] | int = 3, **fields: Any) -> Experiment:
    """Make a run that has ended, from its episodes or their number; `fields` as in `record`."""
    given = [EPISODE] * episodes if isinstance(episodes, int) else episodes
    return record(given, **fields)[2]


EPISODE: Mapping[str, Any] = {
    "success": True,
    "termination": "goal_reached",
    "steps": 12,
    "reward": 3.5,
    "seed": 7,
    "counts": {"hits": 2},
    "metrics": {"loss": 0.25},
}
"""An episode with all fields."""

HOSTILE = (
    "plain",
    "",
    "naïve 虫 🪱",
    "'; DROP TABLE experiments; --",
    "[/nope] | `tick` <b>&amp; \\1 %s {x} ${y}",
    "../../etc/passwd",
    "line\nline\r\x1b[31m\x00\u202e",
)
"""Texts that cause errors where text is not treated as data."""


# ------------------------------------------------------------------------------------------- sinks


class SinkContract:
    """What every sink must do. Define `make_sink`, and `received` if it can be asked."""

    def make_sink(self, tmp_path: Path) -> object:
        """Make a new sink, which has not started."""
        raise NotImplementedError

    def received(self, sink: Any) -> int | None:
        """Return how many episodes arrived at the sink's destination; None if unknown."""
        return None

    def _arrived(self, sink: object, episodes: int) -> None:
        assert self.received(sink) in (None, episodes)

    def _sent(self, tmp_path: Path, episodes: Sequence[Mapping[str, Any]], **options: Any) -> None:
        """A run with these episodes, as `record` makes it, reaches the destination."""
        sink = self.make_sink(tmp_path)
        *_, experiment = record(episodes, sinks=[sink], experiments_dir=tmp_path / "e", **options)
        assert experiment.failures == ()
        self._arrived(sink, len(episodes))

    def test_it_implements_only_hooks_of_a_run(self, tmp_path: Path) -> None:
        found = implemented(self.make_sink(tmp_path))
        assert set(found) & set(RUN_HOOKS), "no hook is marked with @hookimpl"
        # A provider is a separate object, made without the options of a sink.
        assert set(found) <= set(RUN_HOOKS), "a hook is misspelt, or does not belong to a run"
        # Checks arguments, and methods without @hookimpl.
        register(make_manager(), "sink", self.make_sink(tmp_path))

    def test_a_run_with_episodes(self, tmp_path: Path) -> None:
        self._sent(tmp_path, [EPISODE] * 5)

    def test_many_episodes_at_once(self, tmp_path: Path) -> None:
        sink = self.make_sink(tmp_path)
        recorder = _recorder(sink, tmp_path)
        recorder.episodes([EPISODE] * 3)
        recorder.episode(**EPISODE)
        recorder.episodes(success=[True, False], reward=[0.5, 1.5], loss=[0.25, 0.5])
        _end(recorder)
        self._arrived(sink, 6)

    def test_episodes_of_another_phase(self, tmp_path: Path) -> None:
        """`received` counts those of the main phase, or all: a sink may leave the others out."""
        sink = self.make_sink(tmp_path)
        recorder = _recorder(sink, tmp_path)
        recorder.episode(**EPISODE)
        with recorder.phase("evaluation"):
            recorder.episode(**EPISODE)
            recorder.episodes([EPISODE] * 2)
        recorder.episode(**EPISODE)
        _end(recorder)
        assert self.received(sink) in (None, 2, 5)

    def test_values_between_episodes_and_artifacts(self, tmp_path: Path) -> None:
        sink = self.make_sink(tmp_path)
        file = tmp_path / "weights.bin"
        file.write_bytes(b"1")
        recorder = _recorder(sink, tmp_path)
        recorder.log({"loss": 0.5, "other/loss": nan})
        recorder.episode(**EPISODE)
        recorder.artifact(file)
        recorder.log({"loss": float("inf")}, step=7)
        _end(recorder)
        self._arrived(sink, 1)

    def test_a_run_without_any(self, tmp_path: Path) -> None:
        self._sent(tmp_path, [])

    def test_fields_that_do_not_apply_are_absent(self, tmp_path: Path) -> None:
        self._sent(tmp_path, [{}, {"steps": 3}, {"metrics": {"only_here": 1.0}}], seed=None)

    def test_numbers_that_are_not_finite(self, tmp_path: Path) -> None:
        odd = {"reward": nan, "metrics": {"loss": float("inf"), "tiny": -5e-324, "huge": 1e308}}
        self._sent(tmp_path, [odd], warn=lambda text: None)

    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_text_is_data(self, tmp_path: Path, text: str) -> None:
        self._sent(
            tmp_path,
            [{"termination": text, "metrics": {text: 1.0}, "counts": {f"n {text}": 2}}],
            config={"name": text, text: {text: [text]}},
            subject=Subject(environment=text, brain=text),
            tags={text: text},
            notes=text,
        )

    @pytest.mark.parametrize("status", ["failed", "interrupted"])
    def test_a_run_that_failed_or_was_interrupted(self, tmp_path: Path, status: str) -> None:
        error = RuntimeError("the simulation broke") if status == "failed" else None
        self._sent(tmp_path, [EPISODE] * 2, status=status, error=error)

    def test_runs_one_after_the_other_and_side_by_side(self, tmp_path: Path) -> None:
        folders = [tmp_path / name for name in "abc"]
        for folder in folders:
            folder.mkdir()
        first, *both = (self.make_sink(folder) for folder in folders)
        record([EPISODE] * 3, sinks=[first], experiments_dir=tmp_path / "e")
        recorders = [_recorder(sink, tmp_path, seed) for seed, sink in enumerate(both)]
        for count in range(4):
            recorders[0].episode(**EPISODE)
            if count % 2:
                recorders[1].episode(**EPISODE)
        for recorder in recorders:
            _end(recorder)
        for sink, episodes in zip([first, *both], (3, 4, 2), strict=True):
            self._arrived(sink, episodes)

    def test_no_thread_keeps_the_program_from_ending(self, tmp_path: Path) -> None:
        before = set(threading.enumerate())
        record([EPISODE], sinks=[self.make_sink(tmp_path)], experiments_dir=tmp_path / "e")
        left = [one for one in set(threading.enumerate()) - before if not one.daemon]
        assert left == []


# ------------------------------------------------------------------------------------- simulations


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


# --------------------------------------------------------------------------------------- executors


class ExecutorContract:
    """The contract of every executor. Define a fixture `executor`, new for each test."""

    config: ClassVar[str] = "mlp_dynamic_small"
    patience: ClassVar[float] = 10.0
    """Seconds after which a shutdown counts as hanging."""

    def _task(self, index: int, episodes: int) -> Task:
        id = ids.new_id()
        return Task(
            id=id,
            config=configuration.load(self.config),
            episodes=episodes,
            seed=index,
            plugins={},
            blocked=(),
            experiments_dir="experiments",
            tags={},
            notes=None,
            command=(),
            membership=Membership(id=id, index=index),
        )

    def test_it_returns_results(self, executor: Executor) -> None:
        futures = [executor.submit(add, number, 1) for number in range(20)]
        assert [future.result(60) for future in futures] == list(range(1, 21))

    def test_a_repeated_call_runs_again(self, executor: Executor) -> None:
        times = [executor.submit(time.time_ns).result(60) for _ in range(3)]
        assert len(set(times)) == 3

    def test_it_returns_errors(self, executor: Executor) -> None:
        future = executor.submit(truediv, 1, 0)
        assert isinstance(future.exception(60), ZeroDivisionError)
        assert executor.submit(add, 1, 1).result(60) == 2

    def test_a_run_has_the_same_result_as_a_local_one(self, executor: Executor) -> None:
        tasks = [self._task(index, 5) for index in range(3)]
        there = [
            future.result(120) for future in [executor.submit(run_remotely, task) for task in tasks]
        ]
        for task, played in zip(tasks, there, strict=True):
            here = run_remotely(task)
            assert isinstance(played, RemoteRun)
            assert (played.id, played.status) == (task.id, "completed"), played.error
            assert len(played.episodes) == 5
            assert played.exact == here.exact

    def test_it_returns_a_failed_run(self, executor: Executor) -> None:
        from attrs import evolve

        wrong = configuration.from_mapping({"environment": {"type": "nope"}, "brain": {}})
        played = executor.submit(run_remotely, evolve(self._task(0, 1), config=wrong)).result(120)
        assert played.status == "failed"
        assert played.error is not None

    def test_interrupt_ends_a_run_after_its_episode(self, executor: Executor) -> None:
        interrupt = getattr(executor, "interrupt", None)
        if interrupt is None:
            pytest.skip("this executor has no interrupt")
        future = executor.submit(run_remotely, self._task(0, 1_000_000))
        end = time.monotonic() + 60
        while not future.running() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1.0)
        interrupt()
        played = future.result(60)
        assert played.status == "interrupted"
        assert len(played.episodes) < 1_000_000

    def test_shutdown_without_wait_returns_at_once(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        """Running work is not waited for; it ends by itself."""
        executor.submit(add, 1, 1).result(60)
        released = tmp_path / "released"
        # If shutdown waits, this ends the work before its 30 s.
        given_up = threading.Timer(self.patience, released.touch)
        try:
            # A built-in function, because a worker may lack the packages of the tests.
            begun = executor.submit(exec, _WORK.format(path=str(released)))
            end = time.monotonic() + 60
            while not (begun.running() or begun.done()) and time.monotonic() < end:
                time.sleep(0.01)
            assert not begun.done()
            given_up.start()
            executor.shutdown(wait=False, cancel_futures=True)
            assert not released.exists(), "it waited for its work"
        finally:
            given_up.cancel()
            released.touch()
        with pytest.raises((RuntimeError, QnError)):
            executor.submit(add, 1, 1)


_WORK = """
import os, time
end = time.monotonic() + 30
while not os.path.exists({path!r}) and time.monotonic() < end:
    time.sleep(0.02)
"""
"""Waits until a file exists, at most 30 s."""
