"""Names of files and folders under `experiments/`, and what git is not to see there.

Plain strings: pathlib costs a tracked run five milliseconds of import.
"""

from __future__ import annotations

from os.path import join

from qn_tracking.files import inside
from qn_tracking.ids import check_id

LABELS = "labels"
"""The folder of tags and notes that were added later; git carries it."""

LIVES = "lives"
"""In the folder of a run that was resumed: the records of its earlier lives."""
BUNDLED = "bundled"
"""In the folder of a run that others may have: it is over as it is."""

IGNORED = "".join(
    f"{line}\n"
    for line in (
        "# Records are for git; the texts that they name by digest, caches and the trash are not.",
        "/runs/",
        "/.index*",
        "/.trash/",
    )
)

IGNORED_BENCHMARKS = "".join(
    f"{line}\n"
    for line in (
        "# Submissions and verifications are for git; caches and what is half done are not.",
        "/.cache*",
        "/.verify/",
    )
)
"""The same for `benchmarks/`."""


def record(experiments: str, id: str) -> str:
    """The record of an experiment."""
    return join(experiments, f"{check_id(id)}.json")


def labels_folder(experiments: str, id: str) -> str:
    """The folder of the labels of something. Raises StorageError for a link in its place."""
    return inside(experiments, LABELS, check_id(id))


def journal(experiments: str, id: str) -> str:
    """The file of the episodes of a run. Raises StorageError as `run_folder` does."""
    return join(run_folder(experiments, id), "episodes.jsonl")


def run_folder(experiments: str, id: str) -> str:
    """The folder of the texts of a run. Raises StorageError for a link in its place."""
    return inside(experiments, "runs", check_id(id))
