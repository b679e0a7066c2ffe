"""The system calls that code in the sandbox may not make, as a filter that the kernel runs.

Namespaces leave the kernel itself in reach. Refused is what a simulation never needs: new
namespaces and mounts, other processes' memory, keyrings, which no namespace separates, modules,
BPF, io_uring, and sockets other than those of the sandbox's own network.
"""

from __future__ import annotations

import errno
import platform
import struct

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
"""Where the kernel puts what a filter asks about: the call, and the low half of its arguments."""
_NEW_NAMESPACES = 0x7E020080
_SOCKETS = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK; not AF_VSOCK, which reaches the host of a machine."""
_TYPES_FOR_OTHERS = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put text into a terminal."""
_X32 = 0x40000000

# Those from 424 on have one number on every processor.
_EVERYWHERE = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 443)
_CLONE3 = 435
_REFUSED = {
    "x86_64": (
        *(101, 103, 134, 135, 153, 154, 155, 159, 161, 163, 164, 165, 166, 167, 168, 169, 170, 171),
        *(172, 173, 174, 175, 176, 177, 178, 179, 180, 212, 227, 237, 238, 246, 248, 249, 250, 256),
        *(272, 279, 298, 300, 303, 304, 305, 308, 310, 311, 312, 313, 320, 321, 323),
    ),
    "aarch64": (
        *(18, 39, 40, 41, 51, 58, 60, 89, 92, 97, 104, 105, 106, 112, 116, 117, 142, 161, 162, 170),
        *(171, 217, 218, 219, 224, 225, 235, 237, 238, 239, 241, 262, 264, 265, 266, 268, 270, 271),
        *(272, 273, 280, 282, 294),
    ),
}
_KNOWN = {"x86_64": (0xC000003E, 56, 41, 16), "aarch64": (0xC00000B7, 220, 198, 29)}
"""The architecture as the kernel names it, and the numbers of `clone`, `socket` and `ioctl`."""


def known() -> bool:
    """Whether there is a filter for the processor of this machine."""
    return platform.machine() in _KNOWN


def filter_program() -> bytes:
    """The filter for this machine, as `bwrap --seccomp` reads it."""
    machine = platform.machine()
    architecture, clone, socket, ioctl = _KNOWN[machine]
    refused = _refuse(errno.EPERM)
    out = [_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, architecture, 1, 0), _step(_RETURN, _KILL)]
    out += [_step(_LOAD, _NUMBER)]
    if machine == "x86_64":
        out += [_step(_AT_LEAST, _X32, 0, 1), refused]
    for number in (*_REFUSED[machine], *_EVERYWHERE):
        out += [_step(_EQUAL, number, 0, 1), refused]
    # Its flags are behind a pointer; a program that gets this answer uses `clone`.
    out += [_step(_EQUAL, _CLONE3, 0, 1), _refuse(errno.ENOSYS)]
    allowed = _step(_RETURN, _ALLOW)
    checks = [_step(_ANY_BIT, _NEW_NAMESPACES, 0, 1), refused, allowed]
    out += _of(clone, _FIRST, checks)
    checks = [one for family in _SOCKETS for one in (_step(_EQUAL, family, 0, 1), allowed)]
    out += _of(socket, _FIRST, [*checks, _refuse(errno.EAFNOSUPPORT)])
    checks = [one for kind in _TYPES_FOR_OTHERS for one in (_step(_EQUAL, kind, 0, 1), refused)]
    out += _of(ioctl, _SECOND, [*checks, allowed])
    return b"".join([*out, allowed])


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _of(call: int, argument: int, checks: list[bytes]) -> list[bytes]:
    """Checks of an argument of one call; they must end with a return."""
    checks = [_step(_LOAD, argument), *checks]
    return [_step(_EQUAL, call, 0, len(checks)), *checks]
