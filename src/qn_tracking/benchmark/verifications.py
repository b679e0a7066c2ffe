"""Verifications on disk, and the mark that an entry earns by them.

`benchmarks/verifications/<id>/<random>.json`: whoever ran a submission again adds a file; nobody
edits one, nor the submission. That somebody else did it is their claim: a signature, or the owners
of the repository who merged the file, back it.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from os.path import basename, dirname, isdir, join
from typing import Literal

from attrs import frozen

from qn_tracking.errors import QnError, StorageError
from qn_tracking.ids import check_id, is_id
from qn_tracking.records.codec import digest, document, structure
from qn_tracking.records.schema import VERIFICATION
from qn_tracking.records.submission import Contribution, Submission, Verification
from qn_tracking.store import read
from qn_tracking.store.write import make_folder, publish

FOLDER = "verifications"
LEVELS = ("integrity", "repeat", "replicate")
"""Each includes those before."""

CodeNow = Callable[[str], "str | None"]
"""The digest of an installed package, by import name; None where there is none."""


def save(benchmarks: str, record: Verification) -> str:
    """Writes a verification, durable on return. Raises StorageError; never overwrites."""
    folder = join(benchmarks, FOLDER, check_id(record.submission))
    name = join(folder, f"{check_id(record.id)}.json")
    make_folder(folder)
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
    folder = join(benchmarks, FOLDER)
    found: list[QnError] = []
    for id in sorted(os.listdir(folder)) if isdir(folder) else ():
        for name in names(benchmarks, id):
            try:
                load(name)
            except QnError as error:
                found.append(error)
            except FileNotFoundError:
                continue
    return found


def names(benchmarks: str, id: str) -> list[str]:
    """The files of verifications of a submission, in order."""
    folder = join(benchmarks, FOLDER, id)
    if not is_id(id) or not isdir(folder):
        return []
    found = (name for name in sorted(os.listdir(folder)) if name.endswith(".json"))
    return [join(folder, name) for name in found if is_id(name.removesuffix(".json"))]


# -------------------------------------------------------------------------------------------- marks


@frozen(kw_only=True)
class Standing:
    """What the verifications of an entry come to, by the one that decides.

    `why` says what moved on since, or what did not agree.
    """

    mark: Literal["verified", "self-checked", "outdated", "disputed"]
    id: str
    level: str
    by: str
    github: str | None
    created: str
    own: bool
    why: tuple[str, ...] = ()


def same_person(by: Contribution, name: str, github: str | None) -> bool:
    """Whether the verifier is the contributor, as far as names and accounts can tell."""
    mine = {_folded(text) for text in (by.contributor, by.github) if text}
    return bool(mine & {_folded(text) for text in (name, github) if text})


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def standing(
    by: Contribution,
    sha256: str,
    records: Iterable[Verification],
    protocol: int,
    now: CodeNow,
) -> Standing | None:
    """The mark of an entry; None where nobody has run it again.

    Only verifications of this very text count, that ran runs. A mismatch outweighs all until
    its verifier, at that level, finds otherwise; then what others found goes before what the
    contributor did.
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
        return _standing("disputed", disputed[-1], by, disputed[-1].reasons)
    good = [(record, moved_on(record, protocol, now)) for record in reversed(counted)
            if record.outcome == "verified"]  # fmt: skip
    for own in (False, True):
        mine = [(record, why) for record, why in good if _own(record, by) is own]
        for record, why in sorted(mine, key=lambda pair: bool(pair[1])):
            if why:
                return _standing("outdated", record, by, why)
            return _standing("self-checked" if own else "verified", record, by, ())
    return None


def _own(record: Verification, by: Contribution) -> bool:
    return same_person(by, record.verifier, record.github)


def _stands(record: Verification, all: Sequence[Verification]) -> bool:
    """Whether a mismatch has not been taken back by who found it."""
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


def moved_on(record: Verification, protocol: int, now: CodeNow) -> tuple[str, ...]:
    """What is no more as it was when a submission was verified.

    Of a package that is not installed nobody here can say; a page must not depend on it.
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


def _standing(
    mark: Literal["verified", "self-checked", "outdated", "disputed"],
    record: Verification,
    by: Contribution,
    why: tuple[str, ...],
) -> Standing:
    return Standing(
        mark=mark,
        id=record.id,
        level=record.level,
        by=record.verifier,
        github=record.github,
        created=record.created,
        own=_own(record, by),
        why=why,
    )


def same_code(submission: Submission, now: CodeNow) -> bool:
    """Whether the installed packages are, byte for byte, those that made a submission."""
    code = submission.code
    return bool(code) and all(
        type(one.get("digest")) is str and now(str(one.get("name"))) == one["digest"]
        for one in code
    )
