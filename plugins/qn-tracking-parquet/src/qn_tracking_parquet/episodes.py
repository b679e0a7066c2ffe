"""Writes the episodes of one run to a file, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qn_tracking.plugin import Episode
from qn_tracking_parquet import tables
from qn_tracking_parquet.dataset import Draft

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1_000
"""The number of episodes kept as objects, which need ten times the memory of Arrow."""
BLOCKS = 50
"""The number of blocks in a row group: a few megabytes, which a reader can skip."""


class EpisodeFile:
    """Takes the episodes one by one. Raises StorageError if writing fails."""

    def __init__(self, id: str, folder: str, compression: str) -> None:
        self.count = 0
        self._id = id
        self._draft = Draft(folder, tables.episodes_schema(), compression)
        self._block: list[Episode] = []
        # An empty batch, so that Arrow's imports happen before the loop.
        self._group: list[pa.RecordBatch] = [tables.episodes(id, [])]

    def add(self, episode: Episode) -> None:
        """Add an episode. Every 50,000 episodes this writes a row group, in about 30 ms."""
        self.count += 1
        self._block.append(episode)
        if len(self._block) >= BLOCK:
            self._pack()
            if len(self._group) >= BLOCKS:
                self._write()

    def publish(self, path: str) -> None:
        """Publish the file with all episodes so far."""
        if self._block:
            self._pack()
        self._write()
        self._draft.publish(path)

    def discard(self) -> None:
        """Remove the file, unless it was published."""
        self._draft.discard()

    def _pack(self) -> None:
        block, self._block = self._block, []
        self._group.append(tables.episodes(self._id, block))

    def _write(self) -> None:
        import pyarrow as pa

        group, self._group = self._group, []
        self._draft.write(pa.Table.from_batches(group, tables.episodes_schema()))
