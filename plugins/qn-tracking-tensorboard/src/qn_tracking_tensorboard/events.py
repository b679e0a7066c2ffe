"""Event files of TensorBoard: records of a length, a body and their checksums.

A body is an `Event` of TensorBoard's protocol buffers, which `tensorboardX` brings.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from os.path import join
from typing import Any

from qn_tracking.plugin import StorageError, write

PREFIX = "events.out.tfevents."
"""What the name of an event file begins with."""
LARGEST = 64 << 20
"""Bytes of the largest event that is read: pictures and graphs are in the same files."""


class EventFile:
    """A new event file in a folder, which is made if needed. Raises StorageError."""

    def __init__(self, folder: str, started: float) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._event = Event
        write.make_folder(folder)
        # Of two in a second, the names differ.
        name = f"{PREFIX}{int(started)}.{os.uname().nodename}.{os.getpid()}.{os.urandom(4).hex()}"
        self.path = join(folder, name)
        with write.naming(self.path):
            self._file = open(self.path, "xb")  # noqa: SIM115  (closed by `close`)
        self._add(Event(wall_time=started, file_version="brain.Event:2"))

    def scalars(self, values: Mapping[str, float], step: int, at: float) -> None:
        """Add values by tag, at a step and a time in seconds since 1970."""
        event = self._event(wall_time=at, step=step)
        for tag, value in values.items():
            event.summary.value.add(tag=tag, simple_value=_single(value))
        self._add(event)

    def _add(self, event: Any) -> None:
        body = event.SerializeToString()
        length = struct.pack("<Q", len(body))
        with write.naming(self.path):
            self._file.write(b"".join((length, _masked(length), body, _masked(body))))

    def flush(self) -> None:
        """Make everything visible to a reader."""
        with write.naming(self.path):
            self._file.flush()

    def close(self) -> None:
        """Close the file; it may be called again."""
        with write.naming(self.path):
            self._file.close()


def _single(value: float) -> float:
    """As a float of 32 bits, which TensorBoard has: one beyond its range is infinite."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _masked(data: bytes) -> bytes:
    from tensorboardX.record_writer import masked_crc32c

    return struct.pack("<I", masked_crc32c(data))


def scalars(path: str) -> Iterator[tuple[float, int, str, float]]:
    """Yield the scalars of a file in order: time, step, tag, value.

    A last event that is not whole was still being written. Raises StorageError for a damaged one.
    """
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    for place, body in _bodies(path):
        try:
            event = Event.FromString(body)
        except DecodeError:
            raise _damaged(path, place) from None
        for one in event.summary.value:
            if (value := _value(one)) is not None:
                yield event.wall_time, event.step, one.tag, value


def _bodies(path: str) -> Iterator[tuple[int, bytes]]:
    with write.naming(path), open(path, "rb") as stream:
        place = 0
        while len(head := stream.read(12)) == 12:
            (size,) = struct.unpack("<Q", head[:8])
            if _masked(head[:8]) != head[8:] or size > LARGEST:
                raise _damaged(path, place)
            body = stream.read(size + 4)
            if len(body) < size + 4:
                return
            if _masked(body[:-4]) != body[-4:]:
                raise _damaged(path, place)
            yield place, body[:-4]
            place += 12 + size + 4


def _damaged(path: str, place: int) -> StorageError:
    return StorageError("is not an event file, or is damaged", file=path, field=f"byte {place}")


_FORMS = {1: ("<f", 4), 2: ("<d", 8)}
"""What DT_FLOAT and DT_DOUBLE of a tensor are."""


def _value(one: Any) -> float | None:
    """The number of a value, which newer programs write as a tensor; None if it is no scalar."""
    kind = one.WhichOneof("value")
    if kind == "simple_value":
        return float(one.simple_value)
    if kind != "tensor" or one.tensor.tensor_shape.dim:
        return None
    tensor = one.tensor
    form, size = _FORMS.get(tensor.dtype, ("", 0))
    if form and len(tensor.tensor_content) == size:
        return float(struct.unpack(form, tensor.tensor_content)[0])
    numbers = [*tensor.float_val, *tensor.double_val]
    return float(numbers[0]) if len(numbers) == 1 else None
