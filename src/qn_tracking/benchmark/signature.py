"""Signatures by SSH keys: `benchmarks/signatures/<id>.sig`, made and checked by `ssh-keygen -Y`.

What is signed is one line that names the record and the digest of its file. The project has no
cryptography and no key of its own: a file of allowed signers, which the reader provides, says who
may sign as whom.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import dirname, exists, join

from qn_tracking.benchmark.places import SIGNATURES
from qn_tracking.errors import QnError, UnsupportedError
from qn_tracking.files import inside
from qn_tracking.ids import check_id
from qn_tracking.store import read
from qn_tracking.store.write import make_folder, publish

NAMESPACE = "qn-tracking"
SECONDS = 20.0
_FINGERPRINT = re.compile(rb"SHA256:[A-Za-z0-9+/]{43}")


class SignatureError(QnError):
    """A signature of another record, or of a key that is not allowed."""


def path(benchmarks: str, id: str) -> str:
    """The signature of a record, a submission or a verification."""
    return join(inside(benchmarks, SIGNATURES), f"{check_id(id)}.sig")


def message(kind: str, id: str, sha256: str) -> bytes:
    """What is signed: `qn-tracking submission <id> <sha256>`."""
    return f"{NAMESPACE} {kind} {check_id(id)} {sha256}\n".encode()


def sign(benchmarks: str, id: str, said: bytes, key: str) -> str:
    """Signs with a private key, or a public one whose private half an agent holds; the new file.

    `ssh-keygen` asks for a passphrase by itself. Raises UnsupportedError, StorageError.
    """
    name = path(benchmarks, id)
    # A path that begins with a dash would still be taken as the value of -f.
    arguments = ["-Y", "sign", "-q", "-f", key, "-n", NAMESPACE]
    done = _ssh_keygen(arguments, said, seconds=None)
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise UnsupportedError(f"cannot sign: {_said(done)}", file=key)
    make_folder(dirname(name))
    publish(name, done.stdout)
    return name


def key_of(benchmarks: str, id: str, said: bytes) -> str:
    """The fingerprint of the key that signed a record, whosever it is.

    Raises SignatureError for a signature that does not hold, UnsupportedError where there is none
    or no `ssh-keygen`.
    """
    name = path(benchmarks, id)
    with _copy(name) as copy:
        arguments = ["-Y", "check-novalidate", "-n", NAMESPACE, "-s", copy]
        done = _ssh_keygen(arguments, said)
    found = _FINGERPRINT.search(done.stdout)
    if done.returncode or found is None:
        raise SignatureError("the signature is of another text", file=name, hint=_said(done))
    return found[0].decode()


@contextmanager
def _copy(name: str) -> Iterator[str]:
    """A copy of a signature, which no other process changes meanwhile. Raises UnsupportedError."""
    try:
        data, _ = read.load(name, 1 << 20)
    except FileNotFoundError:
        raise UnsupportedError("is not signed", file=name, hint="qn-bench sign") from None
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(data)
        copy.flush()
        yield copy.name


def signer(benchmarks: str, id: str, said: bytes, allowed: str) -> str:
    """Who signed a record, as the file of allowed signers names them.

    Raises SignatureError for a signature that does not hold, UnsupportedError where there is none
    or no `ssh-keygen`.
    """
    name = path(benchmarks, id)
    if not exists(allowed):
        raise UnsupportedError("no such file", file=allowed)
    with _copy(name) as copy:
        given = ["-n", NAMESPACE, "-s", copy]
        done = _ssh_keygen(["-Y", "find-principals", "-f", allowed, "-s", copy], b"")
        if done.returncode:
            raise SignatureError("not signed by an allowed signer", file=name, hint=_said(done))
        for who in done.stdout.decode("utf-8", "replace").splitlines():
            done = _ssh_keygen(["-Y", "verify", "-f", allowed, "-I", who, *given], said)
            if done.returncode == 0:
                return who
    raise SignatureError("the signature is of another text", file=name, hint=_said(done))


def _ssh_keygen(
    arguments: list[str], data: bytes, seconds: float | None = SECONDS
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments],
            input=data,
            capture_output=True,
            timeout=seconds,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise UnsupportedError("is not installed", file="ssh-keygen", hint="OpenSSH 8.2") from None
    except subprocess.TimeoutExpired:
        raise UnsupportedError(f"took longer than {seconds:g} s", file="ssh-keygen") from None


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[0] if lines else f"ssh-keygen exited {done.returncode}"
