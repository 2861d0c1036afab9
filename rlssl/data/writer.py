"""Writes data sets."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlssl.data.description import DATASET_FILE, Description, Manifest, Shard
from rlssl.data.episode import Episode
from rlssl.data.rows import EPISODE, TIME, RowFormat
from rlssl.data.stores import open_store
from rlssl.errors import SpecError

#: Level of zstd: higher ones take much longer and save little.
_ZSTD_LEVEL = 3


class DatasetWriter:
    """Writes episodes into shards of whole episodes.

    Every shard is readable as soon as it is written, and stays so if the process is killed: only
    the episodes since the last shard are lost. A context manager: leaving it calls `close`, but
    after an error the data set is not marked as complete. A copy can be made again, so
    it has ``keep_partial=False``: it is readable once it is complete, and an error removes its
    files.

    Args:
        path: Folder of the data set, or a URI as for the ``storage`` of a run.
        description: What the episodes are.
        resume: Whether to add to a data set of the same spaces that is there already.
        keep_partial: Whether episodes can be read before `close`, and stay after an error.
        rows_per_shard: Rows after which a shard is full; >= 1.
        bytes_per_shard: The same in bytes before compression; >= 1. An episode that is longer than
            a shard gets one for itself.

    Raises:
        SpecError: If the folder already has a data set or files of one, or with ``resume`` another
            one.
        ValueError: If the description cannot be written, or with both ``resume`` and
            ``keep_partial=False``.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from gymnasium.spaces import Box, Discrete
        >>> folder = tempfile.mkdtemp()
        >>> frames, actions = np.zeros((3, 4), np.float32), np.array([0, 1])
        >>> with DatasetWriter(folder, Description(Box(-1, 1, (4,)), Discrete(2))) as writer:
        ...     writer.add(Episode(frames, actions, np.ones(2), terminated=True))
        >>> sorted(path.name for path in Path(folder).iterdir())
        ['dataset.json', 'episodes-00000.parquet']
    """

    def __init__(
        self,
        path: str | Path,
        description: Description,
        *,
        resume: bool = False,
        keep_partial: bool = True,
        rows_per_shard: int = 20_000,
        bytes_per_shard: int = 64 * 2**20,
    ) -> None:
        for name, value in (("rows", rows_per_shard), ("bytes", bytes_per_shard)):
            if value < 1:
                raise ValueError(f"{name}_per_shard must be >= 1; got {value}.")
        if resume and not keep_partial:
            raise ValueError("keep_partial=False would remove the episodes that resume found.")
        self._keep_partial = keep_partial
        self._store = open_store(path)
        self._rows_per_shard, self._bytes_per_shard = rows_per_shard, bytes_per_shard
        self._format = RowFormat(description)
        self._manifest = self._begin(str(path), description, resume)
        self._pending: list[Episode] = []
        self._pending_rows = self._pending_bytes = 0
        self._is_closed = False

    def _begin(self, path: str, description: Description, resume: bool) -> Manifest:
        content = self._store.get(DATASET_FILE)
        if content is None:
            if self._store.get(_shard_file(0)) is not None:
                raise SpecError(
                    f"{path} has {_shard_file(0)} and no {DATASET_FILE}: a copy into it was "
                    "killed, or the file is lost. Delete the folder, or give another path."
                )
            manifest = Manifest(description)
            encoded = manifest.encode()
            if self._keep_partial:
                self._store.put(DATASET_FILE, encoded)
            return manifest
        if not resume:
            ways = "delete it, or resume it" if self._keep_partial else "or delete it"
            raise SpecError(f"{path} already has a data set; give another path, {ways}.")
        found = Manifest.decode(content, path)
        for name in ("observation_space", "action_space"):
            there, given = getattr(found.description, name), getattr(description, name)
            if there != given:
                raise SpecError(
                    f"{path} cannot be resumed: its {name} is {there}, and that of the new "
                    f"episodes is {given}. Give another path."
                )
        return replace(found, complete=False)

    @property
    def description(self) -> Description:
        """What the episodes are; of a resumed data set, as it was found."""
        return self._manifest.description

    def annotate(self, notes: Mapping[str, Any]) -> None:
        """Sets some of the description's notes; they are written with the next shard.

        Example:
            A recorder that counts what it has recorded: the count fits the shards, whenever it is
            killed.

            >>> import tempfile
            >>> from gymnasium.spaces import Discrete
            >>> writer = DatasetWriter(tempfile.mkdtemp(), Description(Discrete(2)))
            >>> writer.annotate({"games": 3})
            >>> writer.description.notes
            {'games': 3}
        """
        description = self._manifest.description
        description = replace(description, notes={**description.notes, **notes})
        self._manifest = replace(self._manifest, description=description)

    @property
    def num_episodes(self) -> int:
        """Episodes so far, with those of a resumed data set."""
        return sum(shard.num_episodes for shard in self._manifest.shards) + len(self._pending)

    @property
    def num_steps(self) -> int:
        """Steps so far, with those of a resumed data set."""
        written = sum(shard.num_steps for shard in self._manifest.shards)
        return written + self._pending_rows - len(self._pending)

    def add(self, episode: Episode) -> None:
        """Adds an episode; writes a shard if it is full.

        Values are written in the dtypes of the spaces, as a replay stores them. The writer keeps
        the arrays until the shard is written: do not change them.

        Raises:
            ValueError: If the episode does not fit the spaces or a reward is not finite. Then it
                is not added.
            OSError: If a shard cannot be written to a disk.
            ResourceError: If the store does not answer, or refuses.
        """
        if self._is_closed:
            raise ValueError("the writer is closed; open the data set again with resume=True.")
        observations, actions = self._format.leaves(episode, f"episode {self.num_episodes}")
        rows = len(episode) + 1
        size = sum(leaf.nbytes for leaf in (*observations, *actions))
        is_full = (
            self._pending_rows + rows > self._rows_per_shard
            or self._pending_bytes + size > self._bytes_per_shard
        )
        if is_full:
            self.flush()
        self._pending.append(episode)
        self._pending_rows += rows
        self._pending_bytes += size

    def flush(self) -> None:
        """Writes the episodes since the last shard as a shard, if there are any."""
        if not self._pending:
            return
        shards = self._manifest.shards
        first_episode = self.num_episodes - len(self._pending)
        data = _parquet(self._format.table(self._pending, first_episode))
        shard = Shard(
            file=_shard_file(len(shards)),
            first_episode=first_episode,
            num_episodes=len(self._pending),
            first_row=sum(shard.num_rows for shard in shards),
            # Not the count: an interrupt may have come before it was updated.
            num_rows=sum(len(episode) + 1 for episode in self._pending),
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            **_statistics(self._pending),
        )
        self._store.put(shard.file, data)
        manifest = replace(self._manifest, shards=(*shards, shard))
        if self._keep_partial:
            self._store.put(DATASET_FILE, manifest.encode())
        self._manifest, self._pending = manifest, []
        self._pending_rows = self._pending_bytes = 0

    def close(self) -> None:
        """Writes the rest, and marks the data set as complete."""
        if self._is_closed:
            return
        self.flush()
        self._manifest = replace(self._manifest, complete=True)
        self._store.put(DATASET_FILE, self._manifest.encode())
        self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.close()
            elif self._keep_partial:
                self.flush()
        finally:
            if not (self._is_closed or self._keep_partial):
                self._delete()
            self._is_closed = True

    def _delete(self) -> None:
        """Deletes all files, ``dataset.json`` first: from then on, nobody can read the rest."""
        self._store.delete(DATASET_FILE)
        # One more: an interrupt may have come before it was counted.
        for number in range(len(self._manifest.shards) + 1):
            self._store.delete(_shard_file(number))


def _shard_file(number: int) -> str:
    return f"episodes-{number:05d}.parquet"


def _statistics(episodes: Sequence[Episode]) -> dict[str, Any]:
    """What `Shard` says about its episodes."""
    returns = [float(episode.rewards.sum(dtype=np.float64)) for episode in episodes]
    lengths = [len(episode) for episode in episodes]
    return {
        "returns": {"min": min(returns), "mean": float(np.mean(returns)), "max": max(returns)},
        "lengths": {"min": min(lengths), "max": max(lengths)},
        "terminated": sum(episode.terminated for episode in episodes),
        "truncated": sum(episode.truncated for episode in episodes),
    }


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        # Both take longer than the compression, and save nothing: frames hardly repeat.
        use_dictionary=False,
        write_statistics=[EPISODE, TIME],
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content
