"""The file of the series of a run: one line for each call of `log`, committed like an episode."""

from __future__ import annotations

from os.path import getsize, join, lexists

from qn_tracking.errors import StorageError
from qn_tracking.files import open_file, os_error
from qn_tracking.records.limits import as_number
from qn_tracking.store.read import Lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from qn_tracking.records.model import Digests, Logged, SeriesSummary

NAME = "series.jsonl"
RESOURCES = "resources.jsonl"
"""What the plugin `resources` has sampled; no digest covers it."""
PART = 1 << 15
"""Bytes that are parsed at once."""


def calls(run_folder: str, name: str = NAME) -> Iterator[Logged]:
    """Every call of `log` in a file, in order; none where nothing was logged.

    A last line without its end was not committed. Raises StorageError naming the first bad line.
    """
    from zlib import crc32

    from qn_tracking.records.model import Logged

    path = join(run_folder, name)
    lines = Lines(path).raw() if lexists(path) else ()
    for number, line in enumerate(lines, 1):
        body, mark, crc = line.rpartition(b',"crc":"')
        if not mark or crc[8:] != b'"}\n' or crc[:8] != b"%08x" % crc32(body):
            raise _bad(path, number, "checksum does not match")
        exact, _, at = body.rpartition(b',"at":')
        try:
            doc = _parsed(exact + b"}")
            _check_whole("step, episode", (doc["step"], doc["episode"]))
            yield Logged(
                step=doc["step"],
                episode=doc["episode"],
                at=float(at),
                values={name: as_number(value) for name, value in doc["values"].items()},
                exact=exact + b"}",
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _bad(path, number, f"not a call of log: {error}") from None


def size(run_folder: str) -> int:
    """The bytes of the file; 0 where nothing was logged."""
    path = join(run_folder, NAME)
    return getsize(path) if lexists(path) else 0


def summarised(run_folder: str, digests: Digests) -> tuple[Digests, Mapping[str, SeriesSummary]]:
    """The digests of a run with that of its series, and their summaries. Raises StorageError."""
    from qn_tracking.records.model import EMPTY

    if not lexists(join(run_folder, NAME)):
        return digests, EMPTY
    from attrs import evolve

    from qn_tracking.records.series import SeriesTally

    tally = SeriesTally()
    for one in calls(run_folder):
        tally.add(one)
    return evolve(digests, series=tally.digest()), tally.summaries()


def points(run_folder: str, names: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    """The columns step, episode, at (seconds), name and value of every point, in order; those of
    resources come last.

    A million points take about a second. Raises StorageError; what was changed is found by `fsck`.
    """
    from itertools import chain, repeat

    table: dict[str, list[Any]] = {name: [] for name in ("step", "episode", "at", "name", "value")}
    data = b"".join(_whole(join(run_folder, name)) for name in (NAME, RESOURCES))
    try:
        for docs in _parts(data):
            every = [doc["values"] for doc in docs]
            if names:
                every = [{k: v for k, v in one.items() if k in names} for one in every]
            sizes = list(map(len, every))
            for key in ("step", "episode", "at"):
                once = [doc[key] for doc in docs]
                if key != "at":
                    _check_whole(key, once)
                alone = len(every) == sum(sizes) and 0 not in sizes
                table[key] += once if alone else chain.from_iterable(map(repeat, once, sizes))
            table["name"] += chain.from_iterable(every)
            values = [value for one in every for value in one.values()]
            exact = set(map(type, values)) <= {float}
            table["value"] += values if exact else map(as_number, values)
        return table
    except (ValueError, TypeError, KeyError, AttributeError):
        for file in (NAME, RESOURCES):
            for _ in calls(run_folder, file):  # names the line
                pass
        raise StorageError("cannot be read", file=join(run_folder, NAME)) from None


def _parts(data: bytes) -> Iterator[list[dict[str, Any]]]:
    """The lines, parsed, some at a time: of so many objects the garbage collector looks at each."""
    begin = 0
    while begin < len(data):
        end = data.rfind(b"\n", begin, begin + PART) + 1 or data.index(b"\n", begin) + 1
        yield _parsed(b"[%b]" % data[begin : end - 1].replace(b"\n", b","))
        begin = end


def _whole(path: str) -> bytes:
    """The committed lines of a file; none where there is none."""
    try:
        with open(open_file(path), "rb") as stream:
            data = stream.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise os_error(path, error) from None
    return data[: data.rfind(b"\n") + 1]


def _parsed(data: bytes) -> Any:
    import orjson

    return orjson.loads(data)


def _check_whole(name: str, values: Iterable[Any]) -> None:
    if not set(map(type, values)) <= {int}:
        raise ValueError(f"{name}: expected whole numbers")


def _bad(path: str, number: int, cause: str) -> StorageError:
    return StorageError(cause, file=path, field=f"line {number}")
