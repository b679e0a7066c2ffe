"""What was computed of a leaderboard once: `benchmarks/.cache.json` and `.cache-pairs.json`.

A cache is disposable, outside git, and may be read-only or broken. It is believed only of files
that are as they were on this very disk: a digest alone can be computed by anyone who hands over a
folder or a pull request. Nothing heavy is imported here.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from os.path import join

from qn_tracking.benchmark.crossing import checked
from qn_tracking.benchmark.entries import Entry
from qn_tracking.files import open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

FILE = ".cache.json"
PAIRS = ".cache-pairs.json"
VERSION = 10
RANKINGS = 8
"""How many rankings are kept of each category and metric: the whole one, and filtered ones."""


def stamp(info: os.stat_result) -> list[int]:
    """What changes whenever a file does."""
    return [info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino]


def stamps(paths: Iterable[str]) -> list[list[Any]]:
    """The stamps of files by path; one that is gone has none."""
    found: list[list[Any]] = []
    for path in paths:
        try:
            found.append([path, *stamp(os.stat(path))])
        except OSError:
            found.append([path])
    return found


def digest(value: Any) -> str:
    """SHA-256 of JSON data."""
    from hashlib import sha256

    return sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


def fingerprint(sha256: str, stamp: Sequence[int]) -> str:
    """A submission as it is on this disk."""
    return digest([sha256, list(stamp)])


def findings_of(kept: Any) -> list[dict[str, Any]]:
    """What was found in a submission, from a cache. Raises KeyError or TypeError."""
    found = kept["findings"]
    for one in found:
        texts = [one["rule"], one["level"], one["message"], one["field"] or ""]
        if {*map(type, texts)} != {str}:
            raise TypeError("expected findings")
    return list(found)


class Cache:
    """Entries and verifications by file, ranks and pairs by digests, and one whole board.

    Whatever it holds, nothing is believed that is not of the shape it was written in. Pairs grow
    with the square of the entries, and are only read where a rank is new.
    """

    def __init__(self, benchmarks: str) -> None:
        self._path, self._pairs_path = join(benchmarks, FILE), join(benchmarks, PAIRS)
        doc = _read(self._path)
        self.rules: Any = doc.get("rules")
        self.entries = _mapping(doc, "entries")
        self.ranks = _mapping(doc, "ranks")
        self.verifications = _mapping(doc, "verifications")
        self.configs = _mapping(doc, "configs")
        self.board = _mapping(doc, "board")
        self._pairs: dict[str, Any] | None = None
        self._before = self._derived()
        self._changed = False

    def under(self, rules: str) -> None:
        """Forgets the entries that were found under other rules, by their digest."""
        if self.rules != rules:
            self.rules, self.entries, self._changed = rules, {}, True

    def family(self, name: str) -> dict[str, Any]:
        """Comparisons of one family as JSON data; a caller that adds one also puts ranks."""
        if self._pairs is None:
            self._pairs = _mapping(_read(self._pairs_path), "pairs")
        if type(self._pairs.get(name)) is not dict:
            self._pairs[name] = {}
        return self._pairs[name]  # type: ignore[no-any-return]

    def ranking(self, key: str, entries: int) -> list[dict[str, Any]] | None:
        """A ranking of so many entries; None if there is none, or it is not as it was written."""
        with suppress(KeyError, TypeError, AttributeError):
            found = self.ranks[key]["ranks"]
            whole = [
                rank
                for rank in found
                if type(rank["low"]) is type(rank["high"]) is int
                and all(type(id) is str for id in [*rank["better"], *rank["worse"]])
            ]
            if type(found) is list and len(found) == len(whole) == entries:
                return whole
        return None

    def put_ranks(self, key: str, ranks: dict[str, Any]) -> None:
        """Remembers a ranking, as the newest of its place."""
        self.ranks.pop(key, None)
        self.ranks[key] = ranks
        self._changed = True

    def get(self, name: str, stamp: list[int]) -> Entry | None:
        """The entry of a file, if the file is still as it was."""
        with suppress(KeyError, TypeError, AttributeError):
            kept = self.entries[name]
            if kept["stamp"] == stamp:
                entry = Entry(kept["entry"], stamp)
                entry.imprint = checked(kept["imprint"])
                entry.findings = findings_of(kept)
                return entry
        return None

    def put(self, name: str, stamp: list[int], entry: Entry) -> None:
        """Remembers the entry of a file."""
        beside = {"imprint": entry.imprint, "findings": entry.findings}
        self.entries[name] = {"stamp": stamp, "entry": entry.stored(), **beside}
        self._changed = True

    def verification(self, name: str, stamp: list[int]) -> Any:
        """A verification as JSON data, if its file is still as it was."""
        with suppress(KeyError, TypeError):
            kept = self.verifications[name]
            if kept["stamp"] == stamp:
                return kept["record"]
        return None

    def put_verification(self, name: str, stamp: list[int], record: Any) -> None:
        """Remembers a verification."""
        self.verifications[name] = {"stamp": stamp, "record": record}
        self._changed = True

    def save(self) -> None:
        """Writes what changed; a folder that cannot be written costs time only."""
        if not self._changed and self._before == self._derived():
            return
        self._prune()
        names = ("rules", "entries", "ranks", "verifications", "configs", "board")
        _write(self._path, {name: getattr(self, name) for name in names})
        if self._pairs is not None:
            _write(self._pairs_path, {"pairs": self._pairs})

    def _derived(self) -> str:
        return json.dumps([list(self.entries), self.configs, self.board])

    def _prune(self) -> None:
        """Lets go of ranks of files that are gone, of all but the newest, and of their pairs."""
        present = {
            fingerprint(kept["entry"]["sha256"], kept["stamp"]) for kept in self.entries.values()
        }
        ranks: dict[str, Any] = {}
        members: dict[str, list[set[str]]] = {}
        count: dict[str, int] = {}
        for key, kept in reversed(self.ranks.items()):
            with suppress(KeyError, TypeError):
                place, family, of = kept["place"], kept["family"], set(kept["of"])
                count[place] = count.get(place, 0) + 1
                if of <= present and count[place] <= RANKINGS:
                    ranks[key] = kept
                    members.setdefault(family, []).append(of)
        self.ranks = dict(reversed(ranks.items()))
        if self._pairs is not None:
            self._pairs = {
                name: {
                    key: pair
                    for key, pair in self._pairs[name].items()
                    if any(of.issuperset(key.split(":")) for of in members[name])
                }
                for name in self._pairs
                if name in members and type(self._pairs[name]) is dict
            }


def _mapping(doc: dict[str, Any], name: str) -> dict[str, Any]:
    value = doc.get(name)
    return value if type(value) is dict else {}


def _read(path: str) -> dict[str, Any]:
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        with open(open_file(path), "rb") as stream:
            doc = json.loads(stream.read())
        if doc["version"] == VERSION:
            return dict(doc)
    return {}


def _write(path: str, doc: dict[str, Any]) -> None:
    temporary = f"{path}.{os.urandom(4).hex()}.tmp"
    with suppress(OSError):
        with open(temporary, "wb") as stream:
            text = json.dumps({"version": VERSION, **doc}, separators=(",", ":"))
            stream.write(text.encode())
        os.replace(temporary, path)
    with suppress(OSError):
        os.unlink(temporary)
