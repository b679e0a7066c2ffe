"""Runs on an executor that a plugin made: what they are here, whatever happens there."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from conftest import BIN, Program, wait_until

pytestmark = pytest.mark.slow

PLUGIN = """
import os
import pickle
import sys
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Lock

from qn_tracking import hookimpl
from qn_tracking.studies.remote import run_remotely


class Plugin:
    @hookimpl
    def make_executor(self, spec, jobs):
        Path("made").write_text(f"{spec} {jobs}")
        return MAKERS[spec.partition("://")[0]](jobs or 2)


def threads(jobs):
    return ThreadPoolExecutor(jobs)


def processes(jobs, initializer=None):
    return ProcessPoolExecutor(jobs, get_context("forkserver"), initializer)


def other_code(jobs):
    return processes(jobs, look_elsewhere_first)


def look_elsewhere_first():
    sys.path.insert(0, os.path.abspath("other"))


class Interruptible(ThreadPoolExecutor):
    def __init__(self, jobs):
        super().__init__(jobs)
        self.told = Event()

    def submit(self, function, task):
        return super().submit(function, task, stop=self.told.is_set)

    def interrupt(self):
        self.told.set()


class Ends(ThreadPoolExecutor):
    '''Takes two runs; what it says of the third is an error of its own.'''

    def __init__(self, jobs, how):
        super().__init__(1)
        self.taken, self.how = 0, how

    def submit(self, function, task):
        self.taken += 1
        if self.taken <= 2:
            self.last = super().submit(function, task), task
            return self.last[0]
        future = Future()
        if self.how == "exit":
            sys.exit(7)
        if self.how == "text":
            return "queued"
        if self.how == "same":
            return self.last[0]
        if self.how == "other":
            return super().submit(function, self.last[1])
        if self.how == "none":
            future.set_result(None)
        if self.how == "dropped":  # those who wait are not told
            future.cancel()
        if self.how == "submit":
            raise ConnectionError("the scheduler is gone")
        if self.how == "future":
            future.set_exception(ConnectionError("the scheduler is gone"))
        if self.how == "cancel":
            future.cancel()
            future.set_running_or_notify_cancel()
        return future


class Counting(ThreadPoolExecutor):
    '''Writes down how many runs it has at a time, and what it was sent.'''

    def __init__(self, jobs):
        super().__init__(8)
        self.lock, self.now = Lock(), 0

    def submit(self, function, task):
        with self.lock:
            self.now += 1
        with open("sent", "ab") as sent, open("at_a_time", "a") as out:
            pickle.dump(task, sent)
            print(self.now, file=out)
        future = super().submit(function, task)
        future.add_done_callback(self.over)
        return future

    def over(self, future):
        with self.lock:
            self.now -= 1


class Unruly(ThreadPoolExecutor):
    def interrupt(self):
        raise RuntimeError("cannot be told")

    def shutdown(self, wait=True, *, cancel_futures=False):
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        sys.exit("cannot be left")


class NoShutdown:
    def submit(self, function, task):
        raise AssertionError


MAKERS = {
    "unruly": Unruly, "object": lambda jobs: object(), "noshutdown": lambda jobs: NoShutdown(),
    "threads": threads, "processes": processes, "othercode": other_code,
    "interruptible": Interruptible, "counting": Counting,
    **{f"ends{how}": partial(Ends, how=how) for how in HOWS},
}
"""
HOWS = {
    "submit": "ConnectionError: the scheduler is gone",
    "future": "ConnectionError: the scheduler is gone",
    "cancel": "CancelledError: cancelled by the executor",
    "dropped": "CancelledError: cancelled by the executor",
    "exit": "SystemExit: 7",
    "text": "submit returned str, expected a Future",
    "same": "submit returned the Future of another run",
    "none": "what came back is not this run: NoneType",
    "other": "what came back is not this run: run ",
}
"""What an executor does with a run that it does not run, and what is said then."""

SIMULATION = """
import os
import random
import time
from qn_tracking import hookimpl
from qn_tracking.records.model import Subject


class Toy:
    @hookimpl
    def make_simulation(self, config, hook):
        return Made(config.data)


class Made:
    warnings = ()
    subject = Subject(environment="toy", brain="none", packages=("toy",))

    def __init__(self, data):
        self.data = data

    def episodes(self, count, seed):
        draw = random.Random(seed).random
        for index in range(count):
            time.sleep(self.data.get("pause", 0.0))
            if index == 2 and self.data.get("breaks"):
                try:
                    os.close(os.open("broken", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    pass
                else:
                    raise ValueError("the first one breaks")
            reward = float("nan") if self.data.get("nan") and index == 1 else draw()
            yield {"success": reward < 0.5, "steps": 3, "reward": reward}
"""

SINK = """
import os
from qn_tracking import hookimpl
class Sink:
    def __init__(self, api_key=""): pass
    @hookimpl
    def episode_end(self, run, episode):
        with open("heard", "a") as out:
            print(os.getpid(), run.study.index, episode.index, file=out)
"""


def schemes() -> str:
    names = (
        "threads", "processes", "othercode", "interruptible", "counting", "unruly", "object",
        "noshutdown",
    )  # fmt: skip
    ends = (f"ends{how}" for how in (*HOWS, "never"))
    return "\n".join(f"executor.{name} = executors:Plugin" for name in (*names, *ends))


@pytest.fixture
def qn(qn_run: Program, project: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """`qn-run` where a distribution with executors and a simulation is installed."""
    site = project / "site"
    info = site / "qn_elsewhere-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: qn-elsewhere\nVersion: 1.0\n")
    entries = f"[qn_tracking]\nsimulation.toy = toy:Toy\n{schemes()}\n"
    (info / "entry_points.txt").write_text(entries)
    (site / "executors.py").write_text(f"HOWS = {(*HOWS, 'never')}\n{PLUGIN}")
    (site / "toy.py").write_text(SIMULATION)
    monkeypatch.setenv("PYTHONPATH", str(site))
    Path("sink.py").write_text(SINK)
    Path("toy.yml").write_text("simulation: toy\n")
    return qn_run


def records(folder: str = "experiments") -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
    return sorted(found, key=lambda one: (one["study"]["index"], one["study"]["attempt"]))


def completed(folder: str = "experiments") -> list[dict[str, Any]]:
    return [one for one in records(folder) if one["status"] == "completed"]


def digests(folder: str = "experiments") -> list[Any]:
    return [one["digests"] for one in completed(folder)]


def study_id(folder: str = "experiments") -> str:
    (path,) = Path(folder).glob("studies/*/study.json")
    return path.parent.name


def episodes(record: dict[str, Any]) -> list[dict[str, Any]]:
    lines = Path("experiments/runs", record["id"], "episodes.jsonl").read_text().splitlines()
    return [found for found in map(json.loads, lines) if "index" in found]


def test_a_script_needs_no_guard(qn: Program) -> None:
    Path("script.py").write_text(
        "from qn_tracking import Study\n"
        "print('once')\n"
        "study = Study.declare('toy.yml', n_seeds=3, episodes=2)\n"
        "print(study.run(jobs=2, executor='processes://').finished)\n"
    )
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "once\n3\n"), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("scheme", ["threads", "processes"])
def test_a_run_is_the_same_wherever_it_runs(qn: Program, scheme: str) -> None:
    args = ("small.yml", "--n-seeds", "4", "--episodes", "20", "--seed", "1", "--tag", "a=b")
    here = qn(*args, "--jobs", "2", "--experiments-dir", "here")
    assert here.returncode == 0, here.stderr
    there = qn(*args, "--jobs", "2", "--executor", f"{scheme}://")
    assert (there.returncode, there.stdout.count("4 completed")) == (0, 1), there.stderr
    assert digests() == digests("here")
    assert len(digests()) == 4
    for mine, its in zip(records("here"), records(), strict=True):
        for key in ("seed", "episodes", "subject", "config", "tags", "results", "attachments"):
            assert its[key] == mine[key], key
        facts, others = its["facts"]["metadata"], mine["facts"]["metadata"]
        for key in ("git", "code", "packages"):
            assert facts[key] == others[key], key
        assert facts["resources"].keys() == others["resources"].keys()
        assert facts["resources"]["jobs"] == 2
        assert facts["system"].keys() == others["system"].keys()


def test_times_are_those_of_the_worker(qn: Program) -> None:
    Path("toy.yml").write_text("simulation: toy\npause: 0.05\n")
    done = qn(
        "toy.yml", "--n-seeds", "3", "--episodes", "6", "--executor", "processes", "--jobs", "1"
    )
    assert done.returncode == 0, done.stderr
    found = records()
    for one in found:
        # Writing it down has taken a moment.
        assert one["wall_seconds"] >= 0.3
        assert one["facts"]["metadata"]["resources"]["wall_seconds"] >= 0.3
        at = [episode["timing"]["at"] for episode in episodes(one)]
        assert all(later - earlier >= 0.05 for earlier, later in pairwise(at))
        assert one["wall_seconds"] > at[-1]
        started, ended = (datetime.fromisoformat(one[key]) for key in ("started", "ended"))
        assert (ended - started).total_seconds() >= 0.29
    times = [datetime.fromisoformat(one[key]) for one in found for key in ("started", "ended")]
    assert times == sorted(times)


def test_sinks_hear_every_episode_in_the_process_that_was_started(qn: Program) -> None:
    process = subprocess.Popen(
        [str(BIN / "qn-run"), "toy.yml", "--n-seeds", "3", "--episodes", "4", "--executor",
         "processes://", "--plugins", "sink:Sink", "--quiet"],
    )  # fmt: skip
    assert process.wait(300) == 0
    heard = [tuple(map(int, line.split())) for line in Path("heard").read_text().splitlines()]
    assert {pid for pid, *_ in heard} == {process.pid}
    expected = [(index, episode) for index in range(3) for episode in range(4)]
    assert sorted((index, episode) for _, index, episode in heard) == expected


def test_numbers_that_are_not_finite_arrive(qn: Program) -> None:
    Path("toy.yml").write_text("simulation: toy\nnan: true\n")
    args = ("toy.yml", "--n-seeds", "2", "--episodes", "3", "--seed", "1")
    assert qn(*args, "--experiments-dir", "here").returncode == 0
    done = qn(*args, "--executor", "processes")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("a number is NaN or infinite; kept as text") == 1
    assert digests() == digests("here")
    for one in records():
        assert math.isnan(float(episodes(one)[1]["reward"]))
        assert episodes(one)[1]["reward"] == "NaN"
    for mine, its in zip(records("here"), records(), strict=True):
        assert its["warnings"] == mine["warnings"]


def test_a_run_that_fails_is_recorded_and_the_others_are_kept(qn: Program) -> None:
    Path("toy.yml").write_text("simulation: toy\nbreaks: true\n")
    done = qn("toy.yml", "--n-seeds", "3", "--episodes", "5", "--executor", "processes")
    assert done.returncode == 1
    assert "ValueError: the first one breaks" in done.stderr
    assert f"try again with: qn-run --resume {study_id()}" in done.stderr
    (failed,) = [one for one in records() if one["status"] == "failed"]
    assert failed["error"]["type"] == "ValueError"
    assert failed["error"]["message"] == "the first one breaks"
    assert "toy.py" in failed["error"]["traceback"]
    assert failed["results"]["episodes"] == 2
    assert len(completed()) == 2
    again = qn("--resume", study_id(), "--executor", "threads")
    assert again.returncode == 0, again.stderr
    assert [one["study"]["index"] for one in completed()] == [0, 1, 2]


def test_a_worker_that_cannot_make_the_simulation_says_why(qn: Program) -> None:
    other = Path("other")
    other.mkdir()
    (other / "toy.py").write_text("raise ImportError('no such library')\n")
    done = qn("toy.yml", "--n-seeds", "2", "--episodes", "5", "--executor", "othercode")
    assert done.returncode == 1
    assert "plugin simulation.toy: cannot be imported: ImportError: no such library" in done.stderr
    assert records() == []
    assert "2 missing" in done.stdout


def test_a_worker_with_other_code_is_refused(qn: Program) -> None:
    other = Path("other")
    other.mkdir()
    (other / "toy.py").write_text(SIMULATION.replace("< 0.5", "< 0.6"))
    done = qn("toy.yml", "--n-seeds", "2", "--episodes", "5", "--executor", "othercode")
    assert done.returncode == 1
    assert "runs 0 and 1: the worker runs other code of toy" in done.stderr
    assert records() == []
    again = qn("--resume", study_id(), "--executor", "processes")
    assert again.returncode == 0, again.stderr
    assert len(completed()) == 2


SLOW = "simulation: toy\npause: 0.15\n"


def started(*args: str) -> subprocess.Popen[str]:
    """A study of slow runs, one of which at least is written down."""
    Path("toy.yml").write_text(SLOW)
    process = subprocess.Popen(
        [str(BIN / "qn-run"), "toy.yml", "--n-seeds", "6", "--episodes", "10", "--seed", "3", *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: len(records()) >= 1, process)
    return process


@pytest.mark.parametrize("scheme", ["interruptible", "threads"])
def test_the_first_ctrl_c_ends_runs_after_their_episode(qn: Program, scheme: str) -> None:
    # Without --jobs, the executor has all of them already.
    more = ["--jobs", "2"] if scheme == "interruptible" else []
    process = started("--executor", scheme, *more)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert f"go on with: qn-run --resume {study_id()}" in errors
    stopped = [one for one in records() if one["status"] == "interrupted"]
    if scheme == "interruptible":
        assert stopped
        assert all(0 < one["results"]["episodes"] < 10 for one in stopped)
    else:  # it cannot tell them: those under way are finished, no other is begun
        assert stopped == []
    assert len(records()) < 6
    assert "missing" in said
    again = qn("--resume", study_id(), "--executor", scheme, "--jobs", "3")
    assert again.returncode == 0, again.stderr
    assert qn("toy.yml", "--n-seeds", "6", "--episodes", "10", "--seed", "3", "--jobs", "3",
              "--experiments-dir", "here").returncode == 0  # fmt: skip
    assert digests() == digests("here")


def test_the_second_ctrl_c_ends_it_at_once(qn: Program) -> None:
    process = started("--executor", "processes", "--jobs", "1", "--set", "pause=0.5")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "again to stop at once" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.endswith(f"go on with: qn-run --resume {study_id()}\n")
    assert len(records()) < 6
    assert all(one["status"] == "completed" for one in records())


def test_a_run_that_no_worker_ever_takes_can_be_given_up(qn: Program) -> None:
    process = started("--executor", "endsnever")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    assert f"go on with: qn-run --resume {study_id()}" in errors
    assert len(records()) <= 2


@pytest.mark.parametrize("scheme", ["object", "noshutdown"])
def test_what_is_no_executor_is_refused_before_anything_is_declared(
    qn: Program, scheme: str
) -> None:
    done = qn("toy.yml", "--n-seeds", "2", "--episodes", "2", "--executor", f"{scheme}://x")
    assert done.returncode == 1
    missing = "object has no submit" if scheme == "object" else "NoShutdown has no shutdown"
    assert done.stderr == (
        f"error: plugin executor.{scheme}: make_executor: made no executor: {missing}\n"
    )
    assert not Path("experiments").exists()


def test_an_executor_that_cannot_be_left_is_a_warning(qn: Program) -> None:
    done = qn("toy.yml", "--n-seeds", "2", "--episodes", "2", "--executor", "unruly")
    assert done.returncode == 0, done.stderr
    assert "2 completed" in done.stdout
    said = "warning: plugin executor.unruly: shutdown: SystemExit: cannot be left\n"
    assert said in done.stderr


def test_an_executor_that_cannot_be_interrupted_is_waited_for(qn: Program) -> None:
    process = started("--executor", "unruly", "--jobs", "1")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "cannot stop its runs: RuntimeError: cannot be told" in errors
    assert f"go on with: qn-run --resume {study_id()}" in errors
    assert "Traceback" not in errors
    assert all(one["status"] == "completed" for one in records())


FEW = ("submit", "exit")


@pytest.mark.parametrize(
    "how", [how if how in FEW else pytest.param(how, marks=pytest.mark.slow) for how in HOWS]
)
def test_what_the_executor_does_not_run_is_missing(qn: Program, how: str) -> None:
    args = ("toy.yml", "--n-seeds", "4", "--episodes", "5", "--seed", "2")
    done = qn(*args, "--executor", f"ends{how}")
    assert done.returncode == 1
    assert "runs 2 and 3: " in done.stderr
    assert HOWS[how] in done.stderr
    assert "Traceback" not in done.stderr
    assert "2 completed, 2 missing" in done.stdout
    again = qn("--resume", study_id())
    assert again.returncode == 0, again.stderr
    assert qn(*args, "--experiments-dir", "here").returncode == 0
    assert digests() == digests("here")


@pytest.mark.parametrize(("jobs", "most"), [("2", 2), (None, 6)])
def test_no_more_at_a_time_than_asked_for(qn: Program, jobs: str | None, most: int) -> None:
    Path("toy.yml").write_text(SLOW)
    more = ["--jobs", jobs] if jobs else []
    done = qn("toy.yml", "--n-seeds", "6", "--episodes", "3", "--executor", "counting://x", *more)
    assert done.returncode == 0, done.stderr
    assert max(map(int, Path("at_a_time").read_text().split())) == most
    assert Path("made").read_text() == f"counting://x {jobs}"
    used = {one["facts"]["metadata"]["resources"].get("jobs") for one in records()}
    assert used == {int(jobs) if jobs else None}


def test_options_of_sinks_stay_here(qn: Program) -> None:
    with Path("toy.yml").open("a") as config:
        config.write("plugins: {json_storage: , 'sink:Sink': {api_key: hunter2secret}}\n")
    args = ("toy.yml", "--n-seeds", "2", "--episodes", "3", "--notes", "for me", "--tag", "who=me")
    done = qn(*args, "--executor", "counting")
    assert done.returncode == 0, done.stderr
    assert len(Path("heard").read_text().splitlines()) == 6
    sent = Path("sent").read_bytes()
    assert b"toy" in sent
    assert b"hunter2" not in sent
    assert b"for me" not in sent
    assert {one["notes"] for one in records()} == {"for me"}


def test_a_sink_that_is_blocked_need_not_be_known_there(qn: Program) -> None:
    done = qn("toy.yml", "--n-seeds", "2", "--episodes", "3", "--executor", "processes",
              "--plugins", "sink:Sink", "--no-plugin", "sink:Sink")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not Path("heard").exists()


def test_an_executor_that_nobody_knows_is_said_at_once(qn: Program) -> None:
    words = ("toy.yml", "--n-seeds", "2", "--episodes", "2", "--executor", "nope://x")
    for done in (qn(*words), qn(*words, "--dry-run")):
        assert done.returncode == 2
        assert done.stderr.startswith(
            "error: --executor nope://x: unknown executor (known: local, "
        )
        assert done.stderr.count("\n") == 1
    assert not Path("experiments").exists()
    assert not Path("made").exists()


def test_a_dry_run_starts_no_executor(qn: Program) -> None:
    done = qn("toy.yml", "--n-seeds", "2", "--executor", "threads", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert not Path("made").exists()
    assert not Path("experiments").exists()
