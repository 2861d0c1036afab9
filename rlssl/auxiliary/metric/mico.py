"""MICo: matching under independent couplings, a metric on all pairs of a batch."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.metric.pairwise import PairwiseConfig, PairwiseMetricLoss
from rlssl.losses import mico_distance, pairwise_metric_loss
from rlssl.losses.pairwise_metrics import metric_target


class MICo(PairwiseMetricLoss):
    """Latents whose distances match those of rewards and of independently drawn futures.

    With the encoder phi, its target network phi', and
    ``U(x, y) = 0.5 (|x|^2 + |y|^2) + beta * angle(x, y)``::

        loss_i = mean_j huber( U(phi(s_i), phi'(s_j))
                               - |r_i - r_j| - gamma * U(phi'(next s_i), phi'(next s_j)) )

    over all rows j of the batch, i included. The gradient reaches phi(s_i) only. Transitions that
    terminate are treated as all others, as published. No action, no model.

    Source:
        Castro et al. 2021, arXiv:2106.08229, and its published code. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(PairwiseConfig):
        """Options of MICo."""

        # Published for DQN, relative to (1 - 0.01) of its loss, with 3,136 features; SAC: 1e-5.
        coeff: float = 0.01
        # Weight of the angle, units of the distance per radian; >= 0; 0.1 as published.
        beta: float = 0.1

        def idle_options(self) -> dict[str, str]:
            """Options of heads, which the loss does not have."""
            return {
                **super().idle_options(),
                **dict.fromkeys(("lr", "grad_clip"), "a loss with heads"),
            }

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            if not 0.0 <= self.beta < math.inf:
                raise ValueError(f"beta must be finite and >= 0; got {self.beta}.")

    config: Config

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        # Distances and targets [N, total] in the last update, and the largest distances that the
        # self-distances allow, for `metrics`.
        self._compared: tuple[Tensor, Tensor, Tensor] | None = None

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``mico``, [N], units of the scaled reward."""
        config = self.config
        outcomes = self.outcomes(batch, self.update_rng.generator(batch[Columns.REWARDS].device))
        next_latent = self.target_latents(outcomes.next_obs)
        next_latents = self.peers.gather(next_latent)
        partners = self.peers.gather(self.target_latents(batch[Columns.OBS]))
        distance = mico_distance(self.latents(batch), partners, beta=config.beta)
        next_distance = mico_distance(next_latent, next_latents, beta=config.beta)
        reward, rewards = outcomes.reward, outcomes.rewards
        target = metric_target(next_distance, reward, rewards, gamma=config.gamma)
        sizes = [config.gamma * part.square().sum(-1) for part in (next_latent, next_latents)]
        largest = 0.5 * (sizes[0][:, None] + sizes[1]) + config.beta * math.pi
        self._compared = distance.detach(), target, largest
        loss = pairwise_metric_loss(distance, next_distance, reward, rewards, gamma=config.gamma)
        return {"mico": loss}

    @torch.no_grad()
    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Means over all pairs of the last update; empty if there were no rows.

        ``distance`` and ``target``: of the latents, and what they should be. ``unreachable``: share
        of pairs whose target is above ``0.5 (target of i with i + target of j with j) + beta *
        pi``. No latents can have such distances; a smaller ``reward_scale`` helps.
        """
        del batch
        if self._compared is None or not len(self._compared[0]):
            return {}
        distance, target, largest = self._compared
        return {
            "distance": distance.mean(),
            "target": target.mean(),
            "unreachable": (target > largest).float().mean(),
        }
