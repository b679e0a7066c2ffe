"""The contracts hold for what comes along, and find what breaks them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
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


class TestJsonStorage(SinkContract):
    def make_sink(self, tmp_path: Path) -> JsonStorage:
        return JsonStorage()

    def heard(self, sink: Any) -> int:
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
    "leaves a thread": (
        "def episode_end(self, episode):\n"
        "        import threading, time; self.n += 1\n"
        "        threading.Thread(target=time.sleep, args=(3,)).start()"
    ),
}


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
        "    def heard(self, sink): return sink.n\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == (0 if hook is None else 1), done.stdout
