"""Many episodes at once, as a vector of environments ends them, and the hooks that get them."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from qn_tracking import Experiments, Recorder, hookimpl, make_manager
from qn_tracking.errors import UsageError
from qn_tracking.plugin import plain
from qn_tracking.testing import FakeClock


class Both:
    """A sink that takes batches."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    @hookimpl
    def episode_end(self, episode: Any) -> None:
        self.calls.append(("one", episode.index))

    @hookimpl
    def episodes_end(self, episodes: Any) -> None:
        self.calls.append(("many", len(episodes)))


class Single:
    """A sink that takes none."""

    def __init__(self) -> None:
        self.episodes: list[Any] = []

    @hookimpl
    def episode_end(self, episode: Any) -> None:
        self.episodes.append(episode)


def started(*sinks: object, storage: bool = False, said: list[str] | None = None) -> Recorder:
    manager = make_manager(["json_storage"] if storage else [])
    for i, sink in enumerate(sinks):
        manager.register(sink, name=f"sink{i}")
    warn = (lambda text: None) if said is None else said.append
    return Recorder(
        {"a": 1},
        manager=manager,
        seed=1,
        clock=FakeClock(),
        warn=warn,
        experiments_dir="experiments",
    ).start()


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBER = st.one_of(
    st.floats(), st.integers(-(2**53) + 1, 2**53 - 1), st.sampled_from([0.1, -0.0, 1e308, 5e-324])
)
COUNT = st.integers(0, 2**53 - 1)
ROW = st.fixed_dictionaries(
    {},
    optional={
        "success": st.sampled_from([True, False, None]),
        "termination": st.one_of(st.none(), TEXT, st.just('},{"counts":%b')),
        "steps": st.one_of(st.none(), COUNT),
        "reward": st.one_of(st.none(), NUMBER),
        "seed": st.one_of(st.none(), COUNT),
        "counts": st.dictionaries(st.sampled_from(["c", "%", 'c"', "é", "ö,"]), COUNT),
        "metrics": st.dictionaries(st.sampled_from(["m", "%b", "a,b", "虫", "Z"]), NUMBER),
        "timing": st.dictionaries(st.sampled_from(["t", "u"]), st.floats(0, 1e9)),
        "loss": NUMBER,
    },
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(ROW, st.sampled_from([1, 1, 3, 300])), max_size=5),
    st.sampled_from([None, "evaluation", 'p%b"']),
)
def test_a_batch_is_the_same_record_as_its_episodes_one_by_one(
    given: list[tuple[dict[str, Any], int]], phase: str | None
) -> None:
    rows = [row for row, times in given for _ in range(times)]
    one, many = Single(), Single()
    single, batch = started(one), started(many)
    for row in rows:
        single.episode(**row, phase=phase)
    batch.episodes(rows[:7], phase=phase)
    batch.episodes(rows[7:], phase=phase)
    assert plain(many.episodes) == plain(one.episodes)  # NaN as text, which is equal to itself
    assert [e.exact for e in many.episodes] == [e.exact for e in one.episodes]
    assert [e.timing for e in many.episodes] == [e.timing for e in one.episodes]
    first, second = single.end(), batch.end()
    assert first is not None
    assert second is not None
    assert plain(second.results) == plain(first.results)
    assert second.digests == first.digests
    assert plain(second.phases) == plain(first.phases)


def test_columns_of_lists_arrays_and_tensors(project: Path) -> None:
    numpy = pytest.importorskip("numpy")
    run = started(storage=True)
    run.episodes(
        success=numpy.array([True, False]),
        steps=numpy.array([3, 4], numpy.int32),
        reward=numpy.array([0.5, 1.0], numpy.float32),
        termination=["goal", None],
        counts={"hits": range(2)},
        loss=(0.1, 0.2),
    )
    run.end()
    found = list(Experiments("experiments").episodes(run.id))
    assert [(e.success, e.steps, e.reward, e.termination) for e in found] == [
        (True, 3, 0.5, "goal"),
        (False, 4, 1.0, None),
    ]
    assert [(e.counts, e.metrics) for e in found] == [
        ({"hits": 0}, {"loss": 0.1}),
        ({"hits": 1}, {"loss": 0.2}),
    ]
    assert Experiments("experiments").check().findings == ()


@pytest.mark.parametrize(
    ("columns", "error", "said"),
    [
        ({"steps": [1, 2], "reward": [1.0]}, ValueError, "columns of 1 and 2 values"),
        ({"steps": 3}, TypeError, "steps: expected a value for each episode, got int"),
        ({"termination": "goal"}, TypeError, "termination: expected a value for each"),
        ({"counts": [1]}, TypeError, "counts: expected columns by name"),
        ({"steps": [1, -1]}, ValueError, "steps: expected 0 or more"),
        ({"steps": [2**53]}, OverflowError, "steps"),
        ({"success": [True, 3]}, TypeError, "success: expected true or false"),
        ({"loss": [0.5, None]}, TypeError, "loss: expected a number"),
        ({"termination": ["\ud800"]}, ValueError, "not valid Unicode"),
        ({"metrics": {"\ud800": [1.0]}}, ValueError, "not valid Unicode"),
        ({"counts": {"x": [1]}, "x": [1.0]}, ValueError, "in counts and in metrics"),
        ({"timing": {"t": [-1.0]}}, ValueError, "no time in seconds"),
    ],
)
def test_what_cannot_be_recorded_is_an_error_and_none_of_them_is(
    columns: dict[str, Any], error: type[Exception], said: str
) -> None:
    run = started()
    with pytest.raises(error, match=said):
        run.episodes(**columns)
    run.episodes(success=[True])
    experiment = run.end()
    assert experiment is not None
    assert experiment.results.episodes == 1
    with pytest.raises(UsageError):
        run.episodes(success=[True])


def test_numbers_that_are_not_finite_are_kept_with_one_warning() -> None:
    said: list[str] = []
    sink = Single()
    run = started(sink, said=said)
    run.episodes(reward=[1.0, math.nan, math.inf], loss=[1.0, 2**60 + 1, 0.5])
    experiment = run.end()
    assert experiment is not None
    assert [str(e.reward) for e in sink.episodes] == ["1.0", "nan", "inf"]
    assert b'"loss":"1152921504606846977"' in sink.episodes[1].exact
    assert len(said) == 2


def test_no_episode_is_no_call() -> None:
    sink = Both()
    run = started(sink)
    run.episodes([])
    run.episodes()
    run.episodes(success=[])
    run.end()
    assert sink.calls == []


def test_a_plugin_with_the_hook_gets_the_batch_and_one_without_each_episode() -> None:
    both, single = Both(), Single()
    run = started(both, single)
    run.episode(success=True)
    run.episodes(success=[True] * 5)
    run.episodes([{"success": True}, {"steps": 3}])
    run.end()
    assert both.calls == [("one", 0), ("many", 5), ("many", 1), ("many", 1)]
    assert [e.index for e in single.episodes] == list(range(8))


def test_a_plugin_that_fails_is_not_called_again_and_the_others_are() -> None:
    class Bad:
        def __init__(self) -> None:
            self.ended = False

        @hookimpl
        def episodes_end(self) -> None:
            raise ValueError("no")

        @hookimpl
        def run_end(self) -> None:
            self.ended = True

    bad, both = Bad(), Both()
    run = started(bad, both)
    run.episodes(success=[True] * 2)
    run.episodes(success=[True] * 2)
    experiment = run.end()
    assert experiment is not None
    assert [(f.plugin, f.hook) for f in experiment.failures] == [("sink0", "episodes_end")]
    assert both.calls == [("many", 2), ("many", 2)]
    assert bad.ended


@pytest.mark.parametrize("at", [0, 3])
def test_an_interrupt_in_the_middle_loses_nothing_and_doubles_nothing(
    project: Path, at: int
) -> None:
    class Once(Single):
        @hookimpl
        def episode_end(self, episode: Any) -> None:
            self.episodes.append(episode)
            if len(self.episodes) == at + 1:
                raise KeyboardInterrupt

    once, both = Once(), Both()
    run = started(once, both, storage=True)
    with pytest.raises(KeyboardInterrupt):
        run.episodes(success=[True] * 5)
    run.episodes(success=[False] * 2)
    experiment = run.end()
    assert experiment is not None
    assert [e.index for e in once.episodes] == list(range(7))
    assert both.calls == [("many", 5), ("many", 2)]
    assert experiment.results.episodes == 7
    assert Experiments("experiments").check().findings == ()


def test_one_write_for_the_batch_and_a_disk_that_is_full_keeps_what_fits(project: Path) -> None:
    script = """
import os, resource, signal
from qn_tracking import track
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run = track({"a": 1}, plugins=["json_storage"]).start()
writes, write = [], os.write
os.write = lambda fd, data: writes.append(len(data)) or write(fd, data)
run.episodes(success=[True] * 100)
print(len(writes))
size = os.path.getsize(f"experiments/runs/{run.id}/episodes.jsonl")
resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2, resource.RLIM_INFINITY))
run.episodes(success=[False] * 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
try:
    run.end()
except Exception as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "StorageError"], done.stderr
    (path,) = Path("experiments/runs").glob("*/episodes.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    assert 145 <= len(lines) <= 150
    assert lines[-1].endswith(b"}\n")
    (finding,) = Experiments("experiments").check().findings
    assert finding.level == "note"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert os.path.getsize(path) > 0


def test_a_batch_inside_of_a_hook_is_refused() -> None:
    class Inside:
        run: Recorder

        @hookimpl
        def episode_end(self) -> None:
            self.run.episodes(success=[True])

    sink = Inside()
    sink.run = started(sink)
    sink.run.episode(success=True)
    experiment = sink.run.end()
    assert experiment is not None
    assert "inside of episode_end" in experiment.failures[0].error


# ---------------------------------------------------------------------------------------- artifacts


class Files:
    def __init__(self) -> None:
        self.got: list[tuple[str, int]] = []

    @hookimpl
    def artifact_added(self, artifact: Any) -> None:
        self.got.append((artifact.path, artifact.size))


def test_plugins_get_the_files_of_a_run_also_those_of_before_the_start(project: Path) -> None:
    Path("one.bin").write_bytes(b"1")
    Path("two.bin").write_bytes(b"22")
    sink = Files()
    manager = make_manager([])
    manager.register(sink, name="files")
    run = Recorder({"a": 1}, manager=manager, warn=lambda text: None)
    run.artifact("one.bin")
    assert sink.got == []
    run.start()
    run.artifact("two.bin")
    run.end()
    assert sink.got == [("one.bin", 1), ("two.bin", 2)]


def test_one_that_fails_there_ends_nothing(project: Path) -> None:
    class Bad:
        @hookimpl
        def artifact_added(self) -> None:
            raise ValueError("no")

    Path("one.bin").write_bytes(b"1")
    good = Files()
    run = started(Bad(), good)
    run.artifact("one.bin")
    run.artifact("one.bin")
    experiment = run.end()
    assert experiment is not None
    assert [(f.plugin, f.hook) for f in experiment.failures] == [("sink0", "artifact_added")]
    assert len(experiment.artifacts) == len(good.got) == 2
