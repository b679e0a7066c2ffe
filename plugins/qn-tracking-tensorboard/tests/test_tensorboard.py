"""TensorBoard reads what was written, and what it reads can be imported."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qn_tracking import Experiments, Recorder, make_manager
from qn_tracking.plugin import ConfigError, StorageError
from qn_tracking.testing import FakeClock, SinkContract
from qn_tracking_tensorboard import events
from qn_tracking_tensorboard.sink import TensorBoard

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(folder):
    """The scalars that TensorBoard has of a folder, by tag: steps and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    shown.Reload()
    return {
        tag: [(one.step, one.value) for one in shown.Scalars(tag)]
        for tag in shown.Tags()["scalars"]
    }


def qn_exp(*args):
    program = Path(sys.executable).parent / "qn-exp"
    return subprocess.run([program, *args], capture_output=True, text=True)


def recorded(clock=None):
    """A run with episodes, an evaluation and series, and the sink on."""
    options = {} if clock is None else {"clock": clock}
    run = Recorder(
        {"a": 1},
        manager=make_manager({"json_storage": {}, "tensorboard": {}}),
        experiments_dir="experiments",
        warn=lambda text: None,
        **options,
    )
    with run:
        for i in range(4):
            run.log({"loss": 1 / (i + 1), "episode/odd": 5.0}, step=10 * i)
            run.episode(success=i > 1, steps=i, reward=0.5 * i, counts={"hits": i}, lr=0.25)
            if i % 2:
                with run.phase("evaluation"):
                    run.episode(success=True, reward=9.0)
        run.episodes(success=[True, False], reward=[1.0, math.nan])
    return run.experiment


EPISODES = {
    "episode/success": [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 0)],
    "episode/steps": [(0, 0), (1, 1), (2, 2), (3, 3)],
    "episode/hits": [(0, 0), (1, 1), (2, 2), (3, 3)],
    "episode/lr": [(i, 0.25) for i in range(4)],
    "loss": [(0, 1.0), (10, 0.5), (20, pytest.approx(1 / 3)), (30, 0.25)],
    "series/episode/odd": [(10 * i, 5.0) for i in range(4)],
}


def check(folder):
    shown = read(folder)
    rewards = shown.pop("episode/reward")
    assert rewards[:5] == [(0, 0), (1, 0.5), (2, 1), (3, 1.5), (4, 1)]
    assert math.isnan(rewards[5][1])
    assert shown == EPISODES
    evaluated = read(folder / "evaluation")
    assert evaluated == {
        "episode/success": [(2, 1), (4, 1)],
        "episode/reward": [(2, 9.0), (4, 9.0)],
    }


def test_tensorboard_reads_what_the_sink_has_written(project):
    check(project / "exports" / "tensorboard" / recorded().id)


def test_the_command_writes_the_same_and_replaces_it(project):
    id = recorded().id
    for _ in range(2):
        done = qn_exp("tensorboard", "export", id, "--folder", "again", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["experiments"] == [
            {"id": id, "path": f"again/{id}", "episodes": 6}
        ]
        check(project / "again" / id)
        assert len(list((project / "again" / id).glob("events*"))) == 1
    assert os.listdir("again") == [id]


def test_a_run_without_its_journal_has_no_episodes_and_a_warning(project):
    id = recorded().id
    for path in (project / "experiments" / "runs" / id).glob("*"):
        path.unlink()
    done = qn_exp("tensorboard", "export", id, "--folder", "again")
    assert (done.returncode, done.stderr.count("without episodes")) == (0, 1)
    assert read(project / "again" / id) == {}


def test_event_files_become_an_experiment_once(project):
    id = recorded(FakeClock()).id
    folder = f"exports/tensorboard/{id}"
    done = qn_exp("tensorboard", "import", folder, "--experiments-dir", "other", "--json")
    assert done.returncode == 0, done.stderr
    one, two = json.loads(done.stdout)["imported"]
    assert (one["new"], one["series"], two["source"]) == (True, 7, f"{folder}/evaluation")
    store = Experiments("other")
    found = store.series(one["id"], ["loss"]).columns()
    assert (found["step"], found["value"][1]) == ([0, 10, 20, 30], 0.5)
    record = store.get(one["id"])
    assert (record.origin.kind, record.origin.format) == ("import", "tensorboard")
    assert store.check().findings == ()
    again = qn_exp("tensorboard", "import", folder, "--experiments-dir", "other", "--json")
    assert [one["new"] for one in json.loads(again.stdout)["imported"]] == [False, False]
    assert len(list(Path("other").glob("*.json"))) == 2


def test_scalars_of_other_writers_are_read(project):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    writer = EventFileWriter("theirs")
    for step, tensor in enumerate((make_tensor_proto(0.5), make_tensor_proto([1.0, 2.0]))):
        value = Summary.Value(tag="new", tensor=tensor)
        writer.add_event(Event(wall_time=5.0, step=step, summary=Summary(value=[value])))
    old = Summary.Value(tag="old", simple_value=0.25)
    writer.add_event(Event(wall_time=6.0, step=7, summary=Summary(value=[old])))
    writer.close()
    (path,) = Path("theirs").glob("*")
    assert list(events.scalars(str(path))) == [(5.0, 0, "new", 0.5), (6.0, 7, "old", 0.25)]
    assert read("theirs")["old"] == [(7, 0.25)]


KILLED = """
import os, signal, time
from glob import glob
from qn_tracking import Recorder, make_manager
manager = make_manager({"json_storage": {}, "tensorboard": {}})
run = Recorder({}, manager=manager, experiments_dir="experiments").start()
(path,) = glob("exports/tensorboard/*/events*")
empty = os.path.getsize(path)
for step in range(100):
    run.log({"loss": step}, step=step)
while os.path.getsize(path) == empty:  # nobody flushes but the thread
    time.sleep(0.02)
for step in range(100, 200):
    run.log({"loss": step}, step=step)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_what_was_not_written_yet_and_the_export_has_it(project):
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    (id,) = os.listdir("exports/tensorboard")
    seen = read(project / "exports" / "tensorboard" / id)["loss"]
    assert seen == [(step, step) for step in range(len(seen))]
    assert seen
    assert qn_exp("recover", id).returncode == 0
    assert qn_exp("tensorboard", "export", id).returncode == 0
    whole = read(project / "exports" / "tensorboard" / id)["loss"]
    assert whole == [(step, step) for step in range(200)]


def test_a_file_that_breaks_off_is_read_so_far_and_a_damaged_one_refused(project):
    id = recorded().id
    (path,) = (project / "exports" / "tensorboard" / id).glob("events*")
    data = path.read_bytes()
    whole = len(list(events.scalars(str(path))))
    path.write_bytes(data[:-3])
    assert 0 < len(list(events.scalars(str(path)))) < whole
    path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with pytest.raises(StorageError, match="byte"):
        list(events.scalars(str(path)))
    done = qn_exp("tensorboard", "import", str(path.parent), "--experiments-dir", "other")
    assert done.returncode == 3
    assert done.stderr.count("error: ") == 1
    assert done.stdout.count("evaluation") == 1
    empty = qn_exp("tensorboard", "import", "experiments")
    assert (empty.returncode, "no event files" in empty.stderr) == (2, True)


def test_a_number_that_32_bits_cannot_hold_is_infinite(project):
    file = events.EventFile("here", 1.0)
    file.scalars({"x": 1e300, "y": -1e300, "z": 0.1}, 3, 2.0)
    file.close()
    values = [value for *_, value in events.scalars(file.path)]
    assert values == [math.inf, -math.inf, pytest.approx(0.1)]


@pytest.mark.parametrize("phase", ["../../up", "a/b", ".", "..", "x" * 200, "\x00", "虫"])
def test_a_phase_of_any_name_stays_inside_of_the_folder_of_its_run(project, phase):
    manager = make_manager({"tensorboard": {"folder": "here"}})
    with Recorder(
        {"a": 1}, manager=manager, experiments_dir="experiments", warn=lambda text: None
    ) as run:
        run.episode(success=True, phase=phase)
    (inside,) = (path for path in (project / "here" / run.id).iterdir() if path.is_dir())
    assert len(list(inside.glob("events*"))) == 1


def test_a_disk_that_fails_is_said_at_the_end_and_nothing_is_written_twice(project, monkeypatch):
    from qn_tracking_tensorboard.content import Writer

    add, calls = Writer.add, []

    def failing(self, one):
        calls.append(one)
        if len(calls) == 2:
            raise StorageError("no space left on device", file="x")
        add(self, one)

    monkeypatch.setattr(Writer, "add", failing)
    manager = make_manager({"tensorboard": {}})
    with Recorder({"a": 1}, manager=manager, experiments_dir="experiments") as run:
        for _ in range(3):
            run.episode(reward=1.0)
    shown = read(project / "exports" / "tensorboard" / run.id)
    assert [step for step, _ in shown["episode/reward"]] == [0, 1, 2]


def test_options_are_checked():
    with pytest.raises(ConfigError, match="folder"):
        TensorBoard(folder="")


def test_the_example(tmp_path):
    text = README.read_text().split("<!-- tested: command -->\n", 1)[1]
    block = text.split("\n", 1)[1].split("```", 1)[0]
    programs = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", block], cwd=tmp_path, env=programs, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "exports" / "tensorboard").iterdir()
    assert len(read(folder)["episode/success"]) == 40
    assert len(read(folder / "evaluation")["episode/success"]) == 20


class TestSink(SinkContract):
    def make_sink(self, tmp_path):
        self._folder = tmp_path / "events"
        return TensorBoard(folder=str(self._folder))
