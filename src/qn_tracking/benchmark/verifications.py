"""Verifications on disk, and the status that a submission has by them.

`benchmarks/verifications/<id>/<random>.json`: anyone who executes a submission again adds a file;
no file is ever edited. Who executed it is a claim: a signature backs it, or the owners of the
repository who merged the file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from os.path import basename, dirname
from typing import TYPE_CHECKING, Literal

from attrs import evolve, field, frozen

from qn_tracking.benchmark import places
from qn_tracking.benchmark.people import folded, skeleton
from qn_tracking.errors import StorageError
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
Status = Literal["verified", "sampled", "self-checked", "outdated", "disputed"]


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


# ------------------------------------------------------------------------------------------- status


@frozen(kw_only=True)
class VerificationStatus:
    """What the verifications of an entry come to, and the one that decides.

    `runs` of the `total` were executed again by those who count. `why` lists what has changed
    since, or what did not agree. `cpu_seconds` is the mean of the runs that were measured; None if
    none was.
    """

    status: Status
    id: str
    level: str
    by: str
    github: str | None
    created: str
    own: bool
    runs: int
    total: int
    why: tuple[str, ...] = ()
    cpu_seconds: float | None = None


@frozen(kw_only=True)
class Keys:
    """Who signed what, by fingerprint; "" for a signature that does not hold, or was not checked.

    `records` are those of verifications by id, `contributor` that of the submission. `of_name`
    has the keys that a name has signed with anywhere, `maintainers` the verifications that a
    maintainer signed.
    """

    records: Mapping[str, str] = field(factory=dict)
    contributor: str | None = None
    of_name: Mapping[str, frozenset[str]] = field(factory=dict)
    maintainers: frozenset[str] = frozenset()


def same_person(by: Contribution, name: str, github: str | None) -> bool:
    """Whether the verifier may be the contributor, as far as names and accounts show."""
    mine = {skeleton(text) for text in (by.contributor, by.github) if text}
    return bool(mine & {skeleton(text) for text in (name, github) if text})


def status(
    by: Contribution,
    sha256: str,
    records: Iterable[Verification],
    protocol: int,
    now: CodeNow,
    *,
    total: int,
    share: float = 0.0,
    keys: Keys = Keys(),
) -> VerificationStatus | None:
    """The verification status of an entry of `total` runs; None if it was never executed again.

    Only verifications of exactly this file count, and only those that executed runs. A mismatch
    outweighs all others until its own author, or a maintainer by a signature, finds otherwise at
    that level. Then the verifications of others count before those of the contributor. They must
    have executed a `share` of the runs, together, for *verified*. `protocol` is the version of the
    submission.
    """
    counted = sorted(
        (
            record
            for record in records
            if record.sha256 == sha256
            and record.level in LEVELS[1:]
            and record.outcome in ("verified", "mismatch")
            and any(one.index is not None for one in record.runs)
        ),
        key=lambda record: (record.created, record.id),
    )

    def found(
        status: Status, deciding: Sequence[Verification], why: Iterable[str] = ()
    ) -> VerificationStatus:
        last = deciding[-1]
        runs = [one for record in deciding for one in record.runs]
        again = {one.index for one in runs} - {None}
        measured = [one.cpu_seconds for one in runs if one.cpu_seconds is not None]
        return VerificationStatus(
            status=status,
            id=last.id,
            level=last.level,
            by=last.verifier,
            github=last.github,
            created=last.created,
            own=_own(last, by, keys),
            runs=len(again),
            total=total,
            why=tuple(why),
            cpu_seconds=math.fsum(one / len(measured) for one in measured) if measured else None,
        )

    disputed = [record for record in counted if _disputes(record, counted, keys)]
    if disputed:
        return found("disputed", disputed[-1:], disputed[-1].reasons)
    for own in (False, True):
        mine = [
            (record, changes_since(record, protocol, now))
            for record in counted
            if record.outcome == "verified" and _own(record, by, keys) is own
        ]
        current = [record for record, why in mine if not why]
        if current:
            reached = found("self-checked" if own else "verified", current)
            enough = own or reached.runs >= math.ceil(share * total)
            return reached if enough else evolve(reached, status="sampled")
        if mine:
            return found("outdated", [mine[-1][0]], mine[-1][1])
    return None


def _own(record: Verification, by: Contribution, keys: Keys) -> bool:
    """Whether it is, or may be, the contributor's: by the key, or by the name."""
    key = keys.records.get(record.id)
    return bool(key and key == keys.contributor) or same_person(by, record.verifier, record.github)


def _disputes(record: Verification, all: Sequence[Verification], keys: Keys) -> bool:
    """Whether it is a mismatch that has not been taken back."""
    if record.outcome != "mismatch":
        return False
    return not any(
        other.outcome == "verified"
        and LEVELS.index(other.level) >= LEVELS.index(record.level)
        and (other.id in keys.maintainers or _same_author(record, other, keys))
        for other in all[all.index(record) + 1 :]
    )


def _same_author(record: Verification, other: Verification, keys: Keys) -> bool:
    """Whether two verifications are surely by one person: the same name, and key if they have one.

    A name that has signed anything has to sign this, too; by which of several keys, an unsigned
    record does not say.
    """
    name = folded(record.verifier)
    if name != folded(other.verifier) or folded(record.github or "") != folded(other.github or ""):
        return False
    signed = keys.records.get(record.id)
    wanted = {signed} if signed is not None else keys.of_name.get(name)
    if not wanted:
        return True
    return (
        len(wanted) == 1 and bool(keys.records.get(other.id)) and keys.records[other.id] in wanted
    )


def changes_since(record: Verification, protocol: int, now: CodeNow) -> tuple[str, ...]:
    """What has changed since a submission was verified.

    A submission keeps the rules that it was made by, and its verifications with it. A package that
    is not installed here is not compared: a page must not depend on it.
    """
    why = [] if record.code else ["no code is recorded"]
    if record.protocol < protocol:
        why.append(f"protocol version {record.protocol}, the submission is of {protocol}")
    for code in record.code:
        name = str(code.get("name"))
        found = now(name)
        if found is not None and found != code.get("digest"):
            why.append(f"{name} has changed")
    return tuple(why)


def same_code(submission: Submission, now: CodeNow) -> bool:
    """Whether the installed packages are, byte for byte, those that made a submission."""
    code = submission.code
    return bool(code) and all(
        type(one.get("digest")) is str and now(str(one.get("name"))) == one["digest"]
        for one in code
    )
