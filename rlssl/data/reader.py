"""Reads data sets."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlssl.data.description import DATASET_FILE, Manifest, Shard
from rlssl.data.episode import Episode
from rlssl.data.rows import RowFormat
from rlssl.data.stores import open_store
from rlssl.errors import ResourceError, SpecError

logger = logging.getLogger(__name__)


class DamagedShardError(ResourceError):
    """A shard of a data set is missing or damaged; the message names its rows."""


class EpisodeDataset:
    """The episodes of a data set, in the order in which they were recorded.

    Args:
        path: Folder of the data set, or a URI as for the ``storage`` of a run.

    Attributes:
        path: The folder, as given.
        description: What the episodes are: a `Description`.
        shards: The files, with the rows that each holds.
        is_complete: Whether the recorder ended by itself; False while it runs, and after a kill.

    Raises:
        SpecError: If there is no data set, or its ``dataset.json`` cannot be read.

    Example:
        >>> EpisodeDataset("nowhere")
        Traceback (most recent call last):
        rlssl.errors.SpecError: nowhere is no data set: it has no dataset.json. Give the folder of \
a data set.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._store = open_store(path)
        content = self._store.get(DATASET_FILE)
        if content is None:
            raise SpecError(
                f"{path} is no data set: it has no {DATASET_FILE}. Give the folder of a data set."
            )
        manifest = Manifest.decode(content, self.path)
        self.description, self.shards = manifest.description, manifest.shards
        self.is_complete = manifest.complete
        self._format = RowFormat(self.description)

    def __len__(self) -> int:
        """Number of episodes, also of those in damaged shards."""
        return sum(shard.num_episodes for shard in self.shards)

    @property
    def num_steps(self) -> int:
        """Number of steps in all episodes."""
        return sum(shard.num_steps for shard in self.shards)

    @property
    def num_rows(self) -> int:
        """Number of rows, that is observations, in all episodes: sum of T + 1."""
        return sum(shard.num_rows for shard in self.shards)

    def __iter__(self) -> Iterator[Episode]:
        return self.episodes()

    def episodes(self, *, skip_damaged: bool = False) -> Iterator[Episode]:
        """Reads the episodes in order, one shard at a time; each owns its arrays.

        Args:
            skip_damaged: Whether damaged and missing shards are left out, with a warning in the
                log, instead of raising.

        Raises:
            DamagedShardError: If a shard is damaged or missing; names its rows.
            ResourceError: If the storage does not answer.
        """
        for shard in self.shards:
            try:
                found = self.read_shard(shard)
            except DamagedShardError as error:
                if not skip_damaged:
                    raise
                logger.warning("left out: %s", error)
                continue
            yield from found

    def read_shard(self, shard: Shard) -> list[Episode]:
        """The episodes of one shard, after its checksum was compared.

        Raises:
            DamagedShardError: If it is damaged or missing.
        """
        content = self._store.get(shard.file)
        if content is None:
            raise self._damaged(shard, "is missing")
        if hashlib.sha256(content).hexdigest() != shard.sha256:
            raise self._damaged(shard, "is damaged: its SHA-256 is not the recorded one")
        try:
            # With threads, a small shard takes longer.
            table = pq.read_table(pa.BufferReader(content), use_threads=False)
            episodes = self._format.episodes(table)
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise self._damaged(shard, f"cannot be read: {error}") from error
        counts = len(episodes), table.num_rows
        if counts != (shard.num_episodes, shard.num_rows):
            raise self._damaged(shard, f"has {counts[0]} episodes in {counts[1]} rows")
        return episodes

    def _damaged(self, shard: Shard, defect: str) -> DamagedShardError:
        return DamagedShardError(
            f"{self.path}: shard {shard.where} {defect}. Restore it from a copy; the other shards "
            "are not affected (episodes(skip_damaged=True))."
        )
