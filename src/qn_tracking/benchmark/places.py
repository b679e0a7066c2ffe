"""Where the files of benchmarks are: submissions, verifications, and the rules."""

from __future__ import annotations

import os
from os.path import dirname, isdir, join, lexists

from qn_tracking.errors import UsageError
from qn_tracking.files import inside
from qn_tracking.ids import check_id, is_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PROTOCOL = "protocol.yml"
FOLDER = "verifications"
SIGNATURES = "signatures"
MAINTAINERS = "maintainers"


def pick(ids: Collection[str], text: str, empty: str) -> str:
    """The id that is meant, or the only one that begins so; the hint is `empty` without any.

    Raises UsageError.
    """
    found = [id for id in ids if id == text] or [id for id in ids if id.startswith(text)]
    if len(found) != 1:
        cause = "is ambiguous" if found else "no such submission"
        some = ", ".join(sorted(found or ids, reverse=True)[:5])
        raise UsageError(f"{text}: {cause}", hint=f"the newest: {some}" if some else empty)
    return found[0]


def submission(benchmarks: str, environment: str, family: str, id: str) -> str:
    """The file of a submission: `benchmarks/<environment>/<family>/<id>.json`."""
    return join(inside(benchmarks, environment, family), f"{check_id(id)}.json")


def names(place: str) -> Iterator[str]:
    """The files of submissions at a path: the file itself, or all below a folder, in order.

    A folder that cannot be read is one of them, so that loading it gives the error.
    """
    if not isdir(place):
        yield place
        return
    unreadable: list[str] = []
    for folder, folders, files in os.walk(place, onerror=lambda e: unreadable.append(e.filename)):
        ignored = (FOLDER, SIGNATURES)
        folders[:] = sorted(name for name in folders if name not in ignored and name[0] != ".")
        for name in sorted(files):
            if name.endswith(".json") and not name.startswith("."):
                yield join(folder, name)
    yield from unreadable


def verification(benchmarks: str, submission: str, id: str) -> str:
    """The file of a verification: `benchmarks/verifications/<submission>/<id>.json`."""
    return join(inside(benchmarks, FOLDER, check_id(submission)), f"{check_id(id)}.json")


def verified(benchmarks: str) -> list[str]:
    """The ids of the submissions that have verifications. Raises StorageError for a link."""
    folder = inside(benchmarks, FOLDER)
    return sorted(filter(is_id, os.listdir(folder))) if isdir(folder) else []


def verification_names(benchmarks: str, submission: str) -> list[str]:
    """The files of verifications of a submission, in order. Raises StorageError for a link."""
    if not is_id(submission) or not isdir(folder := inside(benchmarks, FOLDER, submission)):
        return []
    found = (name for name in sorted(os.listdir(folder)) if name.endswith(".json"))
    return [join(folder, name) for name in found if is_id(name.removesuffix(".json"))]


def signature_names(benchmarks: str) -> list[str]:
    """The files of signatures, in order. Raises StorageError for a link."""
    folder = inside(benchmarks, SIGNATURES)
    if not isdir(folder):
        return []
    found = (name for name in sorted(os.listdir(folder)) if name.endswith(".sig"))
    return [join(folder, name) for name in found if is_id(name.removesuffix(".sig"))]


def maintainers(benchmarks: str) -> str:
    """The file of the keys whose word lifts a dispute, as `ssh-keygen -Y verify` takes it."""
    return join(benchmarks, MAINTAINERS)


def protocol_file(benchmarks: str | None = None) -> str:
    """The file of the rules of a folder of benchmarks: its own, or the one of the package."""
    own = join(benchmarks, PROTOCOL) if benchmarks else None
    return own if own is not None and lexists(own) else join(dirname(__file__), PROTOCOL)
