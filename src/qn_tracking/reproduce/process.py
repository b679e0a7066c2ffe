"""Child processes that do not outlive the call that starts them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from os.path import basename, join

from qn_tracking.errors import UnsupportedError

INHERITED = (
    "HOME",
    "PATH",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CEILING_DIRECTORIES",
)
"""What a run may see of this process's environment."""
POLL_SECONDS = 0.2


def minimal_environment() -> dict[str, str]:
    """The environment variables that a run may see."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def run_tool(command: Sequence[str], env: Mapping[str, str], seconds: float) -> tuple[int, str]:
    """Exit code and output of a tool. Raises UnsupportedError if it does not start or end."""
    try:
        done = subprocess.run(
            list(command), env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise UnsupportedError(f"{basename(command[0])} took longer than {seconds:g} s") from None
    except OSError as error:
        raise UnsupportedError(f"{basename(command[0])}: {error.strerror}") from None
    return done.returncode, (done.stderr + done.stdout).decode("utf-8", "replace")


def supervise(
    command: Sequence[str],
    folder: str,
    env: Mapping[str, str],
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[int, str]:
    """Runs a program in a folder; returns its exit code and the end of its standard error.

    The program and all that it has started are killed when the call ends, for whatever reason.
    Raises UnsupportedError if it cannot be started, or `cancelled` returns True.
    """
    with open(join(folder, "stderr"), "x+b") as err:
        try:
            child = subprocess.Popen(
                list(command),
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=err,
                start_new_session=True,
            )
        except OSError as error:
            raise UnsupportedError(
                f"cannot be started: {error.strerror}", file=command[0]
            ) from None
        try:
            code = _wait(child, cancelled)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        err.seek(max(0, err.tell() - 8192))
        return code, err.read(1 << 16).decode("utf-8", "replace")


def _wait(child: subprocess.Popen[bytes], cancelled: Callable[[], bool]) -> int:
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(POLL_SECONDS)
        if cancelled():
            raise UnsupportedError("was cancelled")
