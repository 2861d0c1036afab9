"""RND: the reward is the error of predicting a random network."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.distillation import DistillationConfig, DistillationLoss
from rlssl.auxiliary.normalization import DiscountedReturnScale, divisor
from rlssl.losses import forward_dynamics_loss


class RND(DistillationLoss):
    """Random network distillation.

    With the target f, the predictor g and the normalized last frame x of the next observation (see
    `DistillationLoss`)::

        e      = mean over features of (g(x) - f(x))^2
        reward = e / running std of its discounted return

    The return is not reset at the ends of episodes, and its mean is not subtracted.

    Source:
        Burda et al. 2018, arXiv:1810.12894, and its published code. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(DistillationConfig):
        """Options of RND."""

        # Weight of the reward. The published code weighs advantages, 2 (extrinsic) to 1.
        intrinsic_coeff: float = 0.5
        # Discount of the return whose std scales the reward; in [0, 1); published: 0.99.
        gamma: float = 0.99

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            if not 0.0 <= self.gamma < 1.0:
                raise ValueError(f"gamma must be in [0, 1); got {self.gamma}.")

    config: Config

    # ACTIONS only count the rows.
    reads = frozenset({Columns.NEXT_OBS, Columns.ACTIONS})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.return_scale = DiscountedReturnScale(config.gamma, episodic=False)

    @torch.no_grad()
    def intrinsic_reward(self, batch: Mapping[str, Any]) -> Tensor:
        """[N], the error divided by the std of its discounted return."""
        self.observe(batch[Columns.NEXT_OBS])
        outputs = self.outputs(batch[Columns.NEXT_OBS])
        error = forward_dynamics_loss(*outputs, reduction="mean")
        return self.return_scale(error, batch["chunks"], self.peers)

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``return_std``, what the errors are divided by."""
        del batch
        moments = self.return_scale.moments
        return {"return_std": divisor(moments.mean, moments.variance)}
