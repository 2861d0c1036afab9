"""Batches of a replay as a Learner takes them: n steps for the RL loss, one for the others."""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.replay import PrioritizedReplayBuffer, ReplayBuffer

#: Columns of a replay's batch beside RLlib's; see `ReplayBuffer.sample`.
WEIGHTS, INDICES, DISCOUNTS = "weights", "indices", "discounts"
INTRINSIC_REWARDS = "intrinsic_rewards"

#: Key of the columns that auxiliary losses see instead of the RL loss's.
AUXILIARY_COLUMNS = "auxiliary"

#: Columns whose meaning depends on the number of steps.
_OF_N_STEPS = frozenset(
    {Columns.NEXT_OBS, Columns.REWARDS, Columns.TERMINATEDS, Columns.TRUNCATEDS}
)


def draw(
    replay: ReplayBuffer,
    batch_size: int,
    *,
    n_step: int,
    gamma: float,
    beta: float,
    reads: frozenset[str],
    uniform_for_auxiliary: bool = False,
) -> dict[str, Any]:
    """Draws a batch.

    Args:
        replay: Not empty.
        batch_size: Rows.
        n_step: Steps of the RL loss.
        gamma: Discount of a step.
        beta: Exponent of the importance weights, where draws follow priorities.
        reads: Columns that the auxiliary losses read; none: there are no losses.
        uniform_for_auxiliary: Whether these are given rows of their own, drawn uniformly.

    Returns:
        The replay's arrays, without what nobody reads. ``AUXILIARY_COLUMNS`` holds what the losses
        see of single steps: of the same rows where ``n_step`` > 1, or of their own.
    """
    batch = replay.sample(batch_size, n_step=n_step, gamma=gamma, beta=beta)
    if reads and uniform_for_auxiliary:
        single = sample_uniformly(replay, batch_size, gamma)
        batch[AUXILIARY_COLUMNS] = {key: single[key] for key in (*reads, *_ALWAYS) if key in single}
    elif n_step > 1 and reads & _OF_N_STEPS:
        single = replay.gather(batch[INDICES], gamma=gamma)
        batch[AUXILIARY_COLUMNS] = {key: single[key] for key in reads & _OF_N_STEPS}
    return batch


#: What a batch of one's own has besides the columns that are read: its number of rows.
_ALWAYS = (Columns.OBS, Columns.ACTIONS)


def sample_uniformly(replay: ReplayBuffer, batch_size: int, gamma: float) -> dict[str, Any]:
    """Single steps, each as likely as another."""
    if isinstance(replay, PrioritizedReplayBuffer):
        return replay.sample(batch_size, gamma=gamma, uniform=True)
    return replay.sample(batch_size, gamma=gamma)


def total_rewards(batch: Mapping[str, Any]) -> Tensor:
    """[N], the rewards that the RL loss learns from: extrinsic plus intrinsic ones."""
    rewards: Tensor = batch[Columns.REWARDS]
    intrinsic = batch.get(INTRINSIC_REWARDS)
    return rewards if intrinsic is None else rewards + intrinsic


def weighted_mean(losses: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """The mean over the valid rows of [N] losses times the rows' importance weights."""
    weighted = losses * batch[WEIGHTS]
    mask = batch.get(Columns.LOSS_MASK)
    if mask is None:
        return weighted.mean()
    # Not a product: what is masked may be nan.
    return torch.where(mask, weighted, 0.0).sum() / mask.sum().clamp(min=1)
