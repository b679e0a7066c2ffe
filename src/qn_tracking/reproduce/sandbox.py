"""Bubblewrap around a process: code that is not trusted sees what is listed here and nothing else.

It has an empty file system with the Python, the code and the libraries in it, read-only, and two
small folders in memory; no network, no other process, no capability, a user without rights, and
limits. What it writes is handed out as a stream, so that no file of this machine can be changed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from os.path import basename, dirname, isdir, isfile, islink, join
from pathlib import Path

from attrs import frozen

from qn_tracking.errors import UnsupportedError, printable
from qn_tracking.reproduce import inside, syscalls
from qn_tracking.reproduce.process import Usage, supervise
from qn_tracking.reproduce.visible import code_in, python_files

PACKAGE = "bubblewrap"
# Beyond the users of a machine, below those that a container may have. A random one, so that runs
# side by side neither see nor count each other.
_FIRST_USER, _USERS = 61184, 4096
_SHARED_MEMORY = _TEMPORARY = 256 << 20
_INSIDE = "/inside.py"
COPY = "/tmp/code"  # noqa: S108
"""Where a copy of the code is that may be written to."""


@frozen(kw_only=True)
class Limits:
    """What a process in the sandbox may use, with all that it starts.

    `memory` is in bytes, `output` in bytes of files that it leaves, `seconds` of CPU time.
    """

    memory: int = 8 << 30
    seconds: int = 12 * 3600
    processes: int = 512
    output: int = 512 << 20
    files: int = 1000


@frozen(kw_only=True)
class Sandbox:
    """How to start a process that sees the folder of a run and some code.

    `command` is put before what is to run, `user` is what it becomes if root starts it.
    """

    command: tuple[str, ...]
    user: int | None
    limits: Limits


def program() -> str | None:
    """The path of bubblewrap, if it is installed and all of this works here."""
    return None if missing() else shutil.which("bwrap")


@cache
def missing() -> str | None:
    """Why there can be no sandbox on this machine; None if there can be one."""
    if not sys.platform.startswith("linux"):
        return f"{PACKAGE} exists for Linux only"
    if not syscalls.known():
        return "the sandbox has no filter of system calls for this processor"
    if shutil.which("bwrap") is None:
        return f"{PACKAGE} (bwrap) is not installed"
    with tempfile.TemporaryDirectory() as place:
        try:
            code, said = run(sandboxed(place, sys.executable, ()), [sys.executable, "-V"], place)
        except (UnsupportedError, OSError) as error:
            return f"{PACKAGE} does not work here: {error}"
    lines = [line for line in said.splitlines() if line.strip()]
    if code != 0:
        return f"{PACKAGE} does not work here: {printable(lines[-1] if lines else code)[:200]}"
    return None


def require() -> None:
    """Raises UnsupportedError if there can be no sandbox: code that needs one is not run."""
    cause = missing()
    if cause is not None:
        raise UnsupportedError(
            f"no sandbox: {cause}", hint="--no-sandbox runs it with all that you may do"
        )


def sandboxed(
    folder: str, python: str, roots: Sequence[str], limits: Limits | None = None
) -> Sandbox:
    """A sandbox for a process that starts in `folder`, of which it sees the files.

    In it are the `python` with its libraries, the code of `roots`, and what that Python imports.
    """
    limits = limits or Limits()
    user = _FIRST_USER + int.from_bytes(os.urandom(2)) % _USERS if os.geteuid() == 0 else None
    out = [str(shutil.which("bwrap")), "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if user is None:
        number = str(_FIRST_USER)
        out += ["--unshare-all", "--unshare-user", "--uid", number, "--gid", number]
    else:
        # In a namespace of users root would still be the owner of root's files, such as those in
        # /proc/sys. It becomes another user instead, and loses these three on the way.
        out += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
        out += ["--unshare-cgroup-try", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        out += ["--cap-add", "CAP_SETPCAP"]
    out += ["--hostname", "sandbox", "--proc", "/proc", "--tmpfs", "/proc/sys"]
    out += ["--remount-ro", "/proc/sys", "--dev", "/dev"]
    for place, size in (("/dev/shm", _SHARED_MEMORY), ("/tmp", _TEMPORARY)):  # noqa: S108
        out += ["--perms", "1777", "--size", str(size), "--tmpfs", place]
    out += _shown([*python_files(python), *code_in(roots, python)], folder)
    out += ["--ro-bind", inside.__file__, _INSIDE]
    out += ["--perms", "1777", "--size", str(limits.output), "--tmpfs", folder]
    for name in sorted(os.listdir(folder)):
        if isfile(join(folder, name)):
            out += ["--ro-bind", join(folder, name), join(folder, name)]
    out += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", folder]
    return Sandbox(command=tuple(out), user=user, limits=limits)


def _shown(places: Sequence[str], folder: str) -> list[str]:
    """The options that show these files and folders, the links on the way to them, and the folders
    above all of them and that of the run.
    """
    links: dict[str, str] = {}
    real: dict[str, None] = {}
    for place in places:
        found = _resolved(place, links)
        if os.path.exists(found):
            real[found] = None
    whole = [f"{name}/" for name in real if isdir(name)]

    def new(names: Iterable[str]) -> list[str]:
        return sorted(name for name in names if not name.startswith(tuple(whole)))

    out = []
    above = {str(one) for name in (*new(real), *new(links), folder) for one in Path(name).parents}
    for name in sorted(above - {"/", "/tmp", "/dev", "/proc"}):  # noqa: S108
        out += ["--perms", "0755", "--dir", name]  # else other users may not pass
    for name in new(real):
        out += ["--ro-bind", name, name]
    for name in new(links):
        out += ["--symlink", links[name], name]
    return out


def _resolved(place: str, links: dict[str, str]) -> str:
    """The path without links; adds each link on the way, by its own path without links."""
    found, rest = "/", [part for part in place.split("/") if part]
    steps = 0
    while rest:
        part = rest.pop(0)
        if part == "..":
            found = dirname(found)
            continue
        here = join(found, part)
        if part == "." or not islink(here):
            found = found if part == "." else here
            continue
        steps += 1
        if steps > 40:
            return here
        links[here] = os.readlink(here)
        target = links[here]
        found = "/" if target.startswith("/") else found
        rest = [*(one for one in target.split("/") if one), *rest]
    return found


def run(
    box: Sandbox,
    command: Sequence[str],
    folder: str,
    *,
    variables: Mapping[str, str] | None = None,
    copied: tuple[str, str] | None = None,
    **options: object,
) -> tuple[int, str]:
    """Runs a program in a sandbox; returns its exit code and the end of its standard error.

    The files that it has left in the folder are there afterwards. `variables` are added to its
    environment. With `copied`, a tree and a folder in it, it starts in that folder of a copy of the
    tree, at `COPY`, which it may write to and which is gone afterwards. `options` are those of
    `supervise`. Raises UnsupportedError if it cannot be started or used more than it may.
    """
    limits = box.limits
    about = {
        "uid": box.user,
        "folder": folder,
        "files": limits.files + 1,
        "copy": None if copied is None else [copied[0], COPY, join(COPY, copied[1])],
        "limits": {
            # What a process reserves is more than it uses.
            "RLIMIT_AS": 2 * limits.memory,
            "RLIMIT_CPU": limits.seconds,
            "RLIMIT_NPROC": limits.processes,
            "RLIMIT_FSIZE": limits.output + (1 << 20),
            "RLIMIT_NOFILE": 1024,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 1 << 20,
            "RLIMIT_MSGQUEUE": 0,
        },
    }
    before = set(os.listdir(folder))
    first = [command[0], "-I", "-S", "-B", _INSIDE, json.dumps(about)]
    env = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108
    env |= variables or {}
    usage = Usage(memory=limits.memory, seconds=float(limits.seconds))
    with _filter() as filtered, tempfile.TemporaryFile() as handed:
        whole = [*box.command, "--seccomp", str(filtered), "--", *first, *command]
        code, said = supervise(
            whole, folder, env, stdout=handed, keep=(filtered,), usage=usage, **options,  # type: ignore[arg-type]
        )  # fmt: skip
        handed.seek(0)
        receive(handed, folder, before, limits)
    return code, said


@contextmanager
def _filter() -> Iterator[int]:
    """The filter of system calls, as a descriptor that bubblewrap reads."""
    fd = os.memfd_create("qn-tracking-filter")
    try:
        os.write(fd, syscalls.filter_program())
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def receive(stream: object, folder: str, before: set[str], limits: Limits) -> None:
    """Writes the files that were handed out. Raises UnsupportedError for what no run leaves.

    The stream is a stranger's as well: names, sizes and number are checked.
    """
    read, readline = stream.read, stream.readline  # type: ignore[attr-defined]
    size = files = 0
    while header := readline(4096):
        try:
            about = json.loads(header)
            name, length = about["name"], about["size"]
            parts = name.split("/")
            wrong = type(name) is not str or not 1 <= len(parts) <= 6
            wrong = wrong or any(part in ("", ".", "..") or "\0" in part for part in parts)
            wrong = wrong or not (length is None or (type(length) is int and length >= 0))
        except (ValueError, KeyError, TypeError, AttributeError):
            wrong = True
        if wrong:
            raise UnsupportedError("what the run has left cannot be read")
        if length is None:
            raise UnsupportedError(f"the run has left a link, {basename(printable(name))!r}")
        size, files = size + length, files + 1
        if size > limits.output or files > limits.files:
            most = f"{limits.output >> 20} MiB in {limits.files} files"
            raise UnsupportedError(f"the run has left more than {most}")
        content = read(length)
        if len(content) != length:
            raise UnsupportedError(f"the run has left more than {limits.output >> 20} MiB")
        if parts[0] in before:
            continue
        path = join(folder, *parts)
        try:
            os.makedirs(dirname(path), exist_ok=True)
            with open(path, "xb") as out:
                out.write(content)
        except (OSError, ValueError) as error:
            raise UnsupportedError(f"what the run has left: {printable(error)}") from None
