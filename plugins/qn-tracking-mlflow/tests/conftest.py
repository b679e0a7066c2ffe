"""A real MLflow server, in a process of its own; runs to send there, and programs that do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from qn_tracking import Experiment, Recorder, Subject, make_manager

# Whoever starts the tests in the background has them ignored, and so would every program that the
# tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

PATIENCE = 180.0
"""Seconds until a server on a busy machine is up."""


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


class MlflowServer:
    """The server of a folder, on a port of its own that it keeps when it is started again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Returns once it answers."""
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"),
            *("--port", str(self.port)),
            *("--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"),
            *("--artifacts-destination", str(self.folder / "artifacts"), "--serve-artifacts"),
        ]
        with open(self.folder / "log.txt", "ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                # Without the processes for jobs that nobody will have.
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urlopen(f"{self.uri}/health", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.1)
        self.kill()
        pytest.fail(f"no MLflow server: {(self.folder / 'log.txt').read_text()[-2000:]}")

    def kill(self) -> None:
        """Ends it and what it has started, at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _needs_mlflow() -> None:
    missing = [name for name in ("mlflow", "flask", "sqlalchemy") if find_spec(name) is None]
    if missing:
        reason = f"no MLflow server here: {', '.join(missing)} missing (the extra `test` has it)"
        if os.environ.get("QN_REQUIRE_MLFLOW") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    _needs_mlflow()
    server = MlflowServer(tmp_path_factory.mktemp("mlflow") / "server")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(shared_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    """The server of all tests, as the environment names it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shared_server.uri)
    return shared_server


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    """A server that a test may kill."""
    _needs_mlflow()
    own = MlflowServer(tmp_path / "server")
    own.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own.uri)
    yield own
    own.kill()


@pytest.fixture
def client(server: MlflowServer) -> Any:
    """MLflow's own client, to look at what arrived."""
    import mlflow

    return mlflow.MlflowClient(server.uri)


@pytest.fixture
def experiments(tmp_path: Path) -> Path:
    return tmp_path / "experiments"


@pytest.fixture
def record(experiments: Path) -> Callable[..., Experiment]:
    """Records a run of these episodes and returns its record."""

    def make(
        episodes: Iterable[Mapping[str, Any]],
        *plugins: str,
        options: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Experiment:
        named = {"json_storage": {}, **{name: {} for name in plugins}}
        if options is not None:
            named["mlflow"] = options
        recorder = Recorder(
            {"brain": {"gamma": 0.5}} if config is None else config,
            manager=make_manager(named),
            subject=Subject(environment="maze", brain="mlp", family="classical"),
            experiments_dir=experiments,
            **fields,
        )
        with recorder as run:
            for episode in episodes:
                run.episode(**episode)
        assert recorder.experiment is not None
        return recorder.experiment

    return make


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts one of the programs, in the folder above the experiments."""

    def run(name: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [Path(sys.executable).with_name(f"qn-{name}"), *arguments],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


@pytest.fixture
def program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs one of the programs to its end; in this process, which has imported MLflow already."""

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"qn-{name}", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as raised:
            import_module(f"qn_tracking.cli.{name}").entry()
        return subprocess.CompletedProcess(arguments, raised.value.code, *capfd.readouterr())

    return run
