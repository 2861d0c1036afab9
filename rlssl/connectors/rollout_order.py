"""Which chunk of a batch continues which, in the same environment copy, across episodes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rlssl.auxiliary.base import ChunkInfo
from rlssl.batches import copy_and_count
from rlssl.losses.advantage import generalized_advantage


def following_episode(episode_id: str) -> str:
    """The id of the episode that follows in the same environment copy.

    rlssl's EnvRunners number the episodes of each copy with this function, so that a Learner can
    tell which episode followed which. An id without a number is not theirs, or from an earlier
    version: its follower is number 1.

    Example:
        >>> following_episode("5f3a.9")
        '5f3a.10'
        >>> following_episode("5f3a")
        '5f3a.1'
    """
    copy, count = copy_and_count(episode_id)
    return f"{copy}.{count + 1}"


def rollouts(chunks: Sequence[ChunkInfo]) -> list[list[int]]:
    """The chunks of a batch, grouped into rollouts: each chunk continues the one before it.

    A chunk continues another one if both are parts of one episode and the steps are consecutive, or
    if its episode follows the other's in the same environment copy.

    Example:
        Episode "a.1" in two chunks, the episode that followed it, and another copy's.

        >>> end = ChunkInfo("a.1", 5, first_step=3, is_done=True)
        >>> begin = ChunkInfo("a.1", 3, first_step=0, is_done=False)
        >>> after = ChunkInfo("a.2", 4, first_step=0, is_done=False)
        >>> other = ChunkInfo("b.2", 9, first_step=0, is_done=True)
        >>> rollouts([end, begin, after, other])
        [[1, 0, 2], [3]]
    """
    at = {(chunk.episode_id, chunk.first_step): index for index, chunk in enumerate(chunks)}
    before = {at[key]: index for index, chunk in enumerate(chunks) if (key := _next(chunk)) in at}
    # At most one chunk continues another one, also if a batch has a chunk twice.
    after = {index: later for later, index in before.items()}
    found = []
    for index in sorted(set(range(len(chunks))) - before.keys()):
        rollout = [index]
        while rollout[-1] in after:
            rollout.append(after[rollout[-1]])
        found.append(rollout)
    return found


def continuing_advantage(
    rewards: Tensor,
    values: Tensor,
    final_values: Tensor,
    chunks: Sequence[ChunkInfo],
    *,
    gamma: float,
    lambda_: float,
) -> Tensor:
    """GAE of a stream of rewards that no end of an episode cuts.

    The step after the last one of an episode is the first one of the next episode in the same
    environment copy. If the batch does not have the chunk that continues a rollout, the value of
    the final observation stands for it, also after a termination.

    Args:
        rewards: [M], rows of all chunks, one chunk after the other, each in time order.
        values: [M], the value of each row's observation.
        final_values: [C], the value of each chunk's final observation.
        chunks: C of them, in any order, with M rows in all.
        gamma: See `generalized_advantage`.
        lambda_: See `generalized_advantage`.

    Returns:
        [M], in the order of the arguments.

    Source:
        Burda et al. 2018, arXiv:1810.12894, section 2.3, and its published code, where all steps of
        a copy in a batch are one rollout.
    """
    lengths = [chunk.num_rows for chunk in chunks]
    rows_of = torch.arange(len(rewards), device=rewards.device).split(lengths)
    order, next_values, ended = [], [], []
    for rollout in rollouts(chunks):
        for index, after in zip(rollout, [*rollout[1:], None], strict=True):
            order.append(rows_of[index])
            last = final_values[index] if after is None else values[rows_of[after][0]]
            next_values += [values[rows_of[index][1:]], last[None]]
            ended += [False] * (lengths[index] - 1) + [after is None]
    rows = torch.cat(order)
    advantages = torch.empty_like(rewards)
    advantages[rows] = generalized_advantage(
        rewards[rows],
        values[rows],
        torch.cat(next_values),
        torch.zeros_like(rewards),
        torch.tensor(ended, device=rewards.device),
        gamma=gamma,
        lambda_=lambda_,
    )
    return advantages


def _next(chunk: ChunkInfo) -> tuple[str, int]:
    """Episode and first step of the chunk that continues ``chunk``."""
    if chunk.is_done:
        return following_episode(chunk.episode_id), 0
    return chunk.episode_id, chunk.first_step + chunk.num_rows
