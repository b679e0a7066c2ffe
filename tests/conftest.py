"""Real parts for tests: our commands, real git repositories, a small configuration."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure: no test depends on speed.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

BIN = Path(sys.executable).parent


def pytest_xdist_auto_num_workers() -> int:
    """How many processes run the tests: many of these wait for a disk, or for another process."""
    cores = os.cpu_count() or 1
    return cores + min(cores, 4)


def _synced(fd: int) -> None:
    """No test ends in a loss of power, so none waits for the disk.

    `slow/faults.py` sees from outside that files are synced; tests of failures replace this.
    """
    os.fstat(fd)


os.fsync = _synced


def pytest_collection() -> None:
    """Modules and tests stay until the end: nothing in them is garbage, now or later."""
    gc.disable()


def pytest_collection_finish() -> None:
    """See `pytest_collection`."""
    gc.freeze()
    gc.enable()


SMALL = """\
# A static maze that is over in no time.
max_steps: 30
brain:
  name: mlp
  config: {hidden_dim: 8, num_hidden_layers: 1}
environment:
  type: static
  static: {grid_size: 6}
"""

# Whoever starts the tests in the background has them ignored, and so would every program that the
# tests start and then interrupt.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler)

Program = Callable[..., "subprocess.CompletedProcess[str]"]


def wait_until(
    happened: Callable[[], object], process: subprocess.Popen[str] | None = None
) -> None:
    """Until it has, however slow the machine; while the process lives, if one is meant."""
    end = time.monotonic() + 120
    while not happened():
        if process is not None and process.poll() is not None:
            raise AssertionError(process.communicate())
        if time.monotonic() > end:
            if process is not None:
                process.kill()
            raise AssertionError("it did not happen")
        time.sleep(0.02)


NO_LOCKS = """
import fcntl, os
def refuse(fd, operation):
    raise OSError({number}, os.strerror({number}))
fcntl.flock = refuse
"""


def without_locks(number: int) -> dict[str, str]:
    """The environment of processes whose file systems have no locks and answer so."""
    place = Path("no-locks").absolute()
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(NO_LOCKS.format(number=number))
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(place), *([before] if before else [])])}


# A worker of the test runner sets it, and every table would be cut to that width.
os.environ.pop("COLUMNS", None)


def command(
    name: str,
    *args: str,
    env: dict[str, str] | None = None,
    process: bool | None = None,
    **how: Any,
) -> subprocess.CompletedProcess[Any]:
    """Runs `qn-run`, `qn-exp` or `qn-bench` and returns what it printed, and its exit code.

    It runs in this process, which is many times faster than a new one; in a process of its own with
    `process=True`, and where `PYTHONPATH` adds packages.
    """
    alone = process is None and "PYTHONPATH" not in {**os.environ, **(env or {})}
    if process is False or (alone and not how.keys() - {"text", "cwd"}):
        return _called(name, args, env or {}, how.get("cwd"), how.get("text", True))
    options = {"text": True, "errors": "replace"} if how.get("text", True) else {}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [str(BIN / name), *args],
        capture_output=True,
        timeout=300,
        env={**os.environ, **(env or {})},
        **{**options, **how},
    )


def _called(
    name: str, args: tuple[str, ...], env: dict[str, str], cwd: Any, text: bool
) -> subprocess.CompletedProcess[Any]:
    from qn_tracking.cli.command import run

    module = importlib.import_module(f"qn_tracking.cli.{name.removeprefix('qn-')}")
    with _as_a_process(env, cwd, [name, *args]), _redirected() as (out, err):
        try:
            run(module.main)
            code: Any = 0
        except SystemExit as error:
            code = error.code or 0
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        printed = [_content(stream) for stream in (out, err)]
    said = [data.decode(errors="replace") if text else data for data in printed]
    return subprocess.CompletedProcess([name, *args], code, *said)


def _content(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read()


@contextmanager
def _redirected() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Standard output and error in files, for child processes as well; an empty standard input."""
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
        null = stack.enter_context(open(os.devnull))
        streams = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
        kept = [os.dup(fd) for fd in range(3)]
        for fd, source in enumerate([null.fileno(), *(file.fileno() for file in files)]):
            os.dup2(source, fd)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        try:
            yield files[0], files[1]
        finally:
            for name, stream in streams.items():
                setattr(sys, name, stream)
            for fd, copy in enumerate(kept):
                os.dup2(copy, fd)
                os.close(copy)


@contextmanager
def _as_a_process(env: dict[str, str], cwd: Any, argv: list[str]) -> Iterator[None]:
    """What a command changes in its process is put back, and modules of its folder are forgotten."""
    here, before, path, args = os.getcwd(), dict(os.environ), list(sys.path), sys.argv
    os.environ.update(env)
    sys.argv = argv
    if cwd is not None:
        os.chdir(cwd)
    place = os.getcwd()
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.argv, sys.path[:] = args, path
        os.environ.clear()
        os.environ.update(before)
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(place + os.sep):
                del sys.modules[name]
        with suppress(FileNotFoundError):
            os.chdir(here)


@pytest.fixture(scope="session", autouse=True)
def _environment() -> None:
    """Not for what the tests start: the width of a terminal, and options of this pytest."""
    for name in ("COLUMNS", "PYTEST_ADDOPTS"):
        os.environ.pop(name, None)


def version_1(place: Path) -> None:
    """Puts version 1 of the rules in force in the project at a place: ranks without divisions."""
    import qn_tracking.benchmark.protocol as rules

    text = Path(rules.__file__).with_suffix(".yml").read_text(encoding="utf-8")
    now = f"current: {rules.rulebook().current}\n"
    assert text.count(now) == 1
    (place / "benchmarks").mkdir(exist_ok=True)
    (place / "benchmarks/protocol.yml").write_text(
        text.replace(now, "current: 1\n"), encoding="utf-8"
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, outside of any repository, with `small.yml`."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "gitconfig").write_text(
        "[user]\n\tname = T\n\temail = t@example.org\n[init]\n\tdefaultBranch = main\n"
    )
    (tmp_path / "small.yml").write_text(SMALL, encoding="utf-8")
    return tmp_path


@pytest.fixture
def qn_run(project: Path) -> Program:
    """Runs `qn-run` in the project folder."""
    return partial(command, "qn-run")


@pytest.fixture
def qn_exp(project: Path) -> Program:
    """Runs `qn-exp` in the project folder."""
    return partial(command, "qn-exp")


@pytest.fixture
def qn_bench(project: Path) -> Program:
    """Runs `qn-bench` in the project folder."""
    return partial(command, "qn-bench")


@pytest.fixture
def git(project: Path) -> Callable[..., str]:
    """Runs git in a folder, the project's by default."""

    def call(*args: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *args], cwd=cwd or project, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    return call
