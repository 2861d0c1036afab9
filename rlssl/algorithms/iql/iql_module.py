"""IQL's networks: critics, a network of state values, and a stochastic actor."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.core.distribution.torch.torch_distribution import TorchDistribution
from torch import Tensor, nn

from rlssl.algorithms.common.action_spaces import ActionKind, kind_of_any
from rlssl.algorithms.off_policy.actor_critic.module import OffPolicyActorCriticModule
from rlssl.algorithms.on_policy.actor_module import action_distribution
from rlssl.networks.action_encoding import encode_action
from rlssl.networks.actors import BoundedGaussianActor, LogitsActor
from rlssl.networks.heads import QHead


class IQLModule(OffPolicyActorCriticModule):
    """A stochastic actor; in a Learner also the critics and the network of state values.

    The critics read encoded actions, so that they also take discrete actions: IQL never needs the
    values of actions that are not in the data. The network of state values reads what the actor
    reads: an encoder of its own, or, for images, the critics' convolutions without a gradient.

    Settings (``model_config``): those of ``OffPolicyActorCriticModule``; value_hidden,
    log_std_bounds.
    """

    algorithm_name = "iql"

    @property
    def action_kind(self) -> ActionKind:  # type: ignore[override]
        """What actions the algorithm can choose: any, but a Box needs bounds."""
        return kind_of_any(self.action_space)

    def setup(self) -> None:
        """Builds the networks from the spaces and ``model_config``."""
        super().setup()
        self.action_dist_cls = action_distribution(self.action_space)
        if not self.inference_only:
            self.value_encoder = self._build_actor_encoder()
            hidden = self.model_config["value_hidden"]
            self.value = QHead(
                self.value_encoder.output_dim, 1, num_atoms=None, dueling=False, hidden=hidden
            )

    def build_actor(self, latent_dim: int) -> nn.Module:
        """The layers after the actor's encoder, to the inputs of ``action_dist_cls``."""
        settings = self.model_config
        options = {"hidden": settings["actor_hidden"], "init": settings["network_init"]}
        if not isinstance(self.action_space, gym.spaces.Box):
            return LogitsActor(latent_dim, self.action_dim, **options)
        low, high = settings["log_std_bounds"]
        return BoundedGaussianActor(
            latent_dim, self.action_dim, log_std_bounds=(low, high), **options
        )

    def get_non_inference_attributes(self) -> list[str]:
        """The attributes that only the Learner needs."""
        return [*super().get_non_inference_attributes(), "value_encoder", "value"]

    def policy(self, latents: Tensor) -> TorchDistribution:
        """The distribution of actions, from the actor's latents [N, D]."""
        return self.action_dist_cls.from_logits(self.actor(latents))

    def state_values(self, features: Any) -> Tensor:
        """[N], V(s); its gradient does not reach the critics' encoder.

        Args:
            features: The module's ``features`` of observations.
        """
        if self.shares_features:
            features = features.detach()
        return self.value(self.value_encoder(features)).squeeze(-1)

    def cloning_losses(self, observations: Any, actions: Tensor, *, margin: float) -> Tensor:
        """[N], ``-log pi(a|s)``, nats; see ClonedPolicy."""
        del margin
        logp: Tensor = self.policy(self.actor_latents(self.features(observations))).logp(actions)
        return -logp

    def critic_actions(self, actions: Tensor) -> Tensor:
        """[N, A], a batch's actions as the critics read them: discrete actions are one-hot."""
        return encode_action(actions, self.action_space)

    def best_actions(self, latents: Tensor) -> Tensor:
        """The most likely actions."""
        best: Tensor = self.policy(latents).to_deterministic().sample()
        return best

    def explore(
        self, latents: Tensor, t: int | None, state: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Mapping[str, Tensor] | None]:
        """Draws actions from the policy."""
        del t
        return self.policy(latents).sample(), state

    def random_actions(self, num_rows: int) -> Tensor:
        """Uniformly random actions, from torch's global generator."""
        space = self.action_space
        if isinstance(space, gym.spaces.Box):
            return super().random_actions(num_rows)
        if isinstance(space, gym.spaces.Discrete):
            return torch.randint(int(space.n), (num_rows,))
        sizes = [int(n) for n in space.nvec]
        return torch.stack([torch.randint(n, (num_rows,)) for n in sizes], dim=1)
