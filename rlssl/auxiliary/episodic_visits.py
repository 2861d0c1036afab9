"""How often each observation was visited in its episode."""

import hashlib
import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rlssl.auxiliary.base import ChunkInfo
from rlssl.batches import take_rows
from rlssl.peers import ALONE, Peers

#: Bytes of the key of an observation. Two of a billion observations have the same key with a
#: probability of about 1e-21.
_KEY_BYTES = 16


def check_max_states(value: int) -> None:
    """Raises a ValueError unless ``max_states`` is a whole number above 0."""
    if type(value) is not int or value <= 0:
        raise ValueError(f"max_states must be a whole number > 0; got {value!r}.")


class EpisodicVisits(nn.Module):
    """Counts the visits of whole observations in the current episode of each environment.

    Observations are equal if all their bytes are equal. The first observation of an episode counts
    as visited. Counts continue across batches and are dropped at the end of the episode.

    The memory is bounded: beyond ``max_states`` observations in all open episodes, the observations
    of the episode that has had no rows for the longest time are forgotten, the one visited least
    recently first. So an episode that never ends because its environment was restarted does not
    stay forever.

    Args:
        max_states: Observations that are remembered, over all open episodes; > 0. One takes about
            130 bytes.
    """

    def __init__(self, max_states: int) -> None:
        super().__init__()
        self.max_states = max_states
        # Episode id -> key of an observation -> visits. Unfinished episodes, the one with the
        # latest rows last, and in each the latest visit last. Kept only by exact restores.
        self._open_visits: dict[str, dict[bytes, int]] = {}
        # Share of first visits in the last batch.
        self._first_visits: float | None = None

    @property
    def num_states(self) -> int:
        """Observations that are remembered now."""
        return sum(len(visits) for visits in self._open_visits.values())

    def forward(
        self,
        observations: Any,
        next_observations: Any,
        chunks: Sequence[ChunkInfo],
        peers: Peers = ALONE,
    ) -> Tensor:
        """[N] int64, on the CPU: visits of each next observation so far, this one included.

        Args:
            observations: [N, ...], or a Dict or Tuple of such tensors.
            next_observations: The same, one step later.
            chunks: The chunks with these rows, in the same order, with N rows in all; see
                ``AuxiliaryLoss.intrinsic_reward``.
            peers: The Learners that share the batch.
        """
        own = _pieces(observations, next_observations, chunks)
        counts: dict[tuple[int, int], list[int]] = {}
        places = [
            (piece.first_step, rank, index, piece)
            for rank, pieces in enumerate(peers.gather_objects(own))
            for index, piece in enumerate(pieces)
        ]
        # Several Learners may hold chunks of one episode, so sort the chunks by their first step.
        for _, rank, index, piece in sorted(places, key=operator.itemgetter(0)):
            counts[rank, index] = self._count(piece)
        self._forget_oldest()
        rows = itertools.chain.from_iterable(counts[peers.rank, i] for i in range(len(own)))
        visits = torch.tensor(list(rows), dtype=torch.int64)
        self._first_visits = (visits == 1).float().mean().item() if len(visits) else None
        return visits

    def metrics(self) -> dict[str, Tensor]:
        """``num_states`` and, after a batch, ``first_visits``: the share of its rows."""
        metrics = {"num_states": float(self.num_states), "first_visits": self._first_visits}
        return {key: torch.tensor(value) for key, value in metrics.items() if value is not None}

    def _count(self, piece: "_Piece") -> list[int]:
        visits = self._open_visits.pop(piece.episode_id, None)
        if visits is None:
            visits = {piece.start: 1}
        counts = []
        for key in piece.keys:
            count = visits.pop(key, 0) + 1
            visits[key] = count
            counts.append(count)
        if not piece.is_done:
            self._open_visits[piece.episode_id] = visits
        return counts

    def _forget_oldest(self) -> None:
        excess = self.num_states - self.max_states
        while excess > 0:
            episode_id, visits = next(iter(self._open_visits.items()))
            for key in list(itertools.islice(visits, excess)):
                del visits[key]
                excess -= 1
            if not visits:
                del self._open_visits[episode_id]


class _Piece(NamedTuple):
    """A chunk with the keys of its observations."""

    first_step: int
    episode_id: str
    is_done: bool
    # Key of the observation before the chunk's first step.
    start: bytes
    # Keys of the observations after each step.
    keys: list[bytes]


def _pieces(before: Any, after: Any, chunks: Sequence[ChunkInfo]) -> list[_Piece]:
    chunks = [chunk for chunk in chunks if chunk.num_rows]
    first_rows = list(itertools.accumulate((chunk.num_rows for chunk in chunks), initial=0))
    starts = observation_keys(take_rows(before, first_rows[:-1]))
    keys = observation_keys(after)
    return [
        _Piece(chunk.first_step, chunk.episode_id, chunk.is_done, start, keys[first:end])
        for chunk, start, first, end in zip(
            chunks, starts, first_rows[:-1], first_rows[1:], strict=True
        )
    ]


def observation_keys(observations: Any) -> list[bytes]:
    """A key of 16 bytes for each row; rows have the same key only if all their bytes are equal.

    Args:
        observations: [N, ...] tensor, or nested mappings and tuples of such tensors.

    Example:
        >>> first, second, third = observation_keys(torch.tensor([[0, 1], [1, 0], [0, 1]]))
        >>> first == third, first == second, len(first)
        (True, False, 16)
    """
    parts = [_bytes_of(leaf) for leaf in _leaves(observations)]
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return [hashlib.blake2b(row.data, digest_size=_KEY_BYTES).digest() for row in rows]


def _bytes_of(leaf: Tensor) -> np.ndarray:
    """[N, B] uint8, the bytes of each row."""
    array = leaf.detach().cpu().numpy()
    size = int(np.prod(array.shape[1:]))
    return np.ascontiguousarray(array).reshape(len(array), size).view(np.uint8)


def _leaves(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _leaves(value[key])
    elif isinstance(value, tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
