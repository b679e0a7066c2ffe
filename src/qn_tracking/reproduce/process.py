"""Child processes that do not outlive the call that starts them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from os.path import basename, join
from typing import IO

from attrs import frozen

from qn_tracking.errors import UnsupportedError, describe

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


@frozen(kw_only=True)
class Usage:
    """What a program may use at most, with all that it starts: bytes of memory, and seconds of CPU
    time.
    """

    memory: int
    seconds: float

    def check(self, pid: int) -> None:
        """Raises UnsupportedError if a process and those below it use more."""
        import psutil

        memory, seconds = 0, 0.0
        try:
            first = psutil.Process(pid)
            below = [first, *first.children(recursive=True)]
        except psutil.Error:
            return  # it has ended
        for process in below:
            with suppress(psutil.Error):
                memory += process.memory_info().rss
                seconds += sum(process.cpu_times()[:4])
        if memory > self.memory:
            raise UnsupportedError(f"used more than {self.memory >> 20} MiB of memory")
        if seconds > self.seconds:
            raise UnsupportedError(f"used more than {self.seconds:,.0f} s of CPU time")


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
    *,
    stdout: IO[bytes] | None = None,
    keep: Sequence[int] = (),
    usage: Usage | None = None,
    cwd: str | None = None,
) -> tuple[int, str]:
    """Runs a program in a folder; returns its exit code and the end of its standard error.

    It starts in `cwd` if that is another folder.

    The program and all that it has started are killed when the call ends, for whatever reason.
    It inherits the descriptors that are to be kept. Raises UnsupportedError if it cannot be
    started, if it uses more than `usage`, or `cancelled` returns True.
    """
    with open(join(folder, "stderr"), "x+b") as err:
        try:
            child = subprocess.Popen(
                list(command),
                cwd=cwd or folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if stdout is None else stdout,
                stderr=err,
                pass_fds=tuple(keep),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # of NUL, or half a character, in what is recorded
            cause = error.strerror if isinstance(error, OSError) else describe(error)
            raise UnsupportedError(f"cannot be started: {cause}", file=command[0]) from None
        try:
            code = _wait(child, cancelled, usage)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        err.seek(max(0, err.tell() - 8192))
        return code, err.read(1 << 16).decode("utf-8", "replace")


def _wait(
    child: subprocess.Popen[bytes], cancelled: Callable[[], bool], usage: Usage | None
) -> int:
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(POLL_SECONDS)
        if usage is not None:
            usage.check(child.pid)
        if cancelled():
            raise UnsupportedError("was cancelled")
