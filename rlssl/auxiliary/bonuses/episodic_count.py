"""A bonus for observations that are new or rare in their episode."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import AuxiliaryLoss
from rlssl.auxiliary.bonus_options import BonusConfig
from rlssl.auxiliary.episodic_visits import EpisodicVisits, check_max_states
from rlssl.batches import device_of


class EpisodicCount(AuxiliaryLoss):
    """Rewards each next observation by its number n of visits in the current episode.

    ``reward = 1[n = 1]``, or ``n^-0.5`` with ``first_only: false``. The visit itself and the first
    observation of the episode count. There is nothing to train.

    Observations must repeat exactly, as those of grids do: if every observation is new, every step
    has the same bonus. With ``model.frame_stack`` above 1, the whole stack must repeat.

    Source:
        The episodic count of Raileanu and Rocktäschel 2020, arXiv:2002.12292 (n^-0.5), and of
        Zhang et al. 2021, arXiv:2012.08621 (first visits), without their other factor. Differs: see
        PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(BonusConfig):
        """Options of the episodic count."""

        # Weight of the reward; ours, measured with PPO on MiniGrid-MultiRoom-N4-S5.
        intrinsic_coeff: float = 0.005
        # True: 1 at the first visit, 0 after it. False: visits^-0.5.
        first_only: bool = True
        # Most observations that are remembered, over all open episodes of a Learner; > 0; one
        # takes about 130 bytes. See `EpisodicVisits` for what is forgotten beyond.
        max_states: int = 1_000_000

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            check_max_states(self.max_states)

    config: Config

    reads = frozenset({Columns.OBS, Columns.NEXT_OBS})
    trains = "none"

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.visits = EpisodicVisits(config.max_states)

    def intrinsic_reward(self, batch: Mapping[str, Any]) -> Tensor:
        """[N], in [0, 1]: 1 for first visits; else 0, or visits^-0.5."""
        before, after = batch[Columns.OBS], batch[Columns.NEXT_OBS]
        visits = self.visits(before, after, batch["chunks"], self.peers)
        reward = (visits == 1).float() if self.config.first_only else visits.float().rsqrt()
        return reward.to(device_of(after))

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``first_visits``, share of the last sampled rows; 1 if observations never repeat.

        ``num_states``: observations that are remembered.
        """
        del batch
        return self.visits.metrics()
