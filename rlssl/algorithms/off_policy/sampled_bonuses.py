"""Intrinsic rewards that are computed for each batch of a replay buffer."""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.algorithms.off_policy import batches
from rlssl.auxiliary.base import AuxiliaryLoss
from rlssl.connectors.intrinsic_reward import intrinsic_rewards, total_rewards


@torch.no_grad()
def with_bonuses(
    rows: Mapping[str, Any], losses: Mapping[str, AuxiliaryLoss]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Adds the intrinsic rewards of ``losses``, by the current weights, to the stored ones.

    If a loss has a ``reward_clip``, the sum of all rewards is clipped, as for stored rewards.

    Args:
        rows: Columns of single steps, [N, ...].
        losses: The losses whose rewards are computed for each batch.

    Returns:
        The batch with its INTRINSIC_REWARDS, and for each loss [N], the unweighted rewards.
    """
    raw = intrinsic_rewards(losses, rows, slice(None), None)
    if not raw:
        return dict(rows), {}
    weighted = {name: losses[name].config.intrinsic_coeff * raw[name] for name in raw}
    total = total_rewards(losses, batches.total_rewards(rows), weighted)
    return {**rows, batches.INTRINSIC_REWARDS: total - rows[Columns.REWARDS]}, raw
