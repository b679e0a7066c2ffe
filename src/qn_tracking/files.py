"""Files that others may have put there, their folder and locks, and descriptors of files."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import time
from contextlib import suppress

from qn_tracking.errors import StorageError, UsageError
from qn_tracking.records.limits import MAX_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from qn_tracking.errors import QnError

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
"""Without O_NONBLOCK, opening a FIFO without a writer waits for ever."""


def load(
    path: str,
    limit: int = MAX_BYTES,
    *,
    error: type[QnError] = StorageError,
    name: str | None = None,
    follow: bool = False,
) -> tuple[bytes, os.stat_result]:
    """The bytes of a regular file, and its stat when it was read; never waits for a FIFO.

    A file that a user names may be a link, so `follow` it; a file of this project never is. Raises
    FileNotFoundError if there is none, and `error` for anything else; that names the file, as
    `name` if given.
    """
    name = path if name is None else name
    try:
        fd = open_file(path, follow=follow)
    except FileNotFoundError:
        if os.path.islink(path):
            raise error("is a link to nothing", file=name) from None
        raise
    except OSError as cause:
        raise os_error(name, cause, error) from None
    try:
        info = os.fstat(fd)
        if info.st_size > limit:
            raise error(f"larger than {limit >> 20} MiB", file=name)
        parts, wanted = [], info.st_size + 1
        while part := os.read(fd, wanted):
            parts.append(part)
            if len(part) < wanted:  # the end, asked for with the first byte that is not there
                break
        return b"".join(parts), info
    except OSError as cause:
        raise os_error(name, cause, error) from None
    finally:
        os.close(fd)


def own_arguments() -> list[str]:
    """The command line of this program; an interpreter inside another program may have none, or
    words that are no text.
    """
    return [str(word) for word in getattr(sys, "argv", ())]


def current_folder() -> str:
    """The current folder. Raises StorageError, which names it, if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        try:
            gone = os.readlink("/proc/self/cwd").removesuffix(" (deleted)")
        except OSError:  # not Linux
            gone = os.environ.get("PWD", ".")
        raise StorageError("the current folder was removed", file=gone) from None


def open_file(path: str, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """Opens a regular file, with `follow` also through a link. Raises OSError for anything else.

    A repository that was cloned may hold a link, a FIFO or a socket where a file of this project
    is expected: what is behind it must be neither read nor changed.
    """
    try:
        fd = os.open(path, _OPEN | flags | (0 if follow else os.O_NOFOLLOW), 0o666)
    except OSError:
        check_file(path, follow=follow)
        raise
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise OSError(f"is {kind_of(mode)}, not a file")
    return fd


def check_file(path: str, *, follow: bool = False) -> None:
    """Raises OSError if there is something at a path, and it is no regular file."""
    try:
        mode = os.stat(path, follow_symlinks=follow).st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        raise OSError(f"is {kind_of(mode)}, not a file") from None


def inside(folder: str, *names: str) -> str:
    """The path of a folder of this project below one that the user named, whether it exists or not.

    Raises StorageError if anything on the way is there and is no folder itself: a link would lead
    to one that is not ours.
    """
    path = folder
    for name in names:
        path = os.path.join(path, name)
        try:
            mode = os.lstat(path).st_mode
        except OSError:  # not there, so that nothing below it is; or using it will say why
            continue
        if not stat.S_ISDIR(mode):
            raise StorageError(f"is {kind_of(mode)}, not a folder", file=path)
    return path


def lock(fd: int, *, wait: bool = True, shared: bool = False) -> bool:
    """Locks an open file until it is closed; False where the file system has no locks.

    Those answer in many ways (ENOSYS, ENOLCK, EIO or EREMOTEIO of NFS without its daemon, EPERM of
    a sandbox): whatever is not the word that another process holds it. A disk that is broken says
    so at the next write. Raises BlockingIOError if another process holds it and it does not `wait`.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(fd, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def lock_soon(fd: int, seconds: float = 1.0) -> bool:
    """Locks an open file, as `lock`, waiting for those who only look whether it is locked.

    Raises BlockingIOError if another process holds it for so long.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return lock(fd, wait=False)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def format_of(path: str, formats: Sequence[str], what: str = "format") -> str:
    """The format that the ending of a path names. Raises UsageError for another one."""
    format = os.path.splitext(path)[1].lower().removeprefix(".")
    if format not in formats:
        hint = f"one of {', '.join(f'.{name}' for name in formats)}"
        raise UsageError(f"the ending names no {what}", file=path, hint=hint)
    return format


def fill_standard_descriptors() -> None:
    """Opens the null device as each of the descriptors 0, 1 and 2 that is closed.

    A program may be started with some of them closed. The next file would get such a number, a
    journal for instance, and what a C library or a child process prints would be written into it.
    """
    # The alternative, to move each file up (F_DUPFD_CLOEXEC), is needed at every place that opens
    # one, plugins and libraries included, and the children would still inherit the gap.
    try:
        while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest number that is free
            os.set_inheritable(fd, True)
    except OSError:  # no null device
        return
    os.close(fd)


def kind_of(mode: int) -> str:
    """`a directory`, `a FIFO`, …: what is there in place of a file."""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    kinds |= {stat.S_IFLNK: "a link", stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def os_error(path: object, cause: OSError, error: type[QnError] = StorageError) -> QnError:
    """The error of one line for an OSError: `PATH: no space left on device (ENOSPC)`."""
    hint = errno.errorcode.get(cause.errno or 0)
    return error(cause_of(cause), file=path, hint=hint)


def cause_of(error: OSError) -> str:
    """What an OSError says, without the number and the name of the file."""
    text = error.strerror.lower() if error.strerror else str(error)
    if error.errno == errno.EMFILE:
        text += f": `ulimit -n` is {most_descriptors()}"
    return text


SPARE = 4
"""Descriptors that the end of a run can do with: it imports, reads and writes one at a time."""
FEW = 64
"""Of so few descriptors none is kept back."""


def most_descriptors() -> int:
    """How many files a process may have open; -1 for any number."""
    return os.sysconf("SC_OPEN_MAX")  # `resource` would have to be imported, which opens files


def spare_descriptors() -> list[int]:
    """Descriptors to close when a program has used up all others."""
    found: list[int] = []
    try:
        while len(found) < SPARE:
            found.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:  # the limit, or no null device
        pass
    return found


def close_spare(descriptors: list[int]) -> None:
    """Closes them, but for numbers that the program has closed and used for files of its own."""
    while descriptors:
        fd = descriptors.pop()
        with suppress(OSError):
            if os.path.samestat(os.fstat(fd), os.stat(os.devnull)):
                os.close(fd)
