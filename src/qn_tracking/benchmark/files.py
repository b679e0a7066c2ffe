"""Submissions on disk: `benchmarks/<environment>/<family>/<id>.json`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from os.path import dirname, isdir, join

from attrs import field, frozen

from qn_tracking.codec import digest, document, structure
from qn_tracking.errors import QnError, StorageError
from qn_tracking.ids import check_id
from qn_tracking.store import read
from qn_tracking.store.write import make_folder, publish
from qn_tracking.submission import Benchmark, Category, Finding

IGNORED = ("verifications", "signatures")
PROTOCOL = "protocol.yml"


@frozen(kw_only=True)
class Entry:
    """A submission as it was read: where it is, the digest of its file, what is odd about it."""

    path: str
    sha256: str
    benchmark: Benchmark
    findings: tuple[Finding, ...] = field(default=())


def path(benchmarks: str, category: Category, id: str) -> str:
    """The file of a submission."""
    return join(benchmarks, category.environment, category.family, f"{check_id(id)}.json")


def save(benchmarks: str, benchmark: Benchmark) -> str:
    """Writes a submission, durable on return. Raises StorageError; never overwrites."""
    name = path(benchmarks, benchmark.category, benchmark.id)
    make_folder(dirname(name))
    publish(name, document(benchmark))
    return name


def load(name: str) -> Entry:
    """A submission. Raises StorageError naming the file and the field, FileNotFoundError.

    A claim of being verified is no field of a submission: it is ignored, and reported.
    """
    data, _ = read.load(name)
    doc = read.current(read.parse(data, name), name)
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
    benchmark = structure(doc, Benchmark, file=name, error=StorageError)
    return Entry(path=name, sha256=digest(data), benchmark=benchmark, findings=findings)


def names(place: str) -> Iterator[str]:
    """The files of submissions at a path: the file itself, or all below a folder, in order."""
    if not isdir(place):
        yield place
        return
    for folder, folders, files in os.walk(place):
        folders[:] = sorted(name for name in folders if name not in IGNORED and name[0] != ".")
        for name in sorted(files):
            if name.endswith(".json") and not name.startswith("."):
                yield join(folder, name)


def load_all(place: str) -> tuple[list[Entry], list[QnError]]:
    """Every submission at a path that can be read, and why the others cannot."""
    found: list[Entry] = []
    problems: list[QnError] = []
    for name in names(place):
        try:
            found.append(load(name))
        except QnError as error:
            problems.append(error)
        except FileNotFoundError:
            if name == place:
                problems.append(StorageError("no such file or directory", file=name))
    return found, problems
