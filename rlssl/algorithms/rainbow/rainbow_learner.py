"""Rainbow's loss: moves the distribution of returns, or the value, to its Bellman target."""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.algorithms.off_policy.batches import DISCOUNTS, WEIGHTS, total_rewards, weighted_mean
from rlssl.algorithms.off_policy.learner import OffPolicyLearner
from rlssl.algorithms.rainbow.rainbow_module import NEXT_CHOICE, NEXT_TARGET, ONLINE
from rlssl.losses import c51_loss, c51_project, double_q_target, huber_loss
from rlssl.losses.value_based import select_action_values

#: Keys of the metrics.
LOSS, TD_ERROR_MEAN, Q_MEAN = "loss", "td_error_mean", "q_mean"


class RainbowTorchLearner(OffPolicyLearner):
    """Rainbow with auxiliary losses.

    Source:
        Hessel et al. 2018, arXiv:1710.02298. Differs: see PAPERS.md.
    """

    def compute_rl_loss(self, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]) -> Tensor:
        """The mean over rows of the loss times the importance weight; sets ``td_errors``."""
        online = fwd_out[ONLINE]
        if self.config.distributional:
            losses, self.td_errors = self._distributional(batch, fwd_out)
        else:
            losses, self.td_errors = self._scalar(batch, fwd_out)
        self._latest_values = online.detach(), batch[Columns.ACTIONS]
        loss = weighted_mean(losses, batch, self.peers)
        self.record({LOSS: loss.detach()})
        return loss

    def combine(self, rl_loss: Tensor, auxiliary: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """The sum of both losses.

        With ``auxiliary_in_priorities``, the auxiliary loss is a part of each row's loss, as in
        CURL's code: it gets the rows' importance weights, and is added to the priorities.
        """
        if not self.config.auxiliary_in_priorities:
            return super().combine(rl_loss, auxiliary, batch)
        # Means over all Learners, as one Learner with all rows has them.
        self.td_errors = self.td_errors + self.peers.mean(auxiliary.detach())
        return self.isolate(rl_loss) + auxiliary * self.peers.mean(batch[WEIGHTS].mean())

    @torch.no_grad()
    def metrics_of_last_update(self) -> dict[str, Tensor]:
        """Means over the batch of the priorities and of the values of the taken actions."""
        online, actions = self._latest_values
        taken = select_action_values(self.rl_module.values(online), actions)
        return {TD_ERROR_MEAN: self.td_errors.mean(), Q_MEAN: taken.mean()}

    def _distributional(
        self, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """[N] cross-entropies and [N] priorities, nats."""
        best = fwd_out[NEXT_CHOICE].argmax(dim=1)
        next_probs = select_action_values(fwd_out[NEXT_TARGET], best).softmax(dim=-1)
        target = c51_project(
            next_probs, total_rewards(batch), batch[DISCOUNTS], self.rl_module.support
        )
        losses = c51_loss(fwd_out[ONLINE], batch[Columns.ACTIONS], target)
        priorities = losses.detach()
        if self.config.priority == "kl":
            # Rounding may make the divergence slightly negative.
            priorities = (priorities - torch.special.entr(target).sum(dim=1)).clamp(min=0.0)
        return losses, priorities

    def _scalar(
        self, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """[N] losses, squared units of the return, and [N] sizes of the TD errors."""
        values = select_action_values(fwd_out[ONLINE], batch[Columns.ACTIONS])
        targets = double_q_target(
            total_rewards(batch), batch[DISCOUNTS], fwd_out[NEXT_CHOICE], fwd_out[NEXT_TARGET]
        )
        errors = (targets - values).detach().abs()
        if self.config.td_loss == "huber":
            return huber_loss(values, targets), errors
        return 0.5 * (targets - values).square(), errors
