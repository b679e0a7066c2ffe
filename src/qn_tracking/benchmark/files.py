"""Submissions on disk: `benchmarks/<environment>/<family>/<id>.json`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from os.path import basename, dirname, exists, isdir, join, lexists
from typing import Literal

from attrs import field, frozen

from qn_tracking.benchmark import places
from qn_tracking.benchmark.places import names
from qn_tracking.benchmark.protocol import Protocol
from qn_tracking.errors import QnError, StorageError, UsageError, printable
from qn_tracking.ids import check_id
from qn_tracking.records.codec import digest, document, structure
from qn_tracking.records.schema import SUBMISSION
from qn_tracking.records.submission import Contribution, Finding, Submission
from qn_tracking.store import read
from qn_tracking.store.paths import IGNORED_BENCHMARKS
from qn_tracking.store.write import make_folder, naming, publish

_ACCOUNT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})")


@frozen(kw_only=True)
class Stored:
    """A submission as it was read: where it is, the digest of its file, what is odd about it."""

    path: str
    sha256: str
    submission: Submission
    findings: tuple[Finding, ...] = field(default=())


def save(benchmarks: str, submission: Submission) -> str:
    """Writes a submission, durable on return. Raises StorageError; never overwrites."""
    category = submission.category
    name = places.submission(benchmarks, category.environment, category.family, submission.id)
    _ignore(benchmarks)
    make_folder(dirname(name))
    publish(name, document(submission))
    return name


def _ignore(benchmarks: str) -> None:
    """Keeps the caches out of git, from the first submission on; later the file is the user's."""
    make_folder(benchmarks)
    ignored = join(benchmarks, ".gitignore")
    if lexists(ignored) or next(names(benchmarks), None) is not None:
        return
    try:
        publish(ignored, IGNORED_BENCHMARKS.encode())
    except StorageError as error:
        if error.hint != "EEXIST":  # another process was first
            raise


def check_folder(folder: str) -> None:
    """Raises StorageError if no submission could be saved below a folder; leaves nothing there.

    Tried out, and not asked: what root may do says nothing of `/proc`, or of a full disk.
    """
    place = folder
    while place and not lexists(place):
        place = dirname(place)
    with naming(folder):
        probe = join(place, f".{os.urandom(4).hex()}.tmp")
        os.mkdir(probe)
        os.rmdir(probe)


def check_contribution(by: Contribution, protocol: Protocol) -> Iterator[Finding]:
    """What is wrong with what a contributor says; of the rule `contributor-text`."""

    def finding(level: Literal["error", "warning"], message: str, name: str) -> Finding:
        where = f"contribution.{name}"
        return Finding(rule="contributor-text", level=level, message=message, field=where)

    for name, text, longest in (
        ("contributor", by.contributor, protocol.maximum_name),
        ("notes", by.notes or "", protocol.maximum_notes),
    ):
        if len(text) > longest:
            yield finding("error", f"longer than {longest}", name)
        if printable(text) != text.replace("\n", "\\n"):
            yield finding("warning", "holds invisible characters", name)
    if not by.contributor.strip():
        yield finding("error", "is empty", "contributor")
    if by.github is not None and not _ACCOUNT.fullmatch(by.github):
        yield finding("error", "is no account name", "github")


def load(name: str, *, follow: bool = False) -> Stored:
    """A submission. Raises StorageError naming the file and the field, FileNotFoundError.

    A link is followed only for a file that a user has named. A claim of being verified is no field
    of a submission: it is ignored, and reported.
    """
    data, _ = read.load(name, follow=follow)
    doc = SUBMISSION.current(read.parse(data, name), name)
    findings: tuple[Finding, ...] = ()
    if "verified" in doc:
        del doc["verified"]
        findings = (
            Finding(
                rule="verified-claim",
                level="warning",
                field="verified",
                message="a submission cannot say of itself that it is verified; ignored",
            ),
        )
    submission = structure(doc, Submission, file=name, error=StorageError)
    return Stored(path=name, sha256=digest(data), submission=submission, findings=findings)


def load_all(place: str) -> tuple[list[Stored], list[QnError]]:
    """Every submission at a path that can be read, and why the others cannot."""
    found: list[Stored] = []
    problems: list[QnError] = []
    for name in names(place):
        try:
            found.append(load(name, follow=name == place))
        except QnError as error:
            problems.append(error)
        except FileNotFoundError:
            if name == place:
                problems.append(StorageError("no such file or directory", file=name))
    return found, problems


def find(benchmarks: str, target: str) -> Stored:
    """The submission at a path, or of an id or the only beginning of one; valid or not.

    Raises UsageError if there is none, StorageError if it cannot be read.
    """
    if os.sep in target or target.endswith(".json"):
        if isdir(target):
            raise UsageError("is a folder", file=target, hint="one submission at a time")
        try:
            return load(target, follow=True)
        except FileNotFoundError:
            raise UsageError("no such file", file=target) from None
    check_id(target)
    known = {basename(name).removesuffix(".json"): name for name in names(benchmarks)}
    name = known[places.pick(known, target, f"none in {benchmarks}")]
    try:
        return load(name)
    except FileNotFoundError:
        raise StorageError("does not exist any more", file=name) from None


def same_file(one: str, other: str) -> bool:
    """Whether two paths are of one existing file."""
    return exists(one) and exists(other) and os.path.samefile(one, other)
