"""SAC's targets, and the losses of its actor and temperature."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rlssl.algorithms.off_policy.actor_critic.learner import (
    ACTOR,
    ACTOR_LOSS,
    OffPolicyActorCriticLearner,
)
from rlssl.algorithms.off_policy.batches import DISCOUNTS, total_rewards
from rlssl.algorithms.sac.sac import default_target_entropy
from rlssl.losses import (
    soft_policy_loss,
    soft_q_target,
    squashed_gaussian_sample,
    temperature_loss,
)
from rlssl.schedules import value_at

#: Name of the temperature's optimizer.
ALPHA = "alpha"


class SACTorchLearner(OffPolicyActorCriticLearner):
    """SAC with auxiliary losses.

    Source:
        Haarnoja et al. 2018, arXiv:1812.05905. Differs: see PAPERS.md.
    """

    def more_optimizers(self) -> dict[str, tuple[list[nn.Parameter], dict[str, Any]]]:
        """The temperature's optimizer, if the temperature is learned."""
        if not self.config.learn_alpha:
            return {}
        return {ALPHA: ([self.rl_module.log_alpha], {"betas": (self.config.alpha_beta1, 0.999)})}

    def targets(self, batch: Mapping[str, Any], features: Any, target_features: Any) -> Tensor:
        """Targets from the target critics' soft values of the online policy's actions."""
        module: Any = self.rl_module
        mean, log_std = module.actor(module.actor_latents(features))
        noise = module.update_rng.normal(mean)
        actions, logp = squashed_gaussian_sample(mean, log_std, noise=noise)
        values = module.target_values(target_features, actions)
        return soft_q_target(
            total_rewards(batch),
            batch[DISCOUNTS],
            values[0],
            values[1:].amin(dim=0) if len(values) > 2 else values[-1],
            logp,
            alpha=module.log_alpha.exp(),
        )

    def actor_losses(
        self, batch: Mapping[str, Any], features: Any, critic_latents: Tensor
    ) -> dict[str, Tensor]:
        """The actor's loss, and the temperature's loss for the same actions."""
        module: Any = self.rl_module
        mean, log_std = module.actor(module.actor_latents(features))
        noise = module.update_rng.normal(mean)
        actions, logp = squashed_gaussian_sample(mean, log_std, noise=noise)
        values = module.critic(critic_latents, actions)
        others = values[1:].amin(dim=0) if len(values) > 2 else values[-1]
        alpha = module.log_alpha.exp()
        losses = {ACTOR: soft_policy_loss(logp, values[0], others, alpha=alpha.detach()).mean()}
        entropy = -logp.detach().mean()
        self.record({ACTOR_LOSS: losses[ACTOR].detach(), "entropy": entropy})
        if self.config.learn_alpha:
            loss = temperature_loss(alpha, logp, target_entropy=self.target_entropy).mean()
            self.record({"alpha_loss": loss.detach()})
            losses[ALPHA] = loss
        return losses

    @property
    def target_entropy(self) -> float:
        """The target entropy, nats; by default minus the number of action dimensions."""
        given: float | None = self.config.target_entropy
        return default_target_entropy(self.rl_module.action_dim) if given is None else given

    @torch.no_grad()
    def metrics_of_last_update(self) -> dict[str, Tensor]:
        """Adds the temperature."""
        return {**super().metrics_of_last_update(), ALPHA: self.rl_module.log_alpha.exp()}

    def _learning_rate(self, optimizer_name: str) -> float:
        if optimizer_name == ALPHA and self.config.alpha_lr is not None:
            return value_at(self.config.alpha_lr, self.env_steps)
        return super()._learning_rate(optimizer_name)
