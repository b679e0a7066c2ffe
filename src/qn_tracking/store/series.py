"""The file of the series of a run: one line for each call of `log`, committed like an episode."""

from __future__ import annotations

from os.path import join, lexists

from qn_tracking.errors import StorageError
from qn_tracking.files import open_file, os_error
from qn_tracking.records.limits import MAX_BYTES, as_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from qn_tracking.records.model import Digests, Logged, SeriesSummary

NAME = "series.jsonl"
RESOURCES = "resources.jsonl"
"""What the plugin `resources` has sampled; no digest covers it."""


def calls(run_folder: str, name: str = NAME) -> Iterator[Logged]:
    """Every call of `log` in a file, in order; none where nothing was logged.

    A last line without its end was not committed. Raises StorageError naming the first bad line.
    """
    from zlib import crc32

    from qn_tracking.records.model import Logged

    path = join(run_folder, name)
    for number, line in enumerate(_lines(path), 1):
        body, mark, crc = line.rpartition(b',"crc":"')
        if not mark or crc[8:] != b'"}\n' or crc[:8] != b"%08x" % crc32(body):
            raise _bad(path, number, "checksum does not match")
        exact, _, at = body.rpartition(b',"at":')
        try:
            doc = _parsed(exact + b"}")
            yield Logged(
                step=doc["step"],
                episode=doc["episode"],
                at=float(at),
                values={name: as_number(value) for name, value in doc["values"].items()},
                exact=exact + b"}",
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _bad(path, number, f"not a call of log: {error}") from None


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
    data = b"".join(_whole(join(run_folder, name)) for name in (NAME, RESOURCES))
    try:
        docs = _parsed(b"[%b]" % data.replace(b"\n", b",")[:-1])
        every = [
            (doc, name, value)
            for doc in docs
            for name, value in doc["values"].items()
            if not names or name in names
        ]
        return {
            "step": [doc["step"] for doc, _, _ in every],
            "episode": [doc["episode"] for doc, _, _ in every],
            "at": [doc["at"] for doc, _, _ in every],
            "name": [name for _, name, _ in every],
            "value": [as_number(value) for _, _, value in every],
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        for file in (NAME, RESOURCES):
            for _ in calls(run_folder, file):  # names the line
                pass
        raise StorageError("cannot be read", file=join(run_folder, NAME)) from None


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


def _lines(path: str) -> Iterator[bytes]:
    try:
        with open(open_file(path), "rb") as stream:
            while (line := stream.readline(MAX_BYTES))[-1:] == b"\n":
                yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise os_error(path, error) from None


def _parsed(data: bytes) -> Any:
    import orjson

    return orjson.loads(data)


def _bad(path: str, number: int, cause: str) -> StorageError:
    return StorageError(cause, file=path, field=f"line {number}")
