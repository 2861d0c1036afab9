"""Random episodes in several copies of an environment, cut into batches of chunks."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from ray.rllib.core.columns import Columns

from rlssl.auxiliary.base import ChunkInfo


class Walk(NamedTuple):
    """A whole episode."""

    name: str
    # [T + 1, 2], small integers, so that observations repeat.
    observations: np.ndarray
    # Whether the episode ends; else a restart cuts it.
    ends: bool


class Piece(NamedTuple):
    """A chunk of a walk."""

    walk: Walk
    first_step: int
    num_rows: int

    def info(self) -> ChunkInfo:
        is_last = self.first_step + self.num_rows == len(self.walk.observations) - 1
        return ChunkInfo(self.walk.name, self.num_rows, self.first_step, is_last and self.walk.ends)


def batches_of_pieces(seed: int, *, num_envs: int = 3, num_batches: int = 8) -> list[list[Piece]]:
    """Batches of up to 6 steps of each environment; a batch has chunks of several episodes."""
    rng = np.random.default_rng(seed)
    streams = [_walks(rng, env) for env in range(num_envs)]
    current = [(next(stream), 0) for stream in streams]
    batches = []
    for _ in range(num_batches):
        pieces, left = [], [int(rng.integers(1, 7))] * num_envs
        for env in range(num_envs):
            while left[env]:
                walk, step = current[env]
                num = min(left[env], len(walk.observations) - 1 - step)
                pieces.append(Piece(walk, step, num))
                left[env] -= num
                is_over = step + num == len(walk.observations) - 1
                current[env] = (next(streams[env]), 0) if is_over else (walk, step + num)
        batches.append(pieces)
    return batches


def _walks(rng: np.random.Generator, env: int) -> Iterator[Walk]:
    number = 0
    while True:
        length = int(rng.integers(1, 12))
        observations = rng.integers(0, 2, (length + 1, 2))
        yield Walk(f"{env}-{number}", observations, bool(rng.random() < 0.8))
        number += 1


def columns(pieces: list[Piece]) -> dict[str, Any]:
    """OBS, NEXT_OBS and chunks of a batch."""

    def rows(shift: int) -> torch.Tensor:
        parts = [
            piece.walk.observations[piece.first_step + shift :][: piece.num_rows]
            for piece in pieces
        ]
        return torch.as_tensor(np.concatenate([np.zeros((0, 2), int), *parts]))

    return {
        Columns.OBS: rows(0),
        Columns.NEXT_OBS: rows(1),
        "chunks": [piece.info() for piece in pieces],
    }


def visits_of(walk: Walk) -> list[int]:
    """[T], a slow reference: the visits of each next observation, by a loop over the episode."""
    seen = [tuple(walk.observations[0])]
    visits = []
    for observation in walk.observations[1:]:
        seen.append(tuple(observation))
        visits.append(seen.count(tuple(observation)))
    return visits


def expected_visits(pieces: list[Piece]) -> list[int]:
    """[N], the reference at the rows of a batch."""
    return [
        count
        for piece in pieces
        for count in visits_of(piece.walk)[piece.first_step :][: piece.num_rows]
    ]
