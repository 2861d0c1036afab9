"""A control for bonuses: random numbers instead of a measure of novelty."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import AuxiliaryLoss
from rlssl.auxiliary.bonus_options import BonusConfig
from rlssl.networks.update_rng import UpdateRNG


class RandomBonus(AuxiliaryLoss):
    """Rewards every step by a number drawn from U[0, 2 * mean).

    A bonus that helps only because rewards are larger, or noisier, helps no more than this control
    with the same mean. Take the mean from the other bonus's ``intrinsic_reward`` in its log.

    Source:
        Ours.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(BonusConfig):
        """Options of the random bonus."""

        # Weight of the reward; as that of the bonus that it is compared with.
        intrinsic_coeff: float = 0.005
        # Mean of the reward before `intrinsic_coeff`; > 0.
        mean: float = 1.0

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            if not 0 < self.mean < float("inf"):
                raise ValueError(f"mean must be > 0 and finite; got {self.mean}.")

    config: Config

    # Only for the number of rows.
    reads = frozenset({Columns.ACTIONS})
    trains = "none"

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        # Counts the batches of `intrinsic_reward`: with a replay buffer, there may be several
        # before an update.
        self.batch_rng = UpdateRNG()

    def intrinsic_reward(self, batch: Mapping[str, Any]) -> Tensor:
        """[N], in [0, 2 * mean)."""
        actions = batch[Columns.ACTIONS]
        generator = self.batch_rng.generator(actions.device)
        first, total = self.peers.rows(len(actions))
        drawn = torch.rand(total, generator=generator, device=generator.device)
        self.batch_rng.after_update()
        return 2.0 * self.config.mean * drawn[first : first + len(actions)].to(actions.device)
