"""Writing a file so that it is there whole, or not at all.

`publish`: a temporary file in the same directory, written in full, synced, linked to its final
name, the directory synced. Only then is it "saved". (A rename would overwrite; a link
refuses to.)
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os.path import basename, dirname, isdir, join
from threading import Thread
from typing import TYPE_CHECKING

from qn_tracking.errors import StorageError
from qn_tracking.files import inside, lock, os_error
from qn_tracking.store import paths

if TYPE_CHECKING:
    from io import BufferedRandom

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# By these the sync of a folder has failed. Any other answer is of a file system that cannot sync
# one (CIFS, many of FUSE): it keeps the names in its own way, and nothing more can be done. Of a
# file every answer is a failure.
_SYNC_FAILED = {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE}
_MOVING = ".moving"
"""The end of the name of a copy that is not whole yet."""


def publish(path: str, data: bytes) -> None:
    """Creates a file that must not exist yet; durable on return. Raises StorageError."""
    with published(path) as stream:
        write_all(stream.fileno(), data)


@contextmanager
def published(path: str, *, replace: bool = False) -> Iterator[BufferedRandom]:
    """A stream to write to; its file is there, whole and durable, once the block has ended well.

    Until then, and if the block raises, nothing has changed under that name. Raises StorageError,
    also if there is such a file already and it is not meant to be replaced.
    """
    temporary = join(dirname(path), f".{basename(path)[:100]}.{os.urandom(4).hex()}.tmp")
    with naming(path):
        fd = os.open(temporary, (_NEW & ~os.O_WRONLY) | os.O_RDWR, 0o666)
        try:
            with open(fd, "w+b") as stream:
                yield stream
                stream.flush()
                os.fsync(fd)
            if replace:
                os.replace(temporary, path)
            else:
                _name(temporary, path)
            sync_folder(dirname(path) or ".")
        finally:
            with suppress(OSError):
                os.unlink(temporary)


def _name(temporary: str, path: str) -> None:
    """Gives a file its final name, which must be free. Raises OSError."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # File systems without hard links answer in many ways; what is wrong otherwise shows here.
        # Without links nothing is both exclusive and atomic: the name is taken first, and then
        # replaced. A crash in between leaves an empty file.
        os.close(os.open(path, _NEW, 0o666))
        try:
            os.replace(temporary, path)
        except OSError:
            os.unlink(path)
            raise


def move(source: str, target: str) -> None:
    """Gives a file or a folder a name that is free, on another device by a copy. Raises OSError.

    After a kill in the midst of that there may be both, the one at the target whole; then the same
    call takes the other away.
    """
    if not os.path.lexists(target):
        try:
            os.rename(source, target)
            return
        except OSError as error:
            # Also of a folder in a lower layer of overlayfs.
            if error.errno != errno.EXDEV:
                raise
        temporary = join(dirname(target), f".{basename(target)}{_MOVING}")
        remove(temporary)
        try:
            _copy(source, temporary)
            os.rename(temporary, target)
        except BaseException:
            with suppress(OSError):
                remove(temporary)
            raise
        sync_folder(dirname(target) or ".")
    elif not holds(target, source):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    remove(source)


def holds(target: str, source: str) -> bool:
    """Whether all that is at one path is at another, too. Raises OSError."""
    import filecmp

    if os.path.islink(source) or os.path.islink(target) or isdir(source) != isdir(target):
        return False
    if not isdir(source):
        return filecmp.cmp(source, target, shallow=False)
    return all(
        os.path.lexists(join(target, name)) and holds(join(target, name), join(source, name))
        for name in os.listdir(source)
    )


def _copy(source: str, target: str) -> None:
    """A durable copy of a file or a folder. Raises OSError."""
    import shutil

    if os.path.islink(source) or not isdir(source):
        shutil.copy2(source, target, follow_symlinks=False)
        if not os.path.islink(source):
            sync_file(target)
        return
    os.mkdir(target)
    for name in os.listdir(source):
        _copy(join(source, name), join(target, name))
    shutil.copystat(source, target)
    sync_folder(target)


def remove(path: str) -> None:
    """Removes a file, or a folder with all that is in it, if it is there. Raises OSError."""
    import shutil

    if isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)


def remove_emptied(folder: str) -> None:
    """Removes a folder from which all was moved; what a kill has left of a move may be there.
    Raises OSError.
    """
    for name in os.listdir(folder):
        if name.endswith(_MOVING):
            remove(join(folder, name))
    os.rmdir(folder)


def create(path: str, data: bytes, *, durable: bool = False) -> None:
    """Writes a new file under its own name, and removes it again if that fails. Raises OSError.

    Not durable unless asked: for a folder of our own whose files are synced together later.
    """
    fd = os.open(path, _NEW, 0o666)
    try:
        write_all(fd, data)
        if durable:
            # A failed fsync is not retried: the kernel may have dropped the pages by then.
            os.fsync(fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)


def make_folder(path: str) -> None:
    """Creates a folder and those above it, each of them durable. Raises StorageError."""
    if isdir(path):
        return
    above = dirname(path)
    if above not in ("", path):
        make_folder(above)
    with naming(path):
        with suppress(FileExistsError):
            os.mkdir(path)
        if not isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        sync_folder(above or ".")


def ignore(folder: str, names: str) -> None:
    """Has git ignore these names in a folder, unless another process was first."""
    try:
        publish(join(folder, ".gitignore"), names.encode())
    except StorageError as error:
        if error.hint != "EEXIST":
            raise


def prepare(experiments: str) -> None:
    """Makes a folder of experiments and that of their runs. Raises StorageError."""
    if not isdir(experiments):
        make_folder(experiments)
        ignore(experiments, paths.IGNORED)
    make_folder(inside(experiments, "runs"))


@contextmanager
def locking(fd: int) -> Iterator[bool]:
    """Locks an open file for a block, then closes it; False if another process has the lock."""
    try:
        try:
            lock(fd, wait=False)
            mine = True
        except BlockingIOError:
            mine = False
        yield mine
    finally:
        os.close(fd)


def sync_file(path: str) -> None:
    """Makes the content of a file durable. Raises OSError."""
    with opened(path) as fd:
        os.fsync(fd)


def sync_folder(path: str) -> None:
    """Makes the names in a folder durable, where the file system can. Raises OSError."""
    with opened(path, os.O_DIRECTORY) as fd:
        sync_names(fd)


@contextmanager
def opened(path: str, flags: int = 0) -> Iterator[int]:
    """The descriptor of a file or a folder, to be made durable by. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        yield fd
    finally:
        os.close(fd)


def sync_names(fd: int) -> None:
    """`sync_folder` by the folder's descriptor."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno in _SYNC_FAILED:
            raise


def side_by_side(calls: Sequence[Callable[[], None]]) -> None:
    """Makes several things durable at once: a disk takes ten requests in the time of one or two.

    Returns when all are over. Raises the first error, in the order of the calls.
    """
    errors: list[BaseException | None] = [None] * len(calls)

    def call(number: int) -> None:
        try:
            calls[number]()
        except BaseException as error:
            errors[number] = error

    others = []
    for number in range(1, len(calls)):
        other = Thread(target=call, args=(number,), name="qn-tracking-sync", daemon=True)
        try:
            other.start()
        except RuntimeError:  # no more threads: at the end of the program, or by a limit
            call(number)
        else:
            others.append(other)
    if calls:
        call(0)
    for other in others:
        other.join()
    for error in errors:
        if error is not None:
            raise error


def write_all(fd: int, data: bytes) -> None:
    """Every byte: a disk that is filling up takes some and says so only at the next call."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class naming:
    """Turns an OSError inside into a StorageError that names the path and the errno."""

    def __init__(self, path: object) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # A TimeoutError without a number is of a signal handler.
        if isinstance(error, OSError) and (error.errno or not isinstance(error, TimeoutError)):
            raise os_error(self.path, error) from None
