"""Base of MICo and SimSR: a target network, scaled rewards, and all pairs of a batch."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import tree
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import EncoderLoss, EncoderLossConfig
from rlssl.auxiliary.normalization import RunningMoments, divisor
from rlssl.batches import take_rows
from rlssl.networks.target_networks import EMACopy


@dataclasses.dataclass(frozen=True)
class PairwiseConfig(EncoderLossConfig):
    """Options of metrics that are learned on all pairs of a batch."""

    # Discount of the metric, per agent step; in [0, 1].
    gamma: float = 0.99
    # Fraction of the encoder's weights that the target encoder copies after each update; in (0, 1].
    # Only for algorithms that have no target network of the encoder.
    ema_tau: float = 0.05
    # Whether rewards are divided by their running standard deviation (std).
    normalize_rewards: bool = False
    # Factor on rewards (after `normalize_rewards`); > 0. The metric cannot represent distances as
    # large as 1 / (1 - gamma) rewards; see docs/mico.md.
    reward_scale: float = 1.0

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: If a value is out of range; the message names field and value.
        """
        super().__post_init__()
        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"gamma must be in [0, 1]; got {self.gamma}.")
        if not 0.0 < self.ema_tau <= 1.0:
            raise ValueError(f"ema_tau must be in (0, 1]; got {self.ema_tau}.")
        if not 0.0 < self.reward_scale < float("inf"):
            raise ValueError(f"reward_scale must be finite and > 0; got {self.reward_scale}.")


class Outcomes(NamedTuple):
    """What follows the observations of a batch; of other rows with `shuffled_positives`."""

    # [N, ...], raw.
    next_obs: Any
    # [N], scaled.
    reward: Tensor
    # [total], scaled rewards of all Learners' rows.
    rewards: Tensor


class PairwiseMetricLoss(EncoderLoss):
    """Base of MICo and SimSR. Pairs are formed across the rows of all Learners."""

    config: PairwiseConfig

    reads = frozenset({Columns.OBS, Columns.NEXT_OBS, Columns.REWARDS})

    def __init__(self, config: PairwiseConfig, **given: Any) -> None:
        super().__init__(config, **given)
        self.own_key_encoder = EMACopy(self.encoder) if self.key_encoder is None else None
        self.reward_moments = RunningMoments()
        # Whether the moments hold two rows. Kept, because reading their count waits for the device.
        self._knows_rewards = False
        self._rewards_seen: Tensor | None = None

    @torch.no_grad()
    def target_latents(self, observations: Any) -> Tensor:
        """[N, D], latents by the target encoder: the algorithm's, or this loss's if it has none."""
        encode = self.key_encoder if self.own_key_encoder is None else self.own_key_encoder
        assert encode is not None  # for mypy: one of the two exists
        latents: Tensor = encode(observations)
        return latents

    def outcomes(self, batch: Mapping[str, Any], generator: torch.Generator) -> Outcomes:
        """The next observations and the rewards of a batch."""
        next_obs, raw = batch[Columns.NEXT_OBS], batch[Columns.REWARDS].float()
        first, total = self.peers.rows(len(raw))
        own = slice(first, first + len(raw))
        everyone = self.peers.gather(raw)
        if self.config.shuffled_positives:
            order = torch.randperm(total, generator=generator, device=generator.device)
            order = order.to(raw.device)
            next_obs = take_rows(tree.map_structure(self.peers.gather, next_obs), order[own])
            everyone = everyone[order]
        rewards = self._scaled(everyone)
        return Outcomes(next_obs, rewards[own], rewards)

    def after_update(self) -> None:
        """Moves the target encoder unless the algorithm does, and the running std of rewards."""
        if self.own_key_encoder is not None:
            self.own_key_encoder.update(self.encoder, self.config.ema_tau)
        if self._rewards_seen is not None and len(self._rewards_seen):
            self.reward_moments.update(self._rewards_seen)
        self._rewards_seen = None
        super().after_update()

    def _scaled(self, rewards: Tensor) -> Tensor:
        if not self.config.normalize_rewards:
            return self.config.reward_scale * rewards
        self._rewards_seen = rewards
        mean, variance = self.reward_moments.mean, self.reward_moments.variance
        self._knows_rewards = self._knows_rewards or bool(self.reward_moments.count >= 2)
        if not self._knows_rewards and len(rewards):
            mean, variance = rewards.mean(), rewards.var(correction=0)
        return self.config.reward_scale * rewards / divisor(mean, variance)
