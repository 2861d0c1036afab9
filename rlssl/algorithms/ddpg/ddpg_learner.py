"""DDPG's targets and the loss of its actor; settings switch to those of TD3 and DrQ-v2."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rlssl.algorithms.off_policy.actor_critic.learner import (
    ACTOR,
    ACTOR_LOSS,
    OffPolicyActorCriticLearner,
)
from rlssl.algorithms.off_policy.batches import DISCOUNTS, total_rewards
from rlssl.losses import (
    deterministic_policy_loss,
    saturation_penalty,
    smoothed_actions,
    td3_target,
)
from rlssl.schedules import value_at

#: Key of a metric, and its threshold: the share, in [0, 1], of action components of the actor whose
#: size is above ``SATURATED``.
SATURATED_ACTIONS, SATURATED = "saturated_actions", 0.97


class DDPGTorchLearner(OffPolicyActorCriticLearner):
    """DDPG with auxiliary losses.

    Source:
        Lillicrap et al. 2015, arXiv:1509.02971; Fujimoto et al. 2018, arXiv:1802.09477; Yarats et
        al. 2021, arXiv:2107.09645. Differs: see PAPERS.md.
    """

    #: [N, A], the actor's actions in its last step, without noise.
    _latest_actions: Tensor | None = None

    def targets(self, batch: Mapping[str, Any], features: Any, target_features: Any) -> Tensor:
        """Targets from the smallest target critic's value of the smoothed target actions."""
        module: Any = self.rl_module
        actions = module.target_actions(features, target_features)
        actions = self._smoothed(actions)
        values = module.target_values(target_features, actions)
        others = values[1:].amin(dim=0) if len(values) > 2 else values[-1]
        targets = td3_target(total_rewards(batch), batch[DISCOUNTS], values[0], others)
        low, high = self.config.target_min, self.config.target_max
        return targets if low is None and high is None else targets.clamp(low, high)

    def actor_losses(
        self, batch: Mapping[str, Any], features: Any, critic_latents: Tensor
    ) -> dict[str, Tensor]:
        """The actor's loss: minus the critic's value of its actions, and a penalty if set."""
        module: Any = self.rl_module
        pre_tanh = module.actor.before_tanh(module.actor_latents(features))
        best = actions = pre_tanh.tanh()
        self._latest_actions = best.detach()
        if self.config.actor_noise:
            actions = self._smoothed(actions, straight_through=True)
        if self.config.actor_critics == "first":
            values = module.critic.first(critic_latents, actions)
        else:
            values = module.critic(critic_latents, actions).amin(dim=0)
        loss = deterministic_policy_loss(values).mean()
        self.record({ACTOR_LOSS: loss.detach()})
        if self.config.action_l2:
            loss = loss + self.config.action_l2 * best.square().mean()
        if self.config.saturation_penalty:
            loss = loss + self.config.saturation_penalty * saturation_penalty(pre_tanh).mean()
        return {ACTOR: loss}

    def metrics_of_last_update(self) -> dict[str, Tensor]:
        """Adds the share of saturated actions, after the actor's first step."""
        metrics = super().metrics_of_last_update()
        if self._latest_actions is None:
            return metrics
        saturated = (self._latest_actions.abs() > SATURATED).float().mean()
        return {**metrics, SATURATED_ACTIONS: saturated}

    def _smoothed(self, actions: Tensor, *, straight_through: bool = False) -> Tensor:
        std = value_at(self.config.effective_target_noise_std, self.env_steps)
        if std == 0.0:
            return actions
        return smoothed_actions(
            actions,
            std=std,
            clip=self.config.target_noise_clip,
            straight_through=straight_through,
            noise=self.rl_module.update_rng.normal(actions),
        )
