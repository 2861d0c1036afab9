"""PPO's loss: clipped surrogate, adaptive KL penalty, or both."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor

from rlssl.algorithms.on_policy.learner import OnPolicyLearner
from rlssl.losses import clipped_surrogate
from rlssl.schedules import value_at

#: Bounds of the penalty's coefficient: if it were halved too often, it would become 0 for good.
KL_COEFF_BOUNDS = (1e-4, 1e4)


class PPOTorchLearner(OnPolicyLearner):
    """PPO with auxiliary losses.

    Source:
        Schulman et al. 2017, arXiv:1707.06347. Differs: see PAPERS.md.
    """

    def build(self) -> None:
        """Builds as the bases do."""
        if self._is_built:
            return
        #: KL of each minibatch of the current update, if there is a penalty, whose coefficient
        #: the last epoch's mean adapts.
        self.minibatch_kls: list[Tensor] = []
        super().build()

    def compute_rl_loss(self, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]) -> Tensor:
        """Surrogate + vf_loss_coeff * value loss - entropy_coeff * entropy (+ KL penalty)."""
        module, config = self.rl_module, self.config
        policy = module.action_dist_cls.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        surrogate = clipped_surrogate(
            policy.logp(batch[Columns.ACTIONS]),
            batch[Columns.ACTION_LOGP],
            batch[Postprocessing.ADVANTAGES],
            clip=math.inf if config.variant == "adaptive_kl" else config.clip_param,
        ).mean()
        critic = self.critic_loss(batch, fwd_out)
        entropy = policy.entropy().mean()
        weight = self.weight_of_rows(len(batch[Columns.ACTIONS]))
        entropy_coeff = value_at(config.entropy_coeff, self.env_steps)
        loss = surrogate + config.vf_loss_coeff * critic - entropy_coeff * entropy
        if config.variant != "clip":
            kl = self.mean_kl(batch, fwd_out[Columns.ACTION_DIST_INPUTS])
            self.minibatch_kls.append(weight * kl.detach())
            loss = loss + module.kl_coeff * kl
        self._latest_policy = fwd_out[Columns.ACTION_DIST_INPUTS].detach()
        self.record(
            {
                POLICY_LOSS_KEY: surrogate.detach(),
                ENTROPY_KEY: entropy.detach(),
                "entropy_coeff": entropy_coeff,
            }
        )
        return weight * loss

    def mean_kl(self, batch: Mapping[str, Any], policy_inputs: Tensor) -> Tensor:
        """The mean KL(old policy, new policy) over the rows of a minibatch, nats; a scalar.

        Args:
            batch: Has ACTION_DIST_INPUTS of the old policy, [N, ...].
            policy_inputs: Those of the new policy, [N, ...].
        """
        distribution = self.rl_module.action_dist_cls
        old_policy = distribution.from_logits(batch[Columns.ACTION_DIST_INPUTS])
        kl: Tensor = old_policy.kl(distribution.from_logits(policy_inputs)).mean()
        return kl

    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Starts a new record of KLs."""
        super().before_gradient_based_update(timesteps=timesteps)
        self.minibatch_kls.clear()

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Logs the last minibatch's KL; adapts the penalty's coefficient to the last epoch's."""
        super().after_gradient_based_update(timesteps=timesteps)
        latest = self.mean_kl(self.last_minibatch, self._latest_policy)
        self.metrics.log_value((DEFAULT_MODULE_ID, "mean_kl"), latest.item(), window=1)
        if self.config.variant == "clip":
            return
        per_epoch = len(self.minibatch_kls) // self.config.num_epochs
        kl = float(self.peers.mean(torch.stack(self.minibatch_kls[-per_epoch:]).mean()))
        kl_coeff = self.rl_module.kl_coeff
        kl_coeff.mul_(kl_coefficient_factor(kl, self.config.kl_target)).clamp_(*KL_COEFF_BOUNDS)
        self.metrics.log_value((DEFAULT_MODULE_ID, "kl_coeff"), kl_coeff.item(), window=1)


def kl_coefficient_factor(kl: float, target: float) -> float:
    """The factor by which the adaptive-KL rule changes the penalty's coefficient.

    Args:
        kl: KL(old policy, new policy) after the update, nats.
        target: Target KL, nats.

    Returns:
        2 if ``kl > 1.5 * target``, 0.5 if ``kl < target / 1.5``, else 1.

    Source:
        Schulman et al. 2017, arXiv:1707.06347, section 4. RLlib has thresholds of 2 and 0.5, and
        factors of 1.5 and 0.5.
    """
    if kl > 1.5 * target:
        return 2.0
    if kl < target / 1.5:
        return 0.5
    return 1.0
