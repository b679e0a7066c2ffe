"""Values of the episodes of a run, in columns: faster than one episode after the other."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import chain, islice
from zlib import crc32

from qn_tracking.records.limits import as_number
from qn_tracking.records.stats import COMPUTED
from qn_tracking.store import paths, phases
from qn_tracking.store.paths import journal
from qn_tracking.store.read import Lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    Read = Callable[[dict[str, Any]], Any]

CHUNK = 4096
"""Lines that are decoded at a time."""

OWN = ("success", "steps", "reward", "index", "after")
GROUPS = ("counts", "metrics", "timing")
TAKEN = COMPUTED | {"success"}


def columns(
    experiments: str, id: str, names: Sequence[str], phase: str | None = None
) -> list[list[Any]]:
    """For each name a list with a value for each committed episode; None where it has none.

    A name is that of a field (success, steps, reward, index, of a phase also after), of a count or
    a metric, or `counts.NAME`, `metrics.NAME`, `timing.NAME`. Raises StorageError naming a bad
    line.
    """
    reads = [_reader(name) for name in names]
    if phase is not None:
        return _of_phase(experiments, id, reads, phase)
    out: list[list[Any]] = [[] for _ in names]
    with _named(path := journal(experiments, id)):
        for docs in _decoded(path):
            for read, values in zip(reads, out, strict=True):
                values += map(read, docs)
    return out


def every_column(experiments: str, id: str) -> dict[str, list[Any]]:
    """success, reward, steps, and each count and metric, a value an episode; None where it has
    none, NaN and infinities as they are. A host's own `steps` is `counts.steps`.

    Raises StorageError for a journal that is not here, or a line that is damaged.
    """
    found: dict[str, list[Any]] = {"success": [], "reward": [], "steps": []}
    with _named(path := journal(experiments, id)):
        for count, doc in enumerate(chain.from_iterable(_decoded(path))):
            theirs = {**doc["counts"], **doc["metrics"]}
            if not TAKEN.isdisjoint(theirs):
                theirs = {
                    f"{group}.{name}" if name in TAKEN else name: value
                    for group in ("counts", "metrics")
                    for name, value in doc[group].items()
                }
            own = {name: doc[name] for name in ("success", "reward", "steps")}
            for name, value in {**theirs, **own}.items():
                column = found.get(name)
                if column is None:
                    column = found[name] = [None] * count
                column.append(_number(value))
            for column in found.values():
                if len(column) <= count:
                    column.append(None)
    return found


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Raises StorageError naming the line of a journal that cannot be decoded."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError):
        for _ in Lines(path):
            pass
        raise


def _of_phase(experiments: str, id: str, reads: Sequence[Read], phase: str) -> list[list[Any]]:
    import orjson

    out: list[list[Any]] = [[] for _ in reads]
    # Read whole, so that every line is checked: an evaluation has fewer episodes than a run.
    for episode in phases.lines(paths.run_folder(experiments, id)) or ():
        if episode.phase == phase:
            doc = {**orjson.loads(episode.exact), "timing": episode.timing}
            for read, values in zip(reads, out, strict=True):
                values.append(read(doc))
    return out


def _reader(name: str) -> Read:
    group, dot, inner = name.partition(".")
    if name in OWN:
        return lambda doc: _number(doc[name])
    if dot and group in GROUPS:
        return lambda doc: _number(doc[group].get(inner))
    return lambda doc: _number(doc["metrics"].get(name, doc["counts"].get(name)))


def _number(value: Any) -> Any:
    if value is None or type(value) in (int, float, bool):
        return value
    return as_number(value)


def _decoded(path: str) -> Iterator[list[dict[str, Any]]]:
    """The episodes as plain data, many at a time, each with its checksum and number checked."""
    import orjson

    lines = Lines(path).raw()
    count = 0
    while chunk := list(islice(lines, CHUNK)):
        docs = orjson.loads(b"[%b]" % b",".join(chunk))
        # The checksum is of the bytes before `,"crc":"`, eight digits, `"}` and a newline.
        sums = [crc32(line[:-19]) for line in chunk]
        if sums != [int(doc["crc"], 16) for doc in docs]:
            raise ValueError("checksum")
        if [doc["index"] for doc in docs] != list(range(count, count + len(docs))):
            raise ValueError("index")
        count += len(docs)
        yield docs
