"""The first program in the sandbox: gives up what it has, runs the code, hands out what it wrote.

It is a file by itself, run by the Python of the sandbox, which may not have this package.

    python -I -S -B inside.py ABOUT COMMAND …

ABOUT is JSON: `uid` to become or None, `limits` by the names of `resource`, the `folder` to hand
out, and at most how many `files`; `copy` is None or a tree, where to copy it, and where to start in
the copy. Its standard output gets a line of JSON for each file, with
`name` and `size`, and then the content; a link has no size.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys


def main() -> int:
    """Returns the exit code of the command, 128 + n if signal n ended it."""
    about = json.loads(sys.argv[1])
    out = os.dup(1)  # no child inherits a copy
    if about["uid"] is not None:
        _lose_capabilities()
        os.setgroups([])
        os.setresgid(about["uid"], about["uid"], about["uid"])
        os.setresuid(about["uid"], about["uid"], about["uid"])
        _inherit_no_capability()
    _hide()
    if 0 in os.getresuid():
        raise SystemExit("error: the sandbox runs as root")
    for name, value in about["limits"].items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (least, least))
    child = os.fork()
    if child == 0:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            if about["copy"] is not None:
                _copy(*about["copy"])
            os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606
        except OSError as error:
            cause = error.strerror or "the code cannot be copied"
            os.write(2, f"error: {sys.argv[2]}: {cause}\n".encode())
        finally:
            os._exit(127)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(out, "wb") as stream:
        left = about["files"]
        for place, folders, files in os.walk(about["folder"]):
            for name in (*folders, *files):
                path = os.path.join(place, name)
                if left == 0 or not (os.path.islink(path) or os.path.isfile(path)):
                    continue
                left -= 1
                _hand_out(path, os.path.relpath(path, about["folder"]), stream)
    return 128 - code if code < 0 else code


def _copy(tree: str, place: str, start: str) -> None:
    """Copies the code, so that a program that writes beside it finds what it expects."""
    import shutil

    shutil.copytree(tree, place, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    os.chdir(start)


def _hide() -> None:
    """Keeps the code, which is of the same user, from the memory and the files of this process."""
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)


def _lose_capabilities() -> None:
    """Takes from root what no program that it starts can have again."""
    libc = ctypes.CDLL(None)
    drop, last = 24, 63
    for capability in range(last + 1):
        libc.prctl(drop, capability, 0, 0, 0)


def _inherit_no_capability() -> None:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)())


def _hand_out(path: str, name: str, stream: object) -> None:
    write = stream.write  # type: ignore[attr-defined]
    if os.path.islink(path):
        write(json.dumps({"name": name, "size": None}).encode() + b"\n")
        return
    with open(path, "rb") as file:
        content = file.read()
    write(json.dumps({"name": name, "size": len(content)}).encode() + b"\n" + content)


if __name__ == "__main__":
    sys.exit(main())
