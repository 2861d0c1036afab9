"""Intrinsic rewards that are computed for each batch of a replay buffer."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
import tree
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.algorithms.off_policy import batches
from rlssl.auxiliary.base import AuxiliaryLoss
from rlssl.connectors.intrinsic_reward import intrinsic_rewards, total_rewards


@torch.no_grad()
def with_bonuses(
    rows: Mapping[str, Any], losses: Mapping[str, AuxiliaryLoss], *, gamma: float
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Adds the intrinsic rewards of ``losses``, by the current weights, to the stored ones.

    If a loss has a ``reward_clip``, the sum of all rewards is clipped, as for stored rewards.

    Args:
        rows: Columns, [N, ...]. If they are of n steps, BONUS_STEPS holds the single steps.
        losses: The losses whose rewards are computed for each batch.
        gamma: Discount per step, of the rewards of n steps.

    Returns:
        The batch with its INTRINSIC_REWARDS, and for each loss the unweighted rewards [N], or those
        of all single steps.
    """
    steps = rows.get(batches.BONUS_STEPS)
    raw = intrinsic_rewards(losses, rows if steps is None else _flat(steps), slice(None), None)
    if not raw:
        return dict(rows), {}
    found = {name: losses[name].config.intrinsic_coeff * raw[name] for name in raw}
    if steps is not None:
        taken = steps[batches.TAKEN]
        found = {name: _discounted(reward, taken, gamma) for name, reward in found.items()}
        raw = {name: reward[taken.flatten()] for name, reward in raw.items()}
    total = total_rewards(losses, batches.total_rewards(rows), found)
    return {**rows, batches.INTRINSIC_REWARDS: total - rows[Columns.REWARDS]}, raw


def _flat(steps: Mapping[str, Any]) -> dict[str, Any]:
    """The columns [N * n, ...] of single steps."""
    columns = {key: value for key, value in steps.items() if key != batches.TAKEN}
    if Columns.OBS in columns:
        observations = columns[Columns.OBS]
        for column, places in ((Columns.OBS, slice(None, -1)), (Columns.NEXT_OBS, slice(1, None))):
            at = operator.itemgetter((slice(None), places))
            columns[column] = tree.map_structure(at, observations)
    return {
        key: tree.map_structure(lambda leaf: leaf.flatten(0, 1), value)
        for key, value in columns.items()
    }


def _discounted(rewards: Tensor, taken: Tensor, gamma: float) -> Tensor:
    """[N], the sum of gamma^i times the rewards [N * n] of the steps that are taken."""
    powers = gamma ** torch.arange(taken.shape[1], device=taken.device)
    return (rewards.view(taken.shape) * taken * powers).sum(dim=1)
