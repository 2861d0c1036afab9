"""Batches of a replay buffer: n-step columns for the RL loss, one-step columns for other losses."""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.needs import Needs
from rlssl.auxiliary.windows import VALID, WINDOWS
from rlssl.peers import ALONE, Peers
from rlssl.replay import PrioritizedReplayBuffer, ReplayBuffer
from rlssl.replay.hindsight.relabeling import Goals

#: Columns of a batch of the replay buffer besides RLlib's; see `ReplayBuffer.sample`.
WEIGHTS, INDICES, DISCOUNTS = "weights", "indices", "discounts"
INTRINSIC_REWARDS = "intrinsic_rewards"

#: Key of the columns that auxiliary losses read instead of the RL loss's columns.
AUXILIARY_COLUMNS = "auxiliary"

#: Key of the single steps of n-step rows: columns [B, n, ...], OBS [B, n + 1, ...], and TAKEN.
BONUS_STEPS = "bonus_steps"

#: Key in BONUS_STEPS, [B, n] bool: whether a step is a part of the row; rows at ends have fewer.
TAKEN = "taken"

#: Columns whose meaning depends on ``n_step``.
_N_STEP_COLUMNS = frozenset(
    {Columns.NEXT_OBS, Columns.REWARDS, Columns.TERMINATEDS, Columns.TRUNCATEDS}
)


def draw(
    replay: ReplayBuffer,
    batch_size: int,
    *,
    n_step: int,
    gamma: float,
    beta: float,
    needs: Needs,
    uniform_for_auxiliary: bool = False,
) -> dict[str, Any]:
    """Draws a batch.

    Args:
        replay: A replay buffer that is not empty.
        batch_size: Rows.
        n_step: Steps of the RL loss.
        gamma: Discount per step.
        beta: Exponent of the importance weights, if draws follow priorities.
        needs: What the auxiliary losses read.
        uniform_for_auxiliary: Whether auxiliary losses get separate rows, drawn uniformly.

    Returns:
        The arrays of the replay buffer. ``AUXILIARY_COLUMNS``, if present, holds one-step columns
        for the auxiliary losses: of the same rows if ``n_step`` > 1, or of separate rows. WINDOWS
        holds the windows around these rows, if losses have windows. BONUS_STEPS holds the single
        steps of n-step rows, if a loss rewards them. If goals are replaced, all columns of a row
        have the same goal, also those of its window and of its single steps.
    """
    batch = replay.sample(batch_size, n_step=n_step, gamma=gamma, beta=beta)
    reads, rows = needs.reads, batch
    if n_step > 1 and needs.bonus_reads:
        batch[BONUS_STEPS] = _single_steps(replay, batch, n_step, needs.bonus_reads)
    if (reads or needs.has_windows) and uniform_for_auxiliary:
        rows = sample_uniformly(replay, batch_size, gamma)
        batch[AUXILIARY_COLUMNS] = {key: rows[key] for key in (*reads, *ALWAYS_READ) if key in rows}
    elif n_step > 1 and reads & _N_STEP_COLUMNS:
        single = replay.gather(batch[INDICES], gamma=gamma, goals=replay.goals_in(batch))
        batch[AUXILIARY_COLUMNS] = {key: single[key] for key in reads & _N_STEP_COLUMNS}
    if needs.window is not None:
        of_rows = batch if rows is batch else batch[AUXILIARY_COLUMNS]
        of_rows[WINDOWS] = _windows(replay, rows[INDICES], needs, replay.goals_in(rows))
    return batch


def _single_steps(
    replay: ReplayBuffer, batch: Mapping[str, Any], n_step: int, reads: Set[str]
) -> dict[str, Any]:
    found = replay.windows(batch[INDICES], after=n_step, goals=replay.goals_in(batch))
    steps = {key: found[key][:, :-1] for key in reads - {Columns.OBS, Columns.NEXT_OBS}}
    if reads & {Columns.OBS, Columns.NEXT_OBS}:
        steps[Columns.OBS] = found[Columns.OBS]
    return {**steps, TAKEN: np.arange(n_step) < batch["n_step"][:, None]}


def rows_at(
    replay: ReplayBuffer, indices: np.ndarray, *, n_step: int, gamma: float, needs: Needs
) -> dict[str, Any]:
    """As `draw`, the batch of given rows; all importance weights are 1.

    Args:
        replay: A replay buffer.
        indices: [N], numbers of rows.
        n_step: Steps of the RL loss.
        gamma: Discount per step.
        needs: What the auxiliary losses read.
    """
    batch = replay.gather(indices, n_step=n_step, gamma=gamma)
    batch[WEIGHTS] = np.ones(len(indices), np.float32)
    if n_step > 1 and needs.reads & _N_STEP_COLUMNS:
        single = replay.gather(indices, gamma=gamma)
        batch[AUXILIARY_COLUMNS] = {key: single[key] for key in needs.reads & _N_STEP_COLUMNS}
    if needs.window is not None:
        batch[WINDOWS] = _windows(replay, indices, needs)
    return batch


def _windows(
    replay: ReplayBuffer, indices: np.ndarray, needs: Needs, goals: Goals | None = None
) -> dict[str, Any]:
    assert needs.window is not None
    before, after = needs.window.before, needs.window.after
    found = replay.windows(indices, before=before, after=after, goals=goals)
    return {key: found[key] for key in (*needs.window_reads, VALID)}


#: Columns that separate rows always have, even if no loss reads them.
ALWAYS_READ = (Columns.OBS, Columns.ACTIONS)


def sample_uniformly(replay: ReplayBuffer, batch_size: int, gamma: float) -> dict[str, Any]:
    """Draws single steps with equal probabilities."""
    if isinstance(replay, PrioritizedReplayBuffer):
        return replay.sample(batch_size, gamma=gamma, uniform=True)
    return replay.sample(batch_size, gamma=gamma)


def total_rewards(batch: Mapping[str, Any]) -> Tensor:
    """[N], the rewards of the RL loss: extrinsic plus intrinsic rewards."""
    rewards: Tensor = batch[Columns.REWARDS]
    intrinsic = batch.get(INTRINSIC_REWARDS)
    return rewards if intrinsic is None else rewards + intrinsic


def weighted_mean(losses: Tensor, batch: Mapping[str, Any], peers: Peers = ALONE) -> Tensor:
    """The mean over valid rows of the [N] losses times their importance weights.

    With several Learners, the mean of their results is the mean over the valid rows of all.
    """
    weighted = losses * batch[WEIGHTS]
    mask = batch.get(Columns.LOSS_MASK)
    if mask is None:
        return weighted.mean()
    # A product with the mask would keep NaN of invalid rows.
    num_valid = peers.mean(mask.sum().double())
    return torch.where(mask, weighted, 0.0).sum() / torch.where(num_valid > 0, num_valid, 1.0)
