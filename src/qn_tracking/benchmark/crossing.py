"""What only the other entries show: an id, episodes or seeds that another submission has already.

Each submission leaves an imprint, which is kept in the cache, and an index of the imprints finds
what two of them share. Both copies are refused: nothing in the files proves which one was first.
"""

from __future__ import annotations

from collections import Counter
from math import log2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from typing import Any

    from qn_tracking.records.submission import Columns, Submission

    Found = tuple[str, str, str]
    """A rule, a message and a field."""

LENGTH = 16
"""How many digits of a digest an imprint keeps: 64 bits, which no two honest runs share."""
BITS = 64
"""The information in the outcomes of a run from which two equal ones are a copy: a billion runs of
tasks this varied would not meet by chance. A run that always ends the same way says nothing.
"""
SEEDS_APART = 1
"""The last version of the protocol under which two submissions may not share a seed."""
_PLACES = 3
"""How many files are kept of what they share: to name one, beside the file itself and its copy."""


def imprint_of(submission: Submission) -> dict[str, Any]:
    """What may not be that of another submission, as JSON data; of columns of equal lengths.

    The digests are those that it claims, which are checked before it counts.
    """
    return {
        "id": submission.id,
        "protocol": submission.protocol,
        "config": submission.config.digest,
        "seeds": [run.seed for run in submission.runs],
        "exact": [run.digests.exact[:LENGTH] for run in submission.runs],
        "outcome": [
            rough_digest(run.episodes) if bits(run.episodes) >= BITS else None
            for run in submission.runs
        ],
    }


def rough_digest(of: Columns) -> str:
    """A digest of successes and steps: what a copy keeps.

    Other last digits, other words for how an episode ended, counts under other names, one more or
    one less: none of these makes another run.
    """
    from hashlib import sha256

    return sha256(repr((of.success, of.steps)).encode()).hexdigest()[:LENGTH]


def bits(of: Columns) -> float:
    """How many bits the outcomes of a run hold: N·H, H the entropy of its N outcomes in bits."""
    rows = Counter(zip(of.success, of.steps, strict=True))
    n = sum(rows.values())
    return n * log2(n) - sum(count * log2(count) for count in rows.values()) if n else 0.0


def checked(imprint: Any) -> dict[str, Any] | None:
    """An imprint from a cache, which may hold anything. Raises KeyError or TypeError."""
    if imprint is None:
        return None
    lists = [imprint["seeds"], imprint["exact"], imprint["outcome"]]
    kinds = [type(imprint["id"]), type(imprint["protocol"]), *map(type, lists)]
    if kinds != [str, int, list, list, list] or type(imprint["config"]) not in (str, type(None)):
        raise TypeError("expected an imprint")
    if any(type(one) not in (str, int, type(None)) for each in lists for one in each):
        raise TypeError("expected texts and numbers")
    return dict(imprint)


class Index:
    """The imprints of submissions by what they may not share."""

    def __init__(self) -> None:
        self._places: dict[Hashable, list[tuple[str, str]]] = {}

    def add(self, path: str, imprint: dict[str, Any]) -> None:
        """Adds the imprint of the submission in a file."""
        for key in {key for _, _, key in _keys(imprint)}:
            places = self._places.setdefault(key, [])
            if len(places) < _PLACES:
                places.append((path, imprint["id"]))

    def findings(self, path: str, imprint: dict[str, Any], *, inside: bool = True) -> list[Found]:
        """What a submission shares with other files; each rule once for each other submission.

        One that is not `inside` the folder may be a copy of the file there, of the same id.
        """
        shared: dict[tuple[str, str], int] = {}
        copies: set[tuple[str, int]] = set()
        for rule, run, key in _keys(imprint):
            for other, id in self._places.get(key, ()):
                if other == path or (not inside and id == imprint["id"]):
                    continue
                if rule == "exact":
                    copies.add((id, run))
                # A run that is the same to the last digit is not named twice.
                if rule != "outcome" or (id, run) not in copies:
                    name = other if rule == "id" else id
                    shared[rule, name] = shared.get((rule, name), 0) + 1
                break
        return [_found(rule, name, count) for (rule, name), count in shared.items()]


def _keys(imprint: dict[str, Any]) -> Iterator[tuple[str, int, Hashable]]:
    """What a submission may not share, by rule and run: exact copies before the others."""
    for rule in ("exact", "outcome"):
        for run, digest in enumerate(imprint[rule]):
            if digest:
                yield rule, run, (rule, digest)
    for run, seed in enumerate(imprint["seeds"] if imprint["protocol"] <= SEEDS_APART else ()):
        yield "seeds", run, ("seeds", imprint["config"], seed)
    yield "id", 0, ("id", imprint["id"])


def _found(rule: str, name: str, count: int) -> Found:
    runs = f"{count} {'is that' if count == 1 else 'are those'} of {name}"
    if rule == "exact":
        return "duplicate", runs, "runs"
    if rule == "outcome":
        return "duplicate", f"{runs}, but for the last digits", "runs"
    if rule == "seeds":
        return "seeds", runs, "runs"
    return "id", f"is that of {name}", "id"
