"""IQL's losses: critics by state values, state values by an expectile, the actor by weights."""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.algorithms.common.auxiliary_learner import trainable
from rlssl.algorithms.off_policy.actor_critic.learner import (
    ACTOR,
    ACTOR_LOSS,
    OffPolicyActorCriticLearner,
)
from rlssl.algorithms.off_policy.batches import DISCOUNTS, total_rewards, weighted_mean
from rlssl.losses import (
    advantage_weights,
    expectile_loss,
    td_target,
    weighted_log_likelihood_loss,
)
from rlssl.networks.augmentation import AUGMENTED_OBS

#: Name of the optimizer of the state values.
VALUE = "value"


class IQLTorchLearner(OffPolicyActorCriticLearner):
    """IQL with auxiliary losses.

    Source:
        Kostrikov et al. 2021, arXiv:2110.06169. Differs: see PAPERS.md.
    """

    def more_optimizers(self) -> dict[str, tuple[list[nn.Parameter], dict[str, Any]]]:
        """The optimizer of the state values."""
        module = self.rl_module
        return {VALUE: ([*trainable(module.value_encoder), *trainable(module.value)], {})}

    def targets(self, batch: Mapping[str, Any], features: Any, target_features: Any) -> Tensor:
        """Targets from the values of the next states; no action is chosen."""
        del target_features
        next_values = self.rl_module.state_values(features)
        return td_target(total_rewards(batch), batch[DISCOUNTS], next_values)

    def actor_losses(
        self, batch: Mapping[str, Any], features: Any, critic_latents: Tensor
    ) -> dict[str, Tensor]:
        """The loss of the state values, and the actor's weighted log-likelihood."""
        del critic_latents
        module, config = self.rl_module, self.config
        obs, actions = batch.get(AUGMENTED_OBS, batch[Columns.OBS]), batch[Columns.ACTIONS]
        with torch.no_grad():
            target_features = module.target_features(obs, features)
            q = module.target_values(target_features, module.critic_actions(actions)).amin(dim=0)
        value = module.state_values(features)
        advantage = q - value.detach()
        weight = advantage_weights(
            advantage,
            inverse_temperature=config.inverse_temperature,
            max_weight=config.max_weight,
        )
        policy = module.policy(module.actor_latents(features))
        per_row = {
            VALUE: expectile_loss(value, q, expectile=config.expectile),
            ACTOR: weighted_log_likelihood_loss(policy.logp(actions), weight),
        }
        losses = {name: weighted_mean(loss, batch, self.peers) for name, loss in per_row.items()}
        self.record(
            {
                ACTOR_LOSS: losses[ACTOR].detach(),
                "value_loss": losses[VALUE].detach(),
                "value_mean": value.detach().mean(),
                "advantage_mean": advantage.mean(),
                "weight_mean": weight.mean(),
                "clipped_weight_share": (weight >= config.max_weight).float().mean(),
            }
        )
        return losses
