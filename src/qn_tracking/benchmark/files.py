"""Submissions on disk: `benchmarks/<environment>/<family>/<id>.json`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from os.path import basename, dirname, exists, isdir, join, lexists
from typing import Any

from attrs import field, frozen

from qn_tracking.benchmark import places
from qn_tracking.benchmark.people import account_problem, name_problem
from qn_tracking.benchmark.places import names
from qn_tracking.benchmark.protocol import Protocol
from qn_tracking.errors import QnError, StorageError, UsageError, printable
from qn_tracking.ids import check_id
from qn_tracking.records.codec import digest, document, structure
from qn_tracking.records.schema import SUBMISSION
from qn_tracking.records.submission import (
    Contribution,
    Finding,
    Submission,
    a_warning,
    an_error,
)
from qn_tracking.store import read
from qn_tracking.store.paths import IGNORED_BENCHMARKS
from qn_tracking.store.write import ignore, make_folder, naming, publish


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
    if not lexists(join(benchmarks, ".gitignore")) and next(names(benchmarks), None) is None:
        ignore(benchmarks, IGNORED_BENCHMARKS)


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
    rule, notes = "contributor-text", by.notes or ""
    if len(notes) > protocol.maximum_notes:
        yield an_error(rule, f"longer than {protocol.maximum_notes}", "contribution.notes")
    if printable(notes) != notes.replace("\n", "\\n"):
        yield a_warning(rule, "holds invisible characters", "contribution.notes")
    if problem := name_problem(by.contributor, protocol.maximum_name):
        yield an_error(rule, problem, "contribution.contributor")
    if by.github is not None and (problem := account_problem(by.github)):
        yield an_error(rule, problem, "contribution.github")


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
        cause = "a submission cannot say of itself that it is verified; ignored"
        findings = (a_warning("verified-claim", cause, "verified"),)
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


class Others(Sequence[Submission]):
    """The submissions of a folder but the one in a file, read when they are first looked at."""

    def __init__(self, everyone: Callable[[], Sequence[Stored]], path: str) -> None:
        self._everyone = everyone
        self._path = path
        self._found: list[Submission] | None = None

    @property
    def used(self) -> bool:
        """Whether they were looked at, so that what was found depends on them."""
        return self._found is not None

    def _all(self) -> list[Submission]:
        if self._found is None:
            self._found = [
                stored.submission
                for stored in self._everyone()
                if not same_file(stored.path, self._path)
            ]
        return self._found

    def __len__(self) -> int:
        """How many there are."""
        return len(self._all())

    def __getitem__(self, place: Any) -> Any:
        """One of them, or a slice."""
        return self._all()[place]


def others(folder: str) -> Callable[[str], Others]:
    """A function that gives the others of a file; all of them read the folder once, at most."""
    everyone = cache(lambda: load_all(folder)[0])
    return lambda path: Others(everyone, path)


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
    known: dict[str, list[str]] = {}
    for name in names(benchmarks):
        known.setdefault(basename(name).removesuffix(".json"), []).append(name)
    name, *more = known[places.pick(known, target, f"none in {benchmarks}")]
    if more:
        raise UsageError(f"{target}: is the id of two files", hint=f"{name}, {more[0]}")
    try:
        return load(name)
    except FileNotFoundError:
        raise StorageError("does not exist any more", file=name) from None


def same_file(one: str, other: str) -> bool:
    """Whether two paths are of one existing file."""
    return exists(one) and exists(other) and os.path.samefile(one, other)
