"""Files and folders that a run has made, such as weights, or has used of another run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from attrs import evolve

from qn_tracking.errors import StorageError, storable
from qn_tracking.records.model import Artifact
from qn_tracking.tracking import arguments

if TYPE_CHECKING:
    from qn_tracking.tracking.warned import Warned


def made(
    path: str | os.PathLike[str],
    type: str | None,
    *,
    name: str | None,
    limit: int | None,
    place: str | None,
    warned: Warned,
) -> Artifact | None:
    """What a record says of a file or a folder; None, with a warning, if it cannot be read.

    A copy of up to `limit` bytes is kept in the experiments `place`, if there is one.
    """
    from qn_tracking.store import artifacts

    given = os.fsdecode(path)
    name = arguments.text_of("name", name or os.path.basename(os.path.abspath(given)))
    if type is not None:
        type = storable(arguments.text_of("type", type))
    limit = artifacts.MAX_KEPT if limit is None else limit
    try:
        found = artifacts.take(given, place, limit=limit, say=warned.say)
    except StorageError as error:
        warned.say(f"log_artifact: {error}; not recorded")
        return None
    return evolve(found, name=storable(name), type=type)


def copied(
    root: str, id: str, name: str, into: str | os.PathLike[str] | None
) -> tuple[str, Artifact]:
    """The path of a copy of an artifact of the run `id`, and what its record says of it.

    Without `into`, the copy is in a folder that is removed when the program ends.
    """
    from qn_tracking.store import artifacts

    found = artifacts.find(root, id, name)
    if into is None:
        import atexit
        import shutil
        import tempfile

        folder = tempfile.mkdtemp(prefix="qn-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        into = os.path.join(folder, os.path.basename(found.name or found.sha256))
    return artifacts.fetch(root, found, os.fsdecode(into)), found
