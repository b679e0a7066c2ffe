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
