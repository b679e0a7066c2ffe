"""Names of records, and the clock that they are made from."""

from __future__ import annotations

import os
import re
import time

from qn_tracking.errors import UsageError, short

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""The full hash of a commit, or a SHA-256."""

DAY = 86_400 * 1_000_000
"""In microseconds."""


def new_id() -> str:
    """UTC time and 32 random bits: sorts by start, and starts in one second do not meet."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(4).hex()}"


def is_id(text: str) -> bool:
    """Whether it can be the name of a file and nothing else."""
    return ID.fullmatch(text) is not None


def check_id(text: str) -> str:
    """The id, if it can be the name of a file and nothing else; UsageError otherwise."""
    if not is_id(text):
        raise UsageError(
            f"{short(text)!r} is not an id",
            hint="letters, digits, dots, dashes; at most 128 of them",
        )
    return text


def utc(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC with microseconds."""
    whole, micro = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{micro:06d}Z"


def microseconds(text: str) -> int:
    """Microseconds since 1970 of an ISO time; without a zone it is UTC. Raises ValueError."""
    from datetime import UTC, datetime

    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    days = when - datetime(1970, 1, 1, tzinfo=UTC)
    return (days.days * 86400 + days.seconds) * 1_000_000 + days.microseconds


def is_ahead(text: str) -> bool:
    """Whether a time is in the future; clocks of two machines differ, but not by a day.

    Raises ValueError.
    """
    return microseconds(text) > time.time() * 1_000_000 + DAY


def run_seed(digest: str, study_seed: int, index: int) -> int:
    """The seed of a run of a study, below 2**53.

    From the digest of the resolved configuration, the study's seed and the number of the
    run: two people with `--seed 1` meet only if they run the same thing.
    """
    from hashlib import sha256  # a listing has no use for it

    text = f"{digest}:{study_seed}:{index}"
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 11


def new_seed() -> int:
    """A random seed below 2**53, so that every reader of JSON keeps it whole."""
    return int.from_bytes(os.urandom(7), "big") >> 3
