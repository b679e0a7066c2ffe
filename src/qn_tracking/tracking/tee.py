"""Keeps what a process prints, on request, while it is shown as before.

    python train.py → descriptors 1 and 2 → this module as a process → the terminal, and output.txt

Descriptors are captured, not `sys.stdout`: what C libraries and child processes print is kept, too.
Another process reads them, because a thread would wait for a library that prints and holds the
interpreter's lock, and would die with a run that is killed.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from qn_tracking.errors import StorageError, describe

QUIET = 0.05
"""Seconds without output after which a run has printed all, though a child could print more."""
PATIENCE = 1.0
CHUNK = 1 << 16
COMPLETE = b"complete\n"

_active: list[Tee] = []
"""The first one shows what it gets where this process has printed before."""
_helpers: list[subprocess.Popen[bytes]] = []


# ----------------------------------------------------------------------------- in the run's process


class Tee:
    """From now on, what this process prints is kept in the new file `path`."""

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        self._warn, self._state = warn, "new"
        if _number(sys.stdout) not in (1, None):
            warn("capture_output: what the program itself prints is not kept, as in a notebook")
        self._buffering = [one for one in _streams() if not one.line_buffering]
        _flush()
        self._saved: dict[int, int] = {}
        ends: dict[int, tuple[int, int]] = {}
        self._control, control = socket.socketpair()
        try:
            with open(path, "xb"):  # there from now on, though nothing was printed yet
                pass
            for fd in (1, 2):
                self._saved[fd] = os.dup(fd)
                if fd == 1 or not os.path.sameopenfile(1, 2):  # of one terminal, the order is kept
                    ends[fd] = _channel(fd)
            self._start(path, control.fileno(), {fd: source for fd, (source, _) in ends.items()})
            for fd in (1, 2):
                os.dup2(ends.get(fd, ends[1])[1], fd)
        except OSError as error:
            self._restore()
            self._control.close()
            warn(f"capture_output: {describe(error)}; nothing is kept")
        else:
            self._state = "running"
            _active.append(self)
            for stream in self._buffering:  # what was printed before a kill must be there
                stream.reconfigure(line_buffering=True)
        finally:
            control.close()
            for fd in (fd for pair in ends.values() for fd in pair):
                os.close(fd)

    def _start(self, path: str, control: int, sources: Mapping[int, int]) -> None:
        """Starts the other process. Raises OSError."""
        folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        code = f"import sys; sys.path.append({folder!r}); from {__name__} import main; main()"
        pairs = [f"{target}:{source}" for target, source in sources.items()]
        helper = subprocess.Popen(
            [sys.executable or "python3", "-P", "-c", code, path, str(control), *pairs],
            stdin=subprocess.DEVNULL,
            pass_fds=(control, *sources.values()),
            # Of its own: Ctrl-C, and a kill of the whole job, end what prints first.
            start_new_session=True,
        )
        _helpers[:] = [*(one for one in _helpers if one.poll() is None), helper]
        self._helper = helper

    def stop(self) -> bool:
        """Prints to where it was before; returns whether the file is complete."""
        if self._state != "running":
            return self._state == "complete"
        self._state = "over"
        _flush()
        for stream in self._buffering:
            with suppress(ValueError):  # it was closed
                stream.reconfigure(line_buffering=False)
        place = _active.index(self)
        _active.remove(self)
        if place < len(_active):  # the one that began later will print to where we did
            above = _active[place]
            self._saved, above._saved = above._saved, self._saved
            for fd in self._saved.values():
                os.close(fd)
        else:
            self._restore()
        said = b""
        with self._control, suppress(OSError):
            with suppress(BrokenPipeError):  # it ended with the last descriptor that it reads
                self._control.sendall(b"over")
            while not said.endswith(b"\n") and (part := self._control.recv(CHUNK)):
                said += part
        with suppress(subprocess.TimeoutExpired):  # it lives on with a child that prints
            self._helper.wait(QUIET)
        if said == COMPLETE:
            self._state = "complete"
            return True
        cause = said.decode(errors="replace").strip() or "its process was killed"
        self._warn(f"capture_output: {cause}; the output is not complete")
        return False

    def _restore(self) -> None:
        for fd, saved in self._saved.items():
            os.dup2(saved, fd)
            os.close(saved)


def _streams() -> list[Any]:
    return [one for one in (sys.stdout, sys.stderr) if hasattr(one, "reconfigure")]


def _number(stream: Any) -> int | None:
    if stream is None:
        return None
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return -1


def _flush() -> None:
    """Also what C libraries hold back."""
    import ctypes

    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)


def _channel(fd: int) -> tuple[int, int]:
    """What replaces a descriptor: where it is read, where it is written. A terminal stays one."""
    if not os.isatty(fd):
        return os.pipe()
    import pty
    import termios
    import tty

    master, slave = pty.openpty()
    tty.setraw(slave)  # the terminal itself makes of the bytes what it always makes
    with suppress(termios.error, OSError):
        termios.tcsetwinsize(slave, termios.tcgetwinsize(fd))
    return master, slave


# ----------------------------------------------------------------------------- in the other process


def main() -> None:
    """Reads what a run prints, shows and keeps it until nothing can be printed any more."""
    from qn_tracking.store.output import Channel, Output

    # What ends a run ends this process only once the run can print no more.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    path, control, *pairs = sys.argv[1:]
    run = socket.socket(fileno=int(control))
    ways = selectors.DefaultSelector()
    ways.register(run, selectors.EVENT_READ)
    for pair in pairs:
        target, source = map(int, pair.split(":"))
        ways.register(source, selectors.EVENT_READ, (target, Channel()))
    output, failure = None, ""
    try:
        output = Output(path)
    except StorageError as error:
        failure = str(error)

    def add(lines: bytes) -> None:
        nonlocal output, failure
        try:
            if output is not None:
                output.add(lines)
        except StorageError as error:
            output, failure = None, str(error)

    def pump(seconds: float | None) -> bool:
        """Passes on what there is, or waits for it; whether the run has said that it is over."""
        over = False
        for key, _ in ways.select(seconds):
            if key.data is None:
                over = True
                continue
            target, channel = key.data
            data = _read(key.fd)
            add(channel.lines(data) if data else channel.rest())
            if not data or not _show(target, key.fd, data):
                ways.unregister(key.fd)
                os.close(key.fd)
        return over

    channels = [key.data[1] for key in ways.get_map().values() if key.data]
    while len(ways.get_map()) > 1 and not pump(None):
        pass
    ways.unregister(run)
    end = time.monotonic() + PATIENCE
    while ways.get_map() and time.monotonic() < end and ways.select(QUIET):
        pump(0)
    for channel in channels:
        add(channel.rest())
    try:
        if output is not None:
            output.close()
    except StorageError as error:
        failure = str(error)
    output = None
    with suppress(OSError), run:
        run.sendall(failure.encode() + b"\n" if failure else COMPLETE)
    while ways.get_map():  # a child of the run that prints on
        pump(None)
    os._exit(0)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK)
    except OSError:  # of a terminal: nothing has it open any more
        return b""


def _show(target: int, source: int, data: bytes) -> bool:
    """Prints where the run has printed before; False if that is gone, for the run to notice."""
    from qn_tracking.store.write import write_all

    try:
        if os.isatty(target):
            import termios

            termios.tcsetwinsize(source, termios.tcgetwinsize(target))
        write_all(target, data)
    except OSError:
        return False
    return True
