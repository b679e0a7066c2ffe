"""A real cluster: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

# Whoever starts the tests in the background has them ignored, and so would every program that the
# tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

BIN = Path(sys.executable).parent

TOY = '''
"""Runs that take as long as they are told, and tell who is at them."""
import os
import random
import time
from pathlib import Path
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
        told = f"{self.data['folder']}/marks/{os.getpid()}-{seed}"
        with open(told, "a") as out:
            print("begun", time.time(), file=out, flush=True)
            try:
                for _ in range(count):
                    if self.data.get("kills"):
                        os.kill(os.getpid(), 9)
                    time.sleep(float(Path(self.data["folder"], "pause").read_text()))
                    reward = draw()
                    yield {"success": reward < 0.5, "steps": 3, "reward": reward}
            finally:
                print("ended", time.time(), file=out, flush=True)
'''


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Waits for a condition, and returns what it says."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not in {seconds:.0f} s: {what}")


def alive(pid: int) -> bool:
    """Whether a process is there and not waiting to be buried."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Worker:
    """A `dask worker`; `pid` is that of the process in which runs run."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, nanny: bool) -> None:
        self.process, self.log, self._nanny = process, log, nanny

    @property
    def pid(self) -> int:
        if not self._nanny:
            return self.process.pid
        children = psutil.Process(self.process.pid).children()
        (found,) = (one for one in children if any("spawn_main" in part for part in one.cmdline()))
        return found.pid

    def kill(self) -> None:
        """Its nanny too, so that nobody starts it again."""
        pids = {self.process.pid, self.pid}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


class Cluster:
    """A scheduler on a free port, and the workers that were added to it."""

    def __init__(self, folder: Path, site: Path) -> None:
        self._folder, self._site = folder, site
        self._started: list[subprocess.Popen[bytes]] = []
        self.file = folder / "scheduler.json"

    def start(self, *args: str, host: str = "127.0.0.1", path: str = "") -> Cluster:
        """Starts the scheduler; `path` is looked into first for what it imports."""
        self.scheduler, _ = self._run(
            "scheduler", "--host", host, "--port", "0", "--no-dashboard",
            "--scheduler-file", str(self.file), *args, path=path,
        )  # fmt: skip
        until(lambda: self.file.exists() and self.file.read_text().endswith("}"), "a scheduler")
        self.address = json.loads(self.file.read_text())["address"]
        self.spec = "dask://" + self.address.removeprefix("tcp://")
        return self

    def add(
        self, *args: str, threads: int = 1, nanny: bool = True, path: str = "", wait: bool = True
    ) -> Worker:
        """Starts a worker; `path` is looked into first for what it imports."""
        process, log = self._run(
            "worker", self.address, "--nthreads", str(threads), "--no-dashboard",
            "--local-directory", str(self._folder / "scratch"),
            *([] if nanny else ["--no-nanny"]), *args, path=path,
        )  # fmt: skip
        worker = Worker(process, log, nanny)
        if wait:
            until(lambda: "Registered to" in log.read_text(), "a worker")
        return worker

    def _run(self, *args: str, path: str = "") -> tuple[subprocess.Popen[bytes], Path]:
        log = self._folder / f"{args[0]}{len(self._started)}.log"
        env = {name: text for name, text in os.environ.items() if not name.endswith("_NUM_THREADS")}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [path, str(self._site)]))
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(BIN / "dask"), *args], stdout=out, stderr=out, env=env, cwd=self._folder
            )
        self._started.append(process)
        return process, log

    def stop(self) -> None:
        """Ends every process."""
        for process in self._started:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
                process.wait(10)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the simulation `toy` is installed."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "qn_toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: qn-toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[qn_tracking]\nsimulation.toy = toy:Toy\n")
    (folder / "toy.py").write_text(TOY)
    return folder


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Iterator[Cluster]:
    """Two workers, for tests that leave them whole."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), site).start()
    try:
        for worker in [cluster.add(wait=False) for _ in range(2)]:
            until(lambda log=worker.log: "Registered to" in log.read_text(), "a worker")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(tmp_path: Path, site: Path) -> Iterator[Cluster]:
    """A scheduler of this test's own, not started and without workers."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = Cluster(folder, site)
    try:
        yield made
    finally:
        made.stop()


class Project:
    """A folder to run studies in, and what they left there."""

    until, alive = staticmethod(until), staticmethod(alive)

    def __init__(self, site: Path) -> None:
        # However slow the machine, a scheduler that is there will answer.
        self.env = {**os.environ, "PYTHONPATH": str(site), "QN_DASK_PATIENCE": "90"}
        self._running: list[subprocess.Popen[str]] = []
        Path("marks").mkdir()
        Path("toy.yml").write_text(f"simulation: toy\nfolder: {os.getcwd()}\n")
        self.pause(0.0)

    def pause(self, seconds: float) -> None:
        """How long an episode of `toy.yml` takes from now on."""
        Path("pause.new").write_text(str(seconds))
        Path("pause.new").rename("pause")

    def finish(self) -> None:
        """Goes on with the study here, as fast as it can."""
        self.pause(0.0)
        done = self.run("--resume", self.study(), "--jobs", "2")
        assert done.returncode == 0, done.stderr

    def run(self, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs `qn-run` to its end."""
        return subprocess.run(
            [str(BIN / "qn-run"), *args],
            capture_output=True, text=True, timeout=120, env={**self.env, **more},
        )  # fmt: skip

    def start(self, *args: str, **more: str) -> subprocess.Popen[str]:
        """Starts `qn-run`, in a process group of its own as a terminal would."""
        with Path("said").open("w") as said:
            process = subprocess.Popen(
                [str(BIN / "qn-run"), *args], stdout=subprocess.DEVNULL,
                stderr=said, text=True, env={**self.env, **more}, start_new_session=True,
            )  # fmt: skip
        self._running.append(process)
        return process

    def said(self) -> str:
        """What the program that was started has written on standard error so far."""
        return Path("said").read_text()

    def stop(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()

    def records(self, folder: str = "experiments") -> list[dict[str, Any]]:
        found = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
        return sorted(found, key=lambda one: (one["study"]["index"], one["study"]["attempt"]))

    def statuses(self, folder: str = "experiments") -> list[str]:
        return [one["status"] for one in self.records(folder)]

    def digests(self, folder: str = "experiments") -> list[Mapping[str, str]]:
        return [one["digests"] for one in self.records(folder) if one["status"] == "completed"]

    def study(self) -> str:
        (path,) = Path("experiments/studies").glob("*/study.json")
        return path.parent.name

    def marks(self) -> list[tuple[int, int, list[tuple[str, float]]]]:
        """Process, seed, and what was told with its time, of every run that was begun."""
        out = []
        for path in Path("marks").iterdir():
            pid, seed = path.name.split("-")
            lines = [line.split() for line in path.read_text().splitlines()]
            out.append((int(pid), int(seed), [(what, float(at)) for what, at in lines]))
        return out

    def at_work(self) -> set[int]:
        """The processes that are at a run now."""
        return {pid for pid, _, told in self.marks() if told and told[-1][0] == "begun"}


@pytest.fixture
def project(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """An empty folder to stand in."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    subprocess.run(["git", "init", "-q"], check=True)
    made = Project(site)
    try:
        yield made
    finally:
        made.stop()
