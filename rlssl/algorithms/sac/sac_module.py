"""SAC's networks: a squashed Gaussian actor, and a temperature."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rlssl.algorithms.off_policy.actor_critic.module import OffPolicyActorCriticModule
from rlssl.networks.actors import SquashedGaussianActor


class SACModule(OffPolicyActorCriticModule):
    """A squashed Gaussian actor; in a Learner also the critics and the temperature.

    Settings (``model_config``): those of ``OffPolicyActorCriticModule``; initial_alpha,
    log_std_bounds, log_std_mode.
    """

    algorithm_name = "sac"

    def setup(self) -> None:
        """Builds the networks from the spaces and ``model_config``."""
        super().setup()
        if not self.inference_only:
            alpha = float(self.model_config["initial_alpha"])
            self.log_alpha = nn.Parameter(torch.tensor(math.log(alpha)))

    def build_actor(self, latent_dim: int) -> nn.Module:
        """The layers after the actor's encoder."""
        low, high = self.model_config["log_std_bounds"]
        return SquashedGaussianActor(
            latent_dim,
            self.action_dim,
            hidden=self.model_config["actor_hidden"],
            log_std_bounds=(low, high),
            log_std_mode=self.model_config["log_std_mode"],
            init=self.model_config["network_init"],
        )

    def get_non_inference_attributes(self) -> list[str]:
        """The attributes that only the Learner needs."""
        return [*super().get_non_inference_attributes(), "log_alpha"]

    def best_actions(self, latents: Tensor) -> Tensor:
        """[N, A], the tanh of the Gaussian's mean."""
        mean: Tensor = self.actor(latents)[0]
        return mean.tanh()

    def explore(
        self, latents: Tensor, t: int | None, state: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Mapping[str, Tensor] | None]:
        """Draws actions from the policy."""
        del t
        mean, log_std = self.actor(latents)
        return torch.addcmul(mean, log_std.exp(), torch.randn_like(mean)).tanh(), state
