"""Real parts for tests: installed programs, real git repositories, a small configuration."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent

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
    """Runs the installed `qn-run` in the project folder."""

    def call(
        *args: str, env: dict[str, str] | None = None, **options: object
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [str(BIN / "qn-run"), *args],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            env={**os.environ, **(env or {})},
            **options,
        )

    return call


@pytest.fixture
def git(project: Path) -> Callable[..., str]:
    """Runs git in a folder, the project's by default."""

    def call(*args: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *args], cwd=cwd or project, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    return call
