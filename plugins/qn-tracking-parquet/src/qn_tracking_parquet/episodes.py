"""The episodes of one run on their way into a file, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qn_tracking.plugin import Episode
from qn_tracking_parquet import tables
from qn_tracking_parquet.dataset import Draft

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1_000
"""Episodes that are kept as objects, which take ten times the room that they take in Arrow."""
BLOCKS = 50
"""Of a row group, but for the last one: enough for a reader to skip by, some megabytes."""


class EpisodeFile:
    """Takes the episodes one by one; raises StorageError where the disk does."""

    def __init__(self, id: str, folder: str, compression: str) -> None:
        self.count = 0
        self._id = id
        self._draft = Draft(folder, tables.episodes_schema(), compression)
        self._block: list[Episode] = []
        # Empty, so that what Arrow imports at its first use is not imported in the loop.
        self._group: list[pa.RecordBatch] = [tables.episodes(id, [])]

    def add(self, episode: Episode) -> None:
        """One more; every so often a row group is written, which takes some 30 ms."""
        self.count += 1
        self._block.append(episode)
        if len(self._block) >= BLOCK:
            self._pack()
            if len(self._group) >= BLOCKS:
                self._write()

    def publish(self, path: str) -> None:
        """Lets the file be seen, with every episode so far."""
        if self._block:
            self._pack()
        self._write()
        self._draft.publish(path)

    def discard(self) -> None:
        """Leaves nothing behind."""
        self._draft.discard()

    def _pack(self) -> None:
        block, self._block = self._block, []
        self._group.append(tables.episodes(self._id, block))

    def _write(self) -> None:
        import pyarrow as pa

        group, self._group = self._group, []
        self._draft.write(pa.Table.from_batches(group, tables.episodes_schema()))
