"""What a stored file may hold, and which statuses a run may have; each is defined only here."""

from __future__ import annotations

MAX_INT = 2**53
"""Integers of a record stay below it: beyond, readers of JSON begin to round."""
MAX_NUMBER = 200
"""Characters of a number that is kept as text."""
MAX_DEPTH = 64
"""Nothing that is nested deeper is written, or read."""
MAX_BYTES = 64 << 20
"""Of the largest record, and of the longest line of a journal."""
MAX_START = 24 << 20
"""Bytes of what is known of a run before its first episode: the record holds it all."""
MAX_FACTS = 16 << 20
"""Bytes of all facts of plugins."""
MAX_EPISODE = 8 << 20
"""Bytes of an episode, and of a call of `log`."""
MAIN_PHASE = "main"
"""What the main phase is called where phases are named: no other one has this name."""
MAX_NAMES = 1_000
"""Different names of metrics, and terminations, that a record sums up."""
MAX_PHASES = 100
"""Phases that a record sums up; further ones are counted together."""
MAX_NAME = 200
"""Characters of a name that a record sums up."""
MAX_TEXT = 1_000
"""Characters of a termination."""
MAX_ERROR = 100_000
"""Characters of an error and of its traceback."""

COMPLETED, FAILED, INTERRUPTED, CRASHED, IMPORTED = (
    "completed",
    "failed",
    "interrupted",
    "crashed",
    "imported",
)
RUNNING, UNKNOWN = "running", "unknown"
PRUNED = "pruned"
"""What a study says of the runs that an arm would have had if it had not been pruned."""
RECORDED = (COMPLETED, FAILED, INTERRUPTED, CRASHED, IMPORTED)
"""Statuses of a record."""
STATUSES = (COMPLETED, FAILED, INTERRUPTED, CRASHED, RUNNING, UNKNOWN, IMPORTED)
"""Those, and the statuses of a run that has no record yet."""
WHOLE = (COMPLETED, IMPORTED)
"""Statuses of whole runs: one that was cut short is easily lucky."""

NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""What stands for the three values that JSON cannot write as numbers."""
_DIGITS = frozenset("+-.0123456789eE")


def not_finite(value: float) -> str:
    """Return the text for NaN or an infinity, which JSON cannot write as a number."""
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def as_number(value: object) -> float:
    """Return a measured value of an episode or a series as the number that is nearest to it.

    Its text may be that of a number that JSON would round, a fraction among them. Raises
    ValueError for anything else.
    """
    if type(value) is float or type(value) is int:
        return float(value)
    if type(value) is str and value in NOT_FINITE:
        return float(value)
    if (
        type(value) is not str
        or len(value) > MAX_NUMBER
        or not _DIGITS.issuperset(value.replace("/", "", 1))
    ):
        raise ValueError("expected a number")
    above, slash, below = value.partition("/")
    if not slash:
        return float(value)
    try:
        return int(above) / int(below)
    except ArithmeticError:
        raise ValueError("expected a number") from None
