"""DDPG's networks, and the noise on its actions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlssl.algorithms.off_policy.actor_critic.module import OffPolicyActorCriticModule
from rlssl.exploration import GaussianNoise, OrnsteinUhlenbeckNoise, add_noise
from rlssl.networks.actors import DeterministicActor

#: Key of the exploration's state: the Ornstein-Uhlenbeck process of each environment.
_WALK = "walk"


class DDPGModule(OffPolicyActorCriticModule):
    """A deterministic actor; in a Learner also the critics and target networks.

    Settings (``model_config``): those of ``OffPolicyActorCriticModule``; final_bound, target_actor,
    exploration, exploration_std, exploration_clip, random_action_share, ou_theta, ou_sigma, ou_dt.
    """

    algorithm_name = "ddpg"

    def build_actor(self, latent_dim: int) -> nn.Module:
        """The layers after the actor's encoder."""
        return DeterministicActor(
            latent_dim,
            self.action_dim,
            hidden=self.model_config["actor_hidden"],
            init=self.model_config["network_init"],
            final_bound=self.model_config["final_bound"],
        )

    def target_parts(self) -> dict[str, nn.Module]:
        """The actor and its encoder, if there is a target actor."""
        if not self.model_config["target_actor"]:
            return {}
        return {"actor": self.actor, "actor_encoder": self.actor_encoder}

    def get_initial_state(self) -> dict[str, Any]:
        """The Ornstein-Uhlenbeck process, which starts each episode at 0; else {}."""
        has_process = self.model_config["exploration"] == "ornstein_uhlenbeck"
        if not has_process or not self.inference_only:
            return {}
        return {_WALK: np.zeros(self.action_space.shape, np.float32)}

    def target_actions(self, features: Any, target_features: Any) -> Tensor:
        """[N, A], actions of the target actor, or of the online actor if there is none."""
        if not self.model_config["target_actor"]:
            actions: Tensor = self.actor(self.actor_latents(features))
            return actions
        return self._target("actor")(self._target("actor_encoder")(target_features))

    def best_actions(self, latents: Tensor) -> Tensor:
        """[N, A], the actor's actions without noise."""
        actions: Tensor = self.actor(latents)
        return actions

    def explore(
        self, latents: Tensor, t: int | None, state: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Mapping[str, Tensor] | None]:
        """Adds noise; without a state, an Ornstein-Uhlenbeck process restarts at every step."""
        best = self.best_actions(latents).cpu().numpy()
        if self.model_config["exploration"] == "gaussian":
            noise = self._gaussian_noise(len(best), t)
        else:
            noise, state = self._ornstein_uhlenbeck_noise(len(best), t, state)
        return self._with_random_actions(torch.from_numpy(add_noise(best, noise))), state

    def _with_random_actions(self, actions: torch.Tensor) -> torch.Tensor:
        """Replaces some rows of actions [N, A] by uniformly random ones."""
        # Settings of an earlier version lack the key.
        share = self.model_config.get("random_action_share") or 0.0
        if not share:
            return actions
        is_random = torch.rand(len(actions), 1) < share
        return torch.where(is_random, torch.rand_like(actions) * 2.0 - 1.0, actions)

    def _gaussian_noise(self, num: int, t: int | None) -> np.ndarray:
        source = GaussianNoise(
            num,
            self.action_dim,
            std=self.scheduled("exploration_std", t),
            clip=self.model_config["exploration_clip"],
            seed=_seed(),
        )
        return source.sample()

    def _ornstein_uhlenbeck_noise(
        self, num: int, t: int | None, state: Mapping[str, Tensor] | None
    ) -> tuple[np.ndarray, Mapping[str, Tensor] | None]:
        settings = self.model_config
        source = OrnsteinUhlenbeckNoise(
            num,
            self.action_dim,
            theta=settings["ou_theta"],
            sigma=settings["ou_sigma"],
            dt=settings["ou_dt"],
            seed=_seed(),
        )
        if state is not None:
            source.set_state({**source.get_state(), _WALK: state[_WALK].cpu().numpy()})
            walk = source.sample()
            state = {_WALK: torch.from_numpy(walk)}
        else:
            walk = source.sample()
        noise = walk * np.float32(self.scheduled("exploration_std", t))
        clip = settings["exploration_clip"]
        return (noise if clip is None else noise.clip(-clip, clip)), state


def _seed() -> int:
    """The seed of this step's noise, from torch's global generator."""
    return int(torch.randint(2**62, ()))
