"""The values of the episodes of a run, in columns: faster than one episode after the other."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from qn_tracking.errors import StorageError
from qn_tracking.records.limits import as_number
from qn_tracking.store.read import Lines
from qn_tracking.store.transfer import journal

Columns = dict[str, list[Any]]


def read(experiments: str, id: str) -> Columns:
    """success, reward, steps, and each count and metric, a value an episode; None where it has
    none, NaN and infinities as they are.

    Raises StorageError for a journal that is not here, or a line that is damaged.
    """
    import orjson

    path = journal(experiments, id)
    columns: Columns = {"success": [], "reward": [], "steps": []}
    for count, line in enumerate(Lines(path).raw()):
        body, mark, crc = line.rpartition(b',"crc":"')
        if not mark or crc[:8] != b"%08x" % crc32(body):
            raise StorageError("checksum does not match", file=path, field=f"line {count + 1}")
        try:
            doc = orjson.loads(body + b"}")
            found = {
                "success": doc["success"],
                "reward": doc["reward"],
                "steps": doc["steps"],
                **doc["counts"],
                **doc["metrics"],
            }
        except (ValueError, TypeError, KeyError) as error:
            cause = f"not an episode: {error}"
            raise StorageError(cause, file=path, field=f"line {count + 1}") from None
        for name, value in found.items():
            column = columns.get(name)
            if column is None:
                column = columns[name] = [None] * count
            column.append(float(as_number(value)) if type(value) is str else value)
        for column in columns.values():
            if len(column) <= count:
                column.append(None)
    return columns
