"""Rollouts of environment copies across episodes, and their advantages, by hand."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from rlssl.auxiliary.base import ChunkInfo
from rlssl.connectors.rollout_order import continuing_advantage, following_episode, rollouts

#: Two copies, "a" and "b", with two episodes each; chunk -> rewards, values, final value. Episode
#: b.0 began in an earlier batch. Chunks are not in the order of time.
CHUNKS = [
    (ChunkInfo("b.1", 1, 0, False), [1.0], [2.0], 6.0),
    (ChunkInfo("a.0", 2, 0, True), [1.0, 2.0], [4.0, 2.0], 99.0),
    (ChunkInfo("b.0", 2, 5, True), [0.0, 3.0], [1.0, 0.0], 99.0),
    (ChunkInfo("a.1", 2, 0, True), [4.0, 0.0], [8.0, 4.0], 10.0),
]


def advantages(chunks: Sequence[tuple[ChunkInfo, list[float], list[float], float]]) -> Tensor:
    infos, rewards, values, finals = zip(*chunks, strict=True)
    return continuing_advantage(
        torch.tensor([*itertools.chain(*rewards)]),
        torch.tensor([*itertools.chain(*values)]),
        torch.tensor(finals),
        infos,
        gamma=0.5,
        lambda_=0.5,
    )


def test_no_end_of_an_episode_cuts_the_advantage() -> None:
    # gamma * lambda = 0.25. Copy a: rewards 1 2 4 0, values 4 2 8 4, then the final value 10, since
    # no episode a.2 follows. Deltas: 1 + 0.5 * 2 - 4 = -2; 2 + 0.5 * 8 - 2 = 4; 4 + 0.5 * 4 - 8 =
    # -2; 0 + 0.5 * 10 - 4 = 1. Advantages, from the last: 1, -1.75, 3.5625, -1.109375.
    # Copy b: rewards 0 3 1, values 1 0 2, then 6. Deltas: -1, 3 + 0.5 * 2 = 4, 1 + 3 - 2 = 2.
    # Advantages: 2, 4.5, 0.125.
    assert advantages(CHUNKS).tolist() == [2.0, -1.109375, 3.5625, 0.125, 4.5, -1.75, 1.0]


def test_rollouts_follow_time_whatever_the_order_of_chunks() -> None:
    infos = [chunk[0] for chunk in CHUNKS]
    assert sorted(rollouts(infos)) == [[1, 3], [2, 0]]
    for order in itertools.permutations(range(4)):
        found = rollouts([infos[index] for index in order])
        assert sorted([order[index] for index in rollout] for rollout in found) == [[1, 3], [2, 0]]


def test_advantages_do_not_depend_on_where_an_episode_is_cut() -> None:
    whole = [(ChunkInfo("a.3", 3, 0, True), [1.0, 2.0, 5.0], [4.0, 2.0, 8.0], 3.0)]
    cut = [
        (ChunkInfo("a.3", 2, 1, True), [2.0, 5.0], [2.0, 8.0], 3.0),
        (ChunkInfo("a.3", 1, 0, False), [1.0], [4.0], 2.0),
    ]
    first, second, third = advantages(whole).tolist()
    assert advantages(cut).tolist() == [second, third, first]


def test_a_copy_that_skips_an_episode_is_not_continued() -> None:
    # The episode between them was abandoned: its steps are missing.
    assert rollouts([ChunkInfo("a.0", 2, 0, True), ChunkInfo("a.2", 2, 0, True)]) == [[0], [1]]


def test_ids_of_other_runners_are_not_continued_across_episodes() -> None:
    chunks = [
        ChunkInfo("3f", 2, 0, True),
        ChunkInfo("40", 2, 0, False),
        ChunkInfo("40", 1, 2, True),
    ]
    assert rollouts(chunks) == [[0], [1, 2]]


def test_a_chunk_that_a_batch_has_twice_is_continued_once() -> None:
    chunk, after = ChunkInfo("a.0", 2, 0, True), ChunkInfo("a.1", 1, 0, True)
    assert sorted(map(len, rollouts([chunk, chunk, after]))) == [1, 2]


@pytest.mark.parametrize(
    "given, following", [("c0.0", "c0.1"), ("c.d.41", "c.d.42"), ("c.x", "c.x.1")]
)
def test_following_ids_count_the_episodes_of_a_copy(given: str, following: str) -> None:
    assert following_episode(given) == following
