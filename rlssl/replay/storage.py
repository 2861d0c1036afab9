"""The arrays of the rows, in memory or in files."""

import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlssl.batches import COPY, EPISODE, STEP, copy_number, episode_number
from rlssl.space_layout import Leaf

#: Bytes of a row without its observation and action: reward, links, flags.
ROW_BYTES = 4 + 2 * 4 + 3 * 1
_INTRINSIC = "intrinsic_rewards"

#: Bytes of a row's episode and step, in a buffer that keeps them.
IDENTITY_BYTES = 8 + 4


class RowStorage:
    """``capacity`` rows as arrays [capacity, ...]; memory is used only for rows once written."""

    def __init__(
        self,
        capacity: int,
        observations: Sequence[Leaf],
        actions: Sequence[Leaf],
        storage_path: str | os.PathLike[str] | None = None,
        *,
        identity: bool = False,
    ) -> None:
        """Allocates the arrays.

        Args:
            capacity: Number of rows.
            observations: Leaves of a frame, in storage format.
            actions: Leaves of an action.
            storage_path: Folder for the frames; None: frames are in memory.
            identity: Whether rows have the number of their episode and their step.
        """
        self.capacity = capacity
        if storage_path is None:
            self.observations = [
                np.empty((capacity, *leaf.shape), leaf.dtype) for leaf in observations
            ]
        else:
            self.observations = [
                map_file(Path(storage_path), capacity, leaf) for leaf in observations
            ]
        self.actions = [np.empty((capacity, *leaf.shape), leaf.dtype) for leaf in actions]
        self.rewards = np.empty(capacity, np.float32)
        self.intrinsic_rewards: np.ndarray | None = None
        self.episode = np.empty(capacity, np.int64) if identity else None
        self.step = np.empty(capacity, np.int32) if identity else None
        self.terminated = np.zeros(capacity, np.bool_)
        self.truncated = np.zeros(capacity, np.bool_)
        # Whether a row has a step and all frames of its stack are stored.
        self.drawable = np.zeros(capacity, np.bool_)
        self.next_offset = np.zeros(capacity, np.int32)
        self.previous_offset = np.zeros(capacity, np.int32)

    def allocate_intrinsic_rewards(self) -> None:
        """Adds the array if it does not exist yet."""
        if self.intrinsic_rewards is None:
            self.intrinsic_rewards = np.empty(self.capacity, np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        named = {f"observations/{i}": leaf for i, leaf in enumerate(self.observations)}
        named |= {f"actions/{i}": leaf for i, leaf in enumerate(self.actions)}
        if self.intrinsic_rewards is not None:
            named[_INTRINSIC] = self.intrinsic_rewards
        return named | {
            **self.identity(),
            "rewards": self.rewards,
            "terminated": self.terminated,
            "truncated": self.truncated,
            "drawable": self.drawable,
            "next_offset": self.next_offset,
            "previous_offset": self.previous_offset,
        }

    def identity(self) -> dict[str, np.ndarray]:
        """The numbers of episodes and the steps, by name; empty if rows do not have them."""
        if self.episode is None or self.step is None:
            return {}
        return {EPISODE: self.episode, STEP: self.step}

    def identity_at(self, slots: np.ndarray) -> dict[str, list[np.ndarray]]:
        """The leaf of ``EPISODE``, ``STEP`` and ``COPY`` at slots; empty if rows have none."""
        found = {name: array[slots] for name, array in self.identity().items()}
        if found:
            found[COPY] = copy_number(found[EPISODE])
        return {name: [array] for name, array in found.items()}

    def write_identity(self, serial: int, episode_id: str, first: int, last: int) -> None:
        """Writes the episode and the steps ``first`` to ``last``, if rows have them."""
        if self.episode is None or self.step is None:
            return
        self.write(self.step, serial, np.arange(first, last + 1))
        self.fill(self.episode, serial, last + 1 - first, episode_number(episode_id))

    def write(self, array: np.ndarray, serial: int, values: np.ndarray) -> None:
        """Copies ``values`` [N, ...], N <= capacity, into N rows, starting at ``serial``."""
        start = serial % self.capacity
        ahead = self.capacity - start
        if len(values) <= ahead:
            array[start : start + len(values)] = values
        else:
            array[start:] = values[:ahead]
            array[: len(values) - ahead] = values[ahead:]

    def write_steps(
        self, array: np.ndarray, first_step: int, first_row: int, values: np.ndarray
    ) -> None:
        """Copies ``values`` [T, ...] into the rows of T steps.

        The first step may be in a much older row; the other steps are in the new rows.
        """
        if first_step >= first_row:
            self.write(array, first_step, values)
        else:
            array[first_step % self.capacity] = values[0]
            self.write(array, first_row, values[1:])

    def fill(self, array: np.ndarray, serial: int, count: int, value: Any) -> None:
        """Sets ``count`` <= capacity rows, starting at ``serial``."""
        start = serial % self.capacity
        array[start : start + count] = value
        if start + count > self.capacity:
            array[: start + count - self.capacity] = value


def has_intrinsic_rewards(arrays: Mapping[str, Any]) -> bool:
    """Whether arrays by name, from `RowStorage.arrays`, include intrinsic rewards."""
    return _INTRINSIC in arrays


def map_file(folder: Path, capacity: int, leaf: Leaf) -> np.ndarray:
    """[capacity, ...], an array in a file without a name, which is deleted with the process.

    Disk space is reserved now. Otherwise a full disk would kill the process at a later write.

    Raises:
        OSError: If the disk has too little room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = max(capacity * leaf.nbytes, 1)
    descriptor, name = tempfile.mkstemp(prefix="replay-", dir=folder)
    try:
        os.unlink(name)
        try:
            _reserve(descriptor, size)
        except OSError as error:
            raise OSError(
                error.errno,
                f"storage_path {folder} has no room for {size / 2**30:.2f} GiB of frames "
                f"({error.strerror}); lower the capacity or choose another folder",
            ) from error
        mapped = mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
    count = capacity * leaf.nbytes // leaf.dtype.itemsize
    return np.frombuffer(mapped, leaf.dtype, count).reshape(capacity, *leaf.shape)


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS: the file is sparse
        os.ftruncate(descriptor, size)
