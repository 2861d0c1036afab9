"""Episodes as the rows of a Parquet table, and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rlssl.data.description import Description
from rlssl.data.episode import Episode
from rlssl.space_layout import Layout, Leaf

#: The columns beside those of observations and actions.
EPISODE, TIME, REWARD, TERMINATED, TRUNCATED = "episode", "t", "reward", "terminated", "truncated"

#: Bytes of a frame up to which joining frames costs less than a piece for each episode.
_SMALL_BYTES = 1024


class RowFormat:
    """The columns of a data set.

    A row is a frame. An episode has T + 1 rows; in the last row, all columns of the step are null.
    A leaf is one column: a number, or for an array the elements in row-major order: binary for
    uint8, a list for other dtypes.
    """

    def __init__(self, description: Description) -> None:
        """Reads the spaces.

        Raises:
            ValueError: If a space cannot be recorded.
        """
        self.observations = Layout(description.observation_space, "observation_space")
        space = description.action_space
        self.actions = None if space is None else Layout(space, "action_space")

    def leaves(self, episode: Episode, what: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The leaves [T + 1, ...] of the observations and [T, ...] of the actions, checked.

        Args:
            episode: The episode.
            what: Its name in messages.

        Raises:
            ValueError: If the episode does not fit the spaces, or a reward is not finite.
        """
        if (episode.actions is None) != (self.actions is None):
            raise ValueError(
                f"{what} has no actions; describe a data set with action_space=None."
                if episode.actions is None
                else f"{what} has actions; describe the data set with their action_space."
            )
        if not np.isfinite(episode.rewards).all():
            step = int(np.flatnonzero(~np.isfinite(episode.rewards))[0])
            raise ValueError(
                f"rewards of {what} must be finite as float32; got {episode.rewards[step]} at step "
                f"{step}."
            )
        observations = self.observations.flatten(episode.observations, f"observations of {what}")
        if self.actions is None:
            return observations, []
        return observations, self.actions.flatten(episode.actions, f"actions of {what}")

    def table(self, episodes: Sequence[Episode], first_episode: int) -> pa.Table:
        """The rows of consecutive episodes, which must fit: see `leaves`."""
        lengths = np.array([len(episode) for episode in episodes])
        numbers = np.arange(first_episode, first_episode + len(episodes))
        has_step = np.ones(int(lengths.sum()) + len(episodes), bool)
        has_step[np.cumsum(lengths + 1) - 1] = False
        columns: dict[str, Any] = {
            EPISODE: pa.array(np.repeat(numbers, lengths + 1)),
            TIME: pa.array(np.concatenate([np.arange(n + 1, dtype=np.int32) for n in lengths])),
        }
        parts = [self.leaves(episode, "an episode") for episode in episodes]
        for i, (name, leaf) in enumerate(_named("obs", self.observations)):
            arrays = [observations[i] for observations, _ in parts]
            # Large frames are not copied: each episode is a piece of the column.
            pieces = arrays if leaf.nbytes > _SMALL_BYTES else [np.concatenate(arrays)]
            encoded = [_encoded(name, leaf, values, None) for values in pieces]
            columns |= {
                key: pa.chunked_array([piece[key] for piece in encoded]) for key in encoded[0]
            }
        for i, (name, leaf) in enumerate(_named("action", self.actions)):
            values = np.concatenate([actions[i] for _, actions in parts])
            columns |= _encoded(name, leaf, values, has_step)
        rewards = np.concatenate([episode.rewards for episode in episodes])
        columns |= _encoded(REWARD, Leaf((), np.dtype(np.float32)), rewards, has_step)
        for name, flags in (
            (TERMINATED, [episode.terminated for episode in episodes]),
            (TRUNCATED, [episode.truncated for episode in episodes]),
        ):
            ends = np.zeros(len(rewards), bool)
            ends[np.cumsum(lengths) - 1] = flags
            columns |= _encoded(name, Leaf((), np.dtype(bool)), ends, has_step)
        return pa.table(columns)

    def episodes(self, table: pa.Table) -> list[Episode]:
        """The episodes of a table, in order; they own their arrays.

        Raises:
            ValueError: If a column is missing or does not fit.
            KeyError: If a column is missing.
        """
        numbers = table[EPISODE].to_numpy()
        starts = np.flatnonzero(np.diff(numbers, prepend=numbers[:1] - 1))
        lengths = np.diff(starts, append=len(numbers)) - 1
        times = table[TIME].to_numpy()
        if not np.array_equal(times, np.arange(len(times)) - np.repeat(starts, lengths + 1)):
            raise ValueError(f"column {TIME} does not count the rows of each episode from 0")
        num_rows, num_steps = len(numbers), int(lengths.sum())
        observations = [
            _decoded(table, name, leaf, num_rows) for name, leaf in _named("obs", self.observations)
        ]
        actions = [
            _decoded(table, name, leaf, num_steps) for name, leaf in _named("action", self.actions)
        ]
        rewards = _decoded(table, REWARD, Leaf((), np.dtype(np.float32)), num_steps)
        terminated, truncated = (
            _decoded(table, name, Leaf((), np.dtype(bool)), num_steps)
            for name in (TERMINATED, TRUNCATED)
        )
        found, step = [], 0
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            stop = step + length
            frames = [leaf[start : start + length + 1].copy() for leaf in observations]
            taken = [leaf[step:stop].copy() for leaf in actions]
            found.append(
                Episode(
                    self.observations.unflatten(frames),
                    None if self.actions is None else self.actions.unflatten(taken),
                    rewards[step:stop].copy(),
                    terminated[stop - 1],
                    truncated[stop - 1],
                )
            )
            step = stop
        return found


def _named(kind: str, layout: Layout | None) -> list[tuple[str, Leaf]]:
    """Column and leaf of each leaf that has elements: ``obs``, or ``obs/camera/0``."""
    if layout is None:
        return []
    paths = ("/".join([kind, *map(_escaped, path)]) for path in layout.paths)
    return list(zip(paths, layout.leaves, strict=True))


def _escaped(key: Any) -> str:
    return str(key).replace("%", "%25").replace("/", "%2F")


def _encoded(
    name: str, leaf: Leaf, values: np.ndarray, has_step: np.ndarray | None
) -> dict[str, pa.Array]:
    """A column by its name; in rows without a step, it is null.

    Args:
        name: The column.
        leaf: Shape and dtype.
        values: [N, ...], or only the rows with a step.
        has_step: [N], bool; None: all rows have a value.
    """
    size = _size(leaf)
    if not size:
        return {}  # Parquet has no columns without elements
    if leaf.shape and leaf.dtype != np.uint8:
        return {name: _lists(values, leaf, size, has_step)}
    if has_step is not None:
        rows = np.zeros((len(has_step), *leaf.shape), leaf.dtype)
        rows[has_step] = values
        values = rows
    values = np.ascontiguousarray(values, leaf.dtype)
    if not leaf.shape:
        return {name: pa.array(values, mask=None if has_step is None else ~has_step)}
    valid = None if has_step is None else pa.py_buffer(np.packbits(has_step, bitorder="little"))
    return {
        name: pa.Array.from_buffers(
            pa.binary(size), len(values), [valid, pa.py_buffer(values.reshape(-1))]
        )
    }


def _lists(values: np.ndarray, leaf: Leaf, size: int, has_step: np.ndarray | None) -> pa.Array:
    """A list of ``size`` elements a row; Parquet's lists of fixed size cannot be null."""
    has_value = np.ones(len(values), bool) if has_step is None else has_step
    offsets = np.concatenate([[0], np.cumsum(has_value * size)]).astype(np.int32)
    flat = np.ascontiguousarray(values, leaf.dtype).reshape(-1)
    mask = None if has_step is None else pa.array(~has_step)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=mask)


def _decoded(table: pa.Table, name: str, leaf: Leaf, num_rows: int) -> np.ndarray:
    """[num_rows, ...], the values of a column that are not null; may be a view of the table."""
    size = _size(leaf)
    if not size:
        return np.zeros((num_rows, *leaf.shape), leaf.dtype)
    column = table[name]
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    array = array.drop_null() if array.null_count else array
    wanted = _encoded(name, leaf, np.zeros((0, *leaf.shape), leaf.dtype), None)[name].type
    if len(array) != num_rows or not array.type.equals(wanted):
        raise ValueError(
            f"column {name} has {len(array)} values of {array.type}; wanted: {num_rows} of {wanted}"
        )
    if not leaf.shape:
        return array.to_numpy(zero_copy_only=False)
    if leaf.dtype == np.uint8:
        start, stop = array.offset * size, (array.offset + num_rows) * size
        flat = np.frombuffer(array.buffers()[1], np.uint8)[start:stop]
    else:
        flat = array.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(num_rows, *leaf.shape)


def _size(leaf: Leaf) -> int:
    return int(np.prod(leaf.shape, dtype=np.int64))
