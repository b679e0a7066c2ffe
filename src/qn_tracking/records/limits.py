"""What a stored file may hold, and which statuses a run may have; each is defined only here."""

from __future__ import annotations

MAX_INT = 2**53
"""Integers of a record stay below it: beyond, readers of JSON begin to round."""
MAX_DEPTH = 64
"""Nothing that is nested deeper is written, or read."""
MAX_BYTES = 64 << 20
"""Of the largest record, and of the longest line of a journal."""

COMPLETED, FAILED, INTERRUPTED, CRASHED, IMPORTED = (
    "completed",
    "failed",
    "interrupted",
    "crashed",
    "imported",
)
RUNNING, UNKNOWN = "running", "unknown"
RECORDED = (COMPLETED, FAILED, INTERRUPTED, CRASHED, IMPORTED)
"""Statuses of a record."""
STATUSES = (COMPLETED, FAILED, INTERRUPTED, CRASHED, RUNNING, UNKNOWN, IMPORTED)
"""Those, and the statuses of a run that has no record yet."""
WHOLE = (COMPLETED, IMPORTED)
"""Statuses of whole runs: one that was cut short is easily lucky."""

NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""What stands for the three values that JSON cannot write as numbers."""


def not_finite(value: float) -> str:
    """Return the text for NaN or an infinity, which JSON cannot write as a number."""
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
