"""Verifications on disk, and the status that a submission has by them.

`benchmarks/verifications/<id>/<random>.json`: anyone who executes a submission again adds a file;
no file is ever edited. Who executed it is a claim: a signature backs it, or the owners of the
repository who merged the file.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from os.path import basename, dirname
from typing import TYPE_CHECKING, Any, Literal

from attrs import frozen

from qn_tracking.benchmark import places
from qn_tracking.benchmark.places import verification_names, verified
from qn_tracking.errors import QnError, StorageError
from qn_tracking.records.codec import digest, document, structure
from qn_tracking.records.schema import VERIFICATION
from qn_tracking.records.submission import Contribution, Submission, Verification
from qn_tracking.store import read
from qn_tracking.store.write import make_folder, publish

if TYPE_CHECKING:
    CodeNow = Callable[[str], str | None]
    """The digest of an installed package, by import name; None where it is not installed."""

LEVELS = ("integrity", "repeat", "replicate")
"""Each includes those before."""
Status = Literal["verified", "self-checked", "outdated", "disputed"]


def save(benchmarks: str, record: Verification) -> str:
    """Writes a verification, durable on return. Raises StorageError; never overwrites."""
    name = places.verification(benchmarks, record.submission, record.id)
    make_folder(dirname(name))
    publish(name, document(record))
    return name


def load(name: str) -> tuple[Verification, str]:
    """A verification and the digest of its file. Raises StorageError, FileNotFoundError."""
    data, _ = read.load(name)
    doc = VERIFICATION.current(read.parse(data, name), name)
    read.same_id(doc, basename(name).removesuffix(".json"), name)
    record = structure(doc, Verification, file=name, error=StorageError)
    if record.submission != basename(dirname(os.path.abspath(name))):
        raise StorageError("is not the name of the folder", file=name, field="submission")
    return record, digest(data)


def problems(benchmarks: str) -> list[QnError]:
    """What is wrong with the verifications of a folder, file by file."""
    found: list[QnError] = []

    def attempt(read: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        try:
            return read()
        except FileNotFoundError:
            pass
        except QnError as error:
            found.append(error)
        return ()

    for id in attempt(lambda: verified(benchmarks)):
        for name in attempt(partial(verification_names, benchmarks, id)):
            attempt(partial(load, name))
    return found


# ------------------------------------------------------------------------------------------- status


@frozen(kw_only=True)
class VerificationStatus:
    """What the verifications of an entry come to, and the one that decides.

    `why` lists what has changed since, or what did not agree. `cpu_seconds` is the mean of the runs
    that it measured; None if it measured none.
    """

    status: Status
    id: str
    level: str
    by: str
    github: str | None
    created: str
    own: bool
    why: tuple[str, ...] = ()
    cpu_seconds: float | None = None


def same_person(by: Contribution, name: str, github: str | None) -> bool:
    """Whether the verifier is the contributor, as far as names and accounts show."""
    mine = {_folded(text) for text in (by.contributor, by.github) if text}
    return bool(mine & {_folded(text) for text in (name, github) if text})


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def status(
    by: Contribution,
    sha256: str,
    records: Iterable[Verification],
    protocol: int,
    now: CodeNow,
) -> VerificationStatus | None:
    """The verification status of an entry; None if it was never executed again.

    Only verifications of exactly this file count, and only those that executed runs. A mismatch
    outweighs all others until the same verifier finds otherwise at that level. Then the
    verifications of others count before those of the contributor.
    """
    counted = sorted(
        (
            record
            for record in records
            if record.sha256 == sha256
            and record.level in LEVELS[1:]
            and record.outcome in ("verified", "mismatch")
            and record.runs
        ),
        key=lambda record: (record.created, record.id),
    )
    disputed = [record for record in counted if _stands(record, counted)]
    if disputed:
        return _status("disputed", disputed[-1], by, disputed[-1].reasons)
    good = [(record, changes_since(record, protocol, now)) for record in reversed(counted)
            if record.outcome == "verified"]  # fmt: skip
    for own in (False, True):
        mine = [(record, why) for record, why in good if _own(record, by) is own]
        for record, why in sorted(mine, key=lambda pair: bool(pair[1])):
            if why:
                return _status("outdated", record, by, why)
            return _status("self-checked" if own else "verified", record, by, ())
    return None


def _own(record: Verification, by: Contribution) -> bool:
    return same_person(by, record.verifier, record.github)


def _stands(record: Verification, all: Sequence[Verification]) -> bool:
    """Whether a mismatch has not been taken back by its verifier."""
    if record.outcome != "mismatch":
        return False
    by = Contribution(contributor=record.verifier, github=record.github)
    later = all[all.index(record) + 1 :]
    return not any(
        other.outcome == "verified"
        and LEVELS.index(other.level) >= LEVELS.index(record.level)
        and _own(other, by)
        for other in later
    )


def changes_since(record: Verification, protocol: int, now: CodeNow) -> tuple[str, ...]:
    """What has changed since a submission was verified.

    A package that is not installed here is not compared: a page must not depend on it.
    """
    why = [] if record.code else ["no code is recorded"]
    if record.protocol != protocol:
        why.append(f"protocol version {record.protocol}, now {protocol}")
    for code in record.code:
        name = str(code.get("name"))
        found = now(name)
        if found is not None and found != code.get("digest"):
            why.append(f"{name} has changed")
    return tuple(why)


def _status(
    status: Status,
    record: Verification,
    by: Contribution,
    why: tuple[str, ...],
) -> VerificationStatus:
    measured = [run.cpu_seconds for run in record.runs if run.cpu_seconds is not None]
    return VerificationStatus(
        status=status,
        id=record.id,
        level=record.level,
        by=record.verifier,
        github=record.github,
        created=record.created,
        own=_own(record, by),
        why=why,
        cpu_seconds=sum(measured) / len(measured) if measured else None,
    )


def same_code(submission: Submission, now: CodeNow) -> bool:
    """Whether the installed packages are, byte for byte, those that made a submission."""
    code = submission.code
    return bool(code) and all(
        type(one.get("digest")) is str and now(str(one.get("name"))) == one["digest"]
        for one in code
    )
