"""Reading what is stored: records, and the episodes of a journal.

A file is refused with its cause, never read halfway: what it holds instead of a record, its
encoding, its size, a duplicate key, a schema from the future. Nothing heavy is imported before it
is needed: the index reads new records with this in a listing that takes milliseconds.
"""

from __future__ import annotations

import os
import re
from math import isfinite

from qn_tracking.errors import MALFORMED, StorageError, short
from qn_tracking.files import load as load, open_file, os_error
from qn_tracking.ids import is_id, microseconds
from qn_tracking.records import schema
from qn_tracking.records.limits import (
    IMPORTED,
    MAX_BYTES as MAX_BYTES,
    MAX_DEPTH,
    RECORDED as RECORDED,
    as_number,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

    from qn_tracking.records.model import Episode, Experiment

_LFS = b"version https://git-lfs.github.com/spec/"
_BOMS = (
    (b"\xef\xbb\xbf", "UTF-8 with a byte order mark"),
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def check_count(experiment: Experiment, episodes: int) -> None:
    """Raises StorageError if a journal lacks episodes that its record counts."""
    wanted = experiment.results.episodes
    # A journal whose disk was full is shorter, as the record says.
    lost = partly_imported(experiment) or any(one.storage for one in experiment.failures)
    if episodes != wanted and not lost:
        raise StorageError(
            f"its record has {wanted:,} episodes, its journal {episodes:,}",
            file=experiment.id,
            hint=f"qn-exp fsck {experiment.id}",
        )


def partly_imported(experiment: Experiment) -> bool:
    """Whether it is of another program, which need not have kept every episode that it counts."""
    return experiment.status == IMPORTED and experiment.digests is None


def recorded(experiments: str) -> list[str]:
    """The ids of all experiments that have a record, oldest first. Raises StorageError."""
    try:
        names = os.listdir(experiments)
    except OSError as error:
        raise os_error(experiments, error) from None
    return sorted(name[:-5] for name in names if name[-5:] == ".json" and is_id(name[:-5]))


# ----------------------------------------------------------------------------------------- records


def parse(data: bytes, file: str) -> dict[str, Any]:
    """The object in the bytes of a JSON file. Raises StorageError with the cause."""
    import json

    text = _text(data, file)
    try:
        doc = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_number
        )
        if "\\u" in text:  # an escaped half of a character is no text
            json.dumps(doc, ensure_ascii=False).encode()
    except _DuplicateKeyError as error:
        raise StorageError(f"duplicate key {error.args[0]!r}", file=file) from None
    except RecursionError:
        raise StorageError("nested too deep", file=file) from None
    except UnicodeEncodeError:
        raise StorageError("text that is not valid Unicode", file=file) from None
    except json.JSONDecodeError as error:
        raise _not_json(error, text, file) from None
    except ValueError as error:
        raise StorageError(f"not valid JSON: {error}", file=file) from None
    if type(doc) is not dict:
        raise StorageError("expected a JSON object", file=file)
    if text.count("{") + text.count("[") > MAX_DEPTH:  # most have too few to be nested too deep
        for key, value in doc.items():
            if _too_deep(value):
                raise StorageError(f"nested deeper than {MAX_DEPTH}", file=file, field=key[:60])
    return doc


def _too_deep(value: Any) -> bool:
    """Whether a field of a document is nested deeper than a record can be; without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for one in level
            if type(one) in (dict, list)
            for item in (one.values() if type(one) is dict else one)
            if type(item) in (dict, list)
        ]
        if not level:
            return False
    return True


def _not_json(error: Any, text: str, file: str) -> StorageError:
    if text.startswith("<<<<<<< ") or "\n<<<<<<< " in text:
        return StorageError("holds an unresolved git merge conflict", file=file)
    # What begins an object and breaks off at the very end was once whole.
    cut = text.lstrip()[:1] == "{" and (
        error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
    )
    kind = "truncated" if cut else "not valid JSON"
    where = f"line {error.lineno} column {error.colno}"
    return StorageError(f"{kind}: {error.msg[:1].lower()}{error.msg[1:]}: {where}", file=file)


def _text(data: bytes, file: str) -> str:
    if not data.strip():
        raise StorageError("empty", file=file)
    if data.startswith(_LFS):
        raise StorageError("is a git-LFS pointer, not the record", file=file, hint="git lfs pull")
    for mark, name in _BOMS:
        if data.startswith(mark):
            raise StorageError(f"encoding is {name}", file=file, hint="save it as UTF-8")
    if b"\x00" in data[:4]:
        raise StorageError("encoding is UTF-16 or UTF-32", file=file, hint="save it as UTF-8")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        cause = f"encoding is not UTF-8: byte 0x{data[error.start]:02x} at {error.start}"
        raise StorageError(cause, file=file, hint="save it as UTF-8") from None


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKeyError(key)
            seen.add(key)
    return out


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:20]} is beyond the range of numbers")
    return number


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def same_id(doc: dict[str, Any], name: str, file: str) -> None:
    """Raises StorageError if a document is not what the name of its file says."""
    if doc.get("id") != name:
        shown = short(repr(doc.get("id")))
        raise StorageError(f"{shown} is not the name of the file", file=file, field="id")


def document(path: str) -> dict[str, Any]:
    """A record as plain data in today's schema. Raises StorageError, FileNotFoundError."""
    data, _ = load(path)
    doc = schema.RECORD.current(parse(data, path), path)
    same_id(doc, os.path.basename(path).removesuffix(".json"), path)
    return doc


def experiment(path: str) -> Experiment:
    """A record, every field of it checked. Raises StorageError, FileNotFoundError."""
    from qn_tracking.records.codec import structure
    from qn_tracking.records.model import Experiment

    return structure(document(path), Experiment, file=path, error=StorageError)


def misfits(experiment: Experiment) -> Iterator[StorageError]:
    """What is of the right type and yet no status, no time: no listing could hold it.

    Said of what comes in, and by a check; a stored record that has it can still be shown.
    """
    if experiment.status not in RECORDED:
        shown = repr(experiment.status[:40])
        yield StorageError(f"expected one of {', '.join(RECORDED)}, got {shown}", field="status")
    for field in ("started", "ended"):
        text = getattr(experiment, field)
        try:
            microseconds(text)
        except (ValueError, OverflowError):
            yield StorageError(f"expected a time, got {text[:40]!r}", field=field)


# ----------------------------------------------------------------------------------------- journal


# Inside of text the quotes would be escaped: it cannot stand anywhere else in a line.
INDEX = re.compile(rb'[{,]"index":([0-9]{1,16}),"metrics":\{')


def ending(path: str, last: int) -> tuple[int, int]:
    """Where the last committed lines of a journal begin, and the number of the first of them.

    (0, 0) if that cannot be seen from its end. Raises StorageError.
    """
    try:
        with open(open_file(path), "rb") as stream:
            size, wide = os.fstat(stream.fileno()).st_size, 1 << 16
            while True:
                offset = max(0, size - wide)
                stream.seek(offset)
                data = stream.read(size - offset)
                at, left = data.rfind(b"\n"), last
                while left and at >= 0:
                    at, left = data.rfind(b"\n", 0, at), left - 1
                if at >= 0:
                    found = INDEX.search(data, at, data.find(b"\n", at + 1))
                    return (offset + at + 1, int(found[1])) if found else (0, 0)
                if not offset or wide > MAX_BYTES:
                    break
                wide *= 4
        return 0, 0
    except OSError as error:
        raise os_error(path, error) from None


class Lines:
    """The committed lines of a journal, from an offset on, checked: their checksum, their number.

    Iterate once; then `count` is how many there were, `committed` the bytes up to the last
    newline, and `torn` the bytes after it. Raises StorageError naming the first bad line.
    """

    def __init__(self, path: str, offset: int = 0, count: int = 0) -> None:
        self.path = path
        self.count = count
        self.committed = offset
        self.torn = 0

    def __iter__(self) -> Iterator[Episode]:
        for line in self.raw():
            yield self._episode(line)
            self.count += 1
            self.committed += len(line)

    def raw(self) -> Iterator[bytes]:
        """The committed lines as bytes; the caller counts them."""
        try:
            with open(open_file(self.path), "rb") as stream:
                stream.seek(self.committed)
                while line := stream.readline(MAX_BYTES):
                    if line[-1:] != b"\n":
                        if len(line) == MAX_BYTES:
                            raise self._bad("longer than a line can be")
                        self.torn = len(line)
                        return
                    yield line
        except OSError as error:
            raise os_error(self.path, error) from None

    def _bad(self, cause: str) -> StorageError:
        return StorageError(cause, file=self.path, field=f"line {self.count + 1}")

    def _episode(self, line: bytes) -> Episode:
        from zlib import crc32  # an import that a listing saves

        body, mark, crc = line.rpartition(b',"crc":"')
        if not mark or crc[8:] != b'"}\n' or crc[:8] != b"%08x" % crc32(body):
            raise self._bad("checksum does not match")
        try:
            episode = _episode(body, self._fields)
        except MALFORMED as error:
            raise self._bad(f"not an episode: {error}") from None
        self._check_index(episode)
        return episode

    _fields = frozenset(
        ("index", "seed", "success", "termination", "steps", "reward", "counts", "metrics")
    )

    def _check_index(self, episode: Episode) -> None:
        if episode.index != self.count:
            raise self._bad(f"expected episode {self.count}, got {episode.index}")


class PhaseLines(Lines):
    """The lines of the episodes of all phases but the main one: each phase counts from 0."""

    _fields = Lines._fields | {"phase", "after"}

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._counts: dict[str, int] = {}

    def _check_index(self, episode: Episode) -> None:
        name = episode.phase
        if not name or episode.after is None:
            raise self._bad("not an episode of a phase")
        wanted = self._counts.get(name, 0)
        if episode.index != wanted:
            raise self._bad(f"{name[:60]}: expected episode {wanted}, got {episode.index}")
        self._counts[name] = wanted + 1


def _episode(body: bytes, fields: frozenset[str]) -> Episode:
    """From a line without its checksum; the journal's bytes are the episode's canonical ones."""
    import orjson

    from qn_tracking.records.model import Episode, FrozenDict, Measure, of_phase

    # Inside of text the quotes would be escaped, and no number is a mapping: it stands there once.
    exact, mark, _ = body.rpartition(b',"timing":{')
    if not mark:
        raise ValueError("no timing")
    doc = orjson.loads(body + b"}")
    timing = doc.pop("timing")
    if doc.keys() != fields:
        wrong = sorted(doc.keys() ^ fields)
        raise ValueError(f"fields {', '.join(wrong)}")

    def number(key: str, value: Any) -> Measure:
        try:
            return Measure(as_number(value))
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None

    def either(key: str, kind: type) -> Any:
        if doc[key] is None or type(doc[key]) is kind:
            return doc[key]
        raise ValueError(f"{key}: unexpected {type(doc[key]).__name__}")

    if type(doc["index"]) is not int:
        raise ValueError("index: expected a whole number")
    for name in ("counts", "metrics"):
        if type(doc[name]) is not dict:
            raise ValueError(f"{name}: expected a mapping")
    for key, value in doc["counts"].items():
        if type(value) is not int:
            raise ValueError(f"counts.{key}: expected a whole number")
    episode = Episode(
        index=doc["index"],
        seed=either("seed", int),
        success=either("success", bool),
        termination=either("termination", str),
        steps=either("steps", int),
        reward=None if doc["reward"] is None else number("reward", doc["reward"]),
        counts=FrozenDict(doc["counts"]),
        metrics=FrozenDict({k: number(k, v) for k, v in doc["metrics"].items()}),
        timing=FrozenDict({k: float(v) for k, v in timing.items()}),
        exact=exact + b"}",
    )
    if "phase" not in doc:
        return episode
    return of_phase(episode, either("phase", str) or "", either("after", int))
