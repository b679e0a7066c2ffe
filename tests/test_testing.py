"""The contracts hold for what comes along, and find what breaks them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import pytest

from qn_tracking import config as configuration
from qn_tracking.builtin.json_storage import JsonStorage
from qn_tracking.builtin.metadata import Metadata
from qn_tracking.builtin.progress import Progress
from qn_tracking.store.read import Lines
from qn_tracking.testing import (
    ExecutorContract,
    FakeClock,
    SimulationContract,
    SinkContract,
    make_episode,
    make_experiment,
    make_run,
    record,
)
from test_manager import install


class TestJsonStorage(SinkContract):
    def make_sink(self, tmp_path: Path) -> JsonStorage:
        return JsonStorage()

    def received(self, sink: Any) -> int:
        assert sink.saved
        return sum(1 for _ in Lines(sink.journal))


class TestMetadata(SinkContract):
    def make_sink(self, tmp_path: Path) -> Metadata:
        return Metadata()


class TestProgress(SinkContract):
    def make_sink(self, tmp_path: Path) -> Progress:
        return Progress()


def _small(brain: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    return {"max_steps": 20, "brain": brain, "environment": environment}


STATIC = {"type": "static", "static": {"grid_size": 6}}


class TestStaticMlp(SimulationContract):
    config = _small({"name": "mlp", "config": {"hidden_dim": 8}}, STATIC)
    wrong = (
        _small({"name": "mlp", "config": {"hidden_dim": 0}}, STATIC),
        _small({"name": "mlp", "config": {"hiden_dim": 8}}, STATIC),
        _small({"name": "nope"}, STATIC),
    )
    same_task = (
        _small({"name": "qmlp"}, STATIC),
        {**config, "body_length": 6},
        {**config, "reward": {"reward_goal": 5.0}, "satiety": {"initial_satiety": 1.0}},
    )
    other_task = ({**config, "max_steps": 21}, {**config, "body_length": 0})


class TestDynamicModular(SimulationContract):
    config: ClassVar[dict[str, Any]] = {
        **configuration.load("modular_dynamic_small").data,
        "max_steps": 10,
    }


class TestProcessPool(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
            yield pool


def test_the_clock_moves_only_when_it_is_told_to() -> None:
    clock = FakeClock(start=0.0)
    run, episodes, experiment = record([{}, {}], clock=clock)
    assert run.started == "1970-01-01T00:00:00.000000Z"
    assert [episode.timing["at"] for episode in episodes] == [1.0, 2.0]
    assert experiment.wall_seconds == 2.0
    assert experiment.ended == "1970-01-01T00:00:02.000000Z"


def test_builders_make_what_a_recorder_makes() -> None:
    episode = make_episode(4, success=False, reward=1.5)
    assert (episode.index, episode.success, episode.reward) == (4, False, 1.5)
    assert b'"reward":1.5' in episode.exact
    assert make_run(seed=3, tags={"a": "b"}).tags == {"a": "b"}
    assert make_experiment(2).results.episodes == 2
    assert make_experiment([{"success": True}], status="interrupted").status == "interrupted"


BAD = {
    "loses the last": "def episode_end(self, episode): self.n = episode.index",
    "cannot take what is absent": "def episode_end(self, episode): self.n += 1; episode.steps + 1",
    "cannot take NaN": (
        "def episode_end(self, episode): self.n += 1; round(episode.reward or 0.0)"
    ),
    "a misspelt hook": "def episode_ends(self, episode): self.n += 1",
    "an argument that is not there": "def episode_end(self, episodes): self.n += 1",
    "keeps what the last run said": (
        "def episode_end(self, episode): type(self).total += 1; self.n = self.total"
    ),
    "takes text for a path": (
        "def episode_end(self, episode): self.n += 1; "
        "open(self.folder / f'{episode.termination}', 'w').close()"
    ),
    "is asked for a brain, too": (
        "def make_brain(self, config): return None\n"
        "    @hookimpl\n    def episode_end(self, episode): self.n += 1"
    ),
    "judges, too": (
        "def check_benchmark(self, benchmark): return ()\n"
        "    @hookimpl\n    def episode_end(self, episode): self.n += 1"
    ),
    "leaves a thread": (
        "def episode_end(self, episode):\n"
        "        import threading, time; self.n += 1\n"
        "        threading.Thread(target=time.sleep, args=(3,)).start()"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("hook", [*BAD.values(), None], ids=[*BAD, "a good one"])
def test_a_sink_that_breaks_the_contract_is_found(tmp_path: Path, hook: str | None) -> None:
    good = "def episode_end(self, episode): self.n += 1"
    (tmp_path / "test_it.py").write_text(
        "from qn_tracking import hookimpl\nfrom qn_tracking.testing import SinkContract\n"
        "class Sink:\n    total = 0\n"
        "    def __init__(self, folder): self.n, self.folder = 0, folder\n"
        f"    @hookimpl\n    {hook or good}\n"
        "class TestIt(SinkContract):\n"
        "    def make_sink(self, tmp_path): return Sink(tmp_path)\n"
        "    def received(self, sink): return sink.n\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == (0 if hook is None else 1), done.stdout


SIMULATIONS = """
import random, threading, time
from types import SimpleNamespace
import numpy
from qn_tracking import hookimpl
from qn_tracking.errors import ConfigError
from qn_tracking.records.model import Subject

MADE = []

class Plugin:
    @hookimpl
    def make_simulation(self, config):
        kind = config.data["kind"]
        if kind == "wrong": raise ConfigError("unknown kind", file=config.label)
        about = Subject(environment="bad", brain=kind, packages=("bad",))
        return SimpleNamespace(subject=about, warnings=(), episodes=globals()[kind])

def good(runs, seed):
    draw = random.Random(seed)
    for _ in range(runs):
        yield {"reward": draw.random()}

def draws_from_the_global_generator(runs, seed):
    for _ in range(runs):
        yield {"reward": numpy.random.random()}

def seeds_the_global_generator(runs, seed):
    random.seed(seed)
    for _ in range(runs):
        yield {"reward": random.random()}

def took_its_numbers_when_it_was_imported(runs, seed):
    for index in range(runs):
        yield {"reward": NUMBERS[index] + seed}

NUMBERS = [random.random() for _ in range(100)]

def depends_on_the_count(runs, seed):
    for one in good(runs, seed):
        yield {"reward": one["reward"] / runs}

def depends_on_what_ran_before(runs, seed):
    MADE.append(seed)
    for one in good(runs, seed):
        yield {"reward": one["reward"] + len(MADE)}

def depends_on_the_order_of_hashes(runs, seed):
    for one in good(runs, seed):
        yield {"termination": "".join({"a", "b", "c", "d", "e", "f"}), **one}

def ignores_the_seed(runs, seed):
    return good(runs, 1)

def loses_the_last(runs, seed):
    return good(max(runs - 1, 0), seed)

def yields_what_cannot_be_recorded(runs, seed):
    for one in good(runs, seed):
        yield {"steps": -1}

def leaves_a_thread(runs, seed):
    threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
    yield from good(runs, seed)

def accepts_what_is_wrong(runs, seed):
    return good(runs, seed)
"""

FOUND_SIMULATIONS = {
    "good": None,
    "draws_from_the_global_generator": "test_the_same_seed_gives_the_same_episodes",
    "seeds_the_global_generator": "test_it_leaves_the_global_generators_alone",
    "took_its_numbers_when_it_was_imported": "test_another_process_gives_the_same_episodes",
    "depends_on_runs": "test_the_first_episodes_do_not_depend_on_how_many_follow",
    "depends_on_what_ran_before": "test_the_same_seed_gives_the_same_episodes",
    "depends_on_the_order_of_hashes": "test_another_process_gives_the_same_episodes",
    "ignores_the_seed": "test_another_seed_gives_other_episodes",
    "loses_the_last": "test_it_yields_the_requested_number_of_episodes",
    "yields_what_cannot_be_recorded": "test_a_recorder_accepts_every_episode",
    "leaves_a_thread": "test_it_can_be_closed_early",
    "accepts_what_is_wrong": "test_invalid_configurations_are_refused",
}
"""What is wrong with a simulation, and the test of the contract that finds it."""

EXECUTORS = """
from concurrent.futures import Future, ThreadPoolExecutor
import pytest
from attrs import evolve
from qn_tracking.studies.remote import run_remotely
from qn_tracking.testing import ExecutorContract

class Good(ThreadPoolExecutor): pass

class Memoises(Good):
    known = None
    def submit(self, fn, *args):
        self.known = self.known or {}
        key = (fn, *map(repr, args))
        if key not in self.known or self._shutdown:
            self.known[key] = super().submit(fn, *args)
        return self.known[key]

class SwallowsWhatIsRaised(Good):
    def submit(self, fn, *args):
        def quiet():
            try:
                return fn(*args)
            except Exception:
                return None
        return super().submit(quiet)

class WaitsWhenItIsLeft(Good):
    def shutdown(self, wait=True, *, cancel_futures=False):
        super().shutdown(wait=True, cancel_futures=cancel_futures)

class TakesMoreAfterIt(Good):
    def submit(self, fn, *args):
        if not self._shutdown:
            return super().submit(fn, *args)
        return Future()

class MixesUp(Good):
    last = None
    def submit(self, fn, *args):
        last, self.last = self.last, super().submit(fn, *args)
        return self.last if last is None else last

class LosesAnEpisode(Good):
    def submit(self, fn, *args):
        return super().submit(less if fn is run_remotely else fn, *args)

def less(task):
    played = run_remotely(task)
    return evolve(played, episodes=played.episodes[1:])
"""

FOUND_EXECUTORS = {
    "Good": None,
    "Memoises": "test_a_repeated_call_runs_again",
    "SwallowsWhatIsRaised": "test_it_returns_errors",
    "WaitsWhenItIsLeft": "test_shutdown_without_wait_returns_at_once",
    "TakesMoreAfterIt": "test_shutdown_without_wait_returns_at_once",
    "MixesUp": "test_it_returns_results",
    "LosesAnEpisode": "test_a_run_has_the_same_result_as_a_local_one",
}
"""What is wrong with an executor, and the test of the contract that finds it."""


def _failed(folder: Path, tests: str, kinds: Iterable[str]) -> dict[str, set[str]]:
    """The tests that failed, of each class; all run in one process."""
    (folder / "test_it.py").write_text(tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", "test_it.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout
    found = re.findall(r"^(\w+) test_it\.py::Test_(\w+)::(\w+)", done.stdout, re.MULTILINE)
    assert {kind for _, kind, _ in found} == set(kinds), done.stdout
    assert {said for said, _, _ in found} == {"PASSED", "FAILED"}, done.stdout
    return {
        kind: {test for said, other, test in found if (said, other) == ("FAILED", kind)}
        for kind in kinds
    }


@pytest.fixture(scope="module")
def failed_simulations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    folder = tmp_path_factory.mktemp("simulations")
    install(folder, "bad", "simulation.bad = bad:Plugin", {"bad": SIMULATIONS})
    tests = "from qn_tracking.testing import SimulationContract\n"
    for kind in FOUND_SIMULATIONS:
        wrong = "good" if kind == "accepts_what_is_wrong" else "wrong"
        tests += (
            f"class Test_{kind}(SimulationContract):\n"
            f"    config = {{'simulation': 'bad', 'kind': '{kind}'}}\n"
            f"    wrong = ({{'simulation': 'bad', 'kind': '{wrong}'}},)\n"
        )
        if FOUND_SIMULATIONS[kind] not in (None, "test_another_process_gives_the_same_episodes"):
            # It takes a second.
            tests += "    test_another_process_gives_the_same_episodes = None\n"
    return _failed(folder, tests, FOUND_SIMULATIONS)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "test"), FOUND_SIMULATIONS.items(), ids=FOUND_SIMULATIONS)
def test_a_simulation_that_breaks_the_contract_is_found(
    failed_simulations: dict[str, set[str]], kind: str, test: str | None
) -> None:
    if test is None:
        assert failed_simulations[kind] == set()
    else:
        assert test in failed_simulations[kind]


@pytest.fixture(scope="module")
def failed_executors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    tests = EXECUTORS
    for kind in FOUND_EXECUTORS:
        tests += (
            f"class Test_{kind}(ExecutorContract):\n"
            "    patience = 0.5\n"
            "    @pytest.fixture\n"
            "    def executor(self):\n"
            f"        with {kind}(2) as executor: yield executor\n"
        )
    return _failed(tmp_path_factory.mktemp("executors"), tests, FOUND_EXECUTORS)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "test"), FOUND_EXECUTORS.items(), ids=FOUND_EXECUTORS)
def test_an_executor_that_breaks_the_contract_is_found(
    failed_executors: dict[str, set[str]], kind: str, test: str | None
) -> None:
    if test is None:
        assert failed_executors[kind] == set()
    else:
        assert test in failed_executors[kind]
