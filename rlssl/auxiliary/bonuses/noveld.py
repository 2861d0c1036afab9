"""NovelD: the reward is the rise of novelty at first visits."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.distillation import DistillationConfig, DistillationLoss
from rlssl.auxiliary.episodic_visits import EpisodicVisits, check_max_states
from rlssl.losses import novelty_gain


class NovelD(DistillationLoss):
    """Rewards steps from known to novel observations, once in an episode.

    With n(s) the L2 norm of the difference between the predictor's and the target's output (see
    `DistillationLoss`)::

        reward = max(n(s') - scale * n(s), 0) * 1[the episode visits s' for the first time]

    The sum of all rewards is clipped to +-``reward_clip``. For visits, see `EpisodicVisits`.

    Source:
        Zhang et al. 2021, arXiv:2012.08621, and its published code. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(DistillationConfig):
        """Options of NovelD."""

        # Weight of the reward; 0.05 is the published example for MiniGrid.
        intrinsic_coeff: float = 0.05
        # alpha of the paper: factor on the novelty before the step; >= 0.
        scale: float = 0.5
        # Clips reward + bonus to +-value, as published; > 0; None: no clip.
        reward_clip: float | None = 1.0
        # Most observations that are remembered, over all open episodes of a Learner; > 0.
        max_states: int = 1_000_000

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            if not self.scale >= 0:
                raise ValueError(f"scale must be >= 0; got {self.scale}.")
            if self.reward_clip is not None and not self.reward_clip > 0:
                raise ValueError(f"reward_clip must be > 0 or null; got {self.reward_clip}.")
            check_max_states(self.max_states)

    config: Config

    # ACTIONS only count the rows.
    reads = frozenset({Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.reward_clip = config.reward_clip
        self.visits = EpisodicVisits(config.max_states)

    @torch.no_grad()
    def intrinsic_reward(self, batch: Mapping[str, Any]) -> Tensor:
        """[N], >= 0, the rise of novelty; 0 unless it is the first visit of the episode."""
        before, after = batch[Columns.OBS], batch[Columns.NEXT_OBS]
        self.observe(after)
        visits = self.visits(before, after, batch["chunks"], self.peers)
        novelty = self._novelty(after)
        is_first = (visits == 1).to(novelty.device)
        return novelty_gain(novelty, self._novelty(before), is_first, scale=self.config.scale)

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``first_visits``, share of the last sampled rows; 1 if observations never repeat.

        ``num_states``: observations that are remembered.
        """
        del batch
        return self.visits.metrics()

    def _novelty(self, observations: Any) -> Tensor:
        prediction, target = self.outputs(observations)
        return (prediction - target).norm(dim=-1)
