"""PPO's networks: an encoder, or one each, under a policy head and a value head."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
    TorchDistribution,
    TorchMultiCategorical,
)
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn

from rlssl.auxiliary.base import build_auxiliary, seed_of
from rlssl.errors import SpecError
from rlssl.networks.augmentation import AUGMENTED_OBS, build_augmentation, build_rl_encoder
from rlssl.networks.encoders import MLP, Encoder, is_image
from rlssl.networks.heads import GaussianHead, linear_head
from rlssl.networks.numpy_forward import numpy_forward, reads_vectors, with_log_std


class PPOModule(TorchRLModule, InferenceOnlyAPI, ValueFunctionAPI):
    """Actor and critic, with the auxiliary losses beside them where it learns.

    Settings (``model_config``): encoder, encoder_config, shared_encoder, augmentation, precision,
    auxiliary, seed, and kl_coeff, the KL penalty's initial coefficient.
    """

    def setup(self) -> None:
        """Builds the networks from the spaces and ``model_config``."""
        settings = self.model_config
        self.encoder = self._build_encoder()
        self.pi = policy_head(self.encoder.output_dim, self.action_space)
        shared = settings["shared_encoder"]
        if shared is None:
            shared = is_image(self.observation_space)
        if not shared:
            self.critic_encoder = self._build_encoder()
        self.vf = linear_head(self._critic_encoder.output_dim, 1, gain=1.0)
        self.register_buffer("kl_coeff", torch.tensor(float(settings["kl_coeff"])))
        self.augmentation = None
        self.auxiliary = nn.ModuleDict()
        if not self.inference_only:
            self.augmentation = build_augmentation(
                self.observation_space,
                settings,
                self.encoder,
                seed=seed_of("augmentation", settings["seed"]),
            )
            self.auxiliary = build_auxiliary(
                settings["auxiliary"],
                encoder=self.encoder,
                observation_space=self.observation_space,
                action_space=self.action_space,
                seed=settings["seed"],
            )
        self.action_dist_cls = action_distribution(self.action_space)

    def get_non_inference_attributes(self) -> list[str]:
        """What only the Learner needs."""
        return ["critic_encoder", "vf", "kl_coeff", "augmentation", "auxiliary"]

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """[N], the critic's values, in units of the (possibly augmented) return.

        Of the observations as the policy saw them, where they were augmented.
        """
        if embeddings is None:
            embeddings = self._critic_encoder(batch.get(AUGMENTED_OBS, batch[Columns.OBS]))
        return self.vf(embeddings).squeeze(-1)

    def numpy_policy(self, num_rows: int) -> Callable[[np.ndarray], np.ndarray] | None:
        """From vectors [N, D] to ACTION_DIST_INPUTS, as `_forward`, where numpy is faster.

        Good until weights are set again; None where it is not faster, or not the same.
        """
        encoder, head = self.encoder, self.pi
        if type(self) is not PPOModule or not reads_vectors(self.observation_space):
            return None
        if type(encoder) is not MLP:
            return None
        layers = list(encoder.layers)
        if not isinstance(head, GaussianHead):
            return numpy_forward([*layers, head], num_rows)
        mean = numpy_forward([*layers, head.mean], num_rows)
        log_std = head.log_std.detach().numpy()
        return mean and (lambda observations: with_log_std(mean(observations), log_std))

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.pi(self.encoder(batch[Columns.OBS]))}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        obs = batch[Columns.OBS]
        out = {}
        if self.augmentation is not None:
            obs = out[AUGMENTED_OBS] = self.augmentation(obs)
        latent = self.encoder(obs)
        out[Columns.ACTION_DIST_INPUTS] = self.pi(latent)
        if not hasattr(self, "critic_encoder"):
            out[Columns.EMBEDDINGS] = latent
        return out

    @property
    def _critic_encoder(self) -> Encoder:
        encoder: Encoder = getattr(self, "critic_encoder", self.encoder)
        return encoder

    def _build_encoder(self) -> Encoder:
        return build_rl_encoder(self.observation_space, self.model_config)


def policy_head(latent_dim: int, action_space: gym.Space) -> nn.Module:
    """From a latent [N, latent_dim] to the inputs of ``action_distribution``.

    Raises:
        SpecError: For anything but Discrete or MultiDiscrete from 0, or a 1-D floating Box.
    """
    if np.any(getattr(action_space, "start", 0)):
        raise SpecError(f"actions must count from 0; got {action_space}. Shift them in a wrapper.")
    if isinstance(action_space, gym.spaces.Discrete):
        return linear_head(latent_dim, int(action_space.n), gain=0.01)
    if isinstance(action_space, gym.spaces.MultiDiscrete) and action_space.nvec.ndim == 1:
        return linear_head(latent_dim, int(action_space.nvec.sum()), gain=0.01)
    shape = action_space.shape or ()
    if len(shape) == 1 and np.issubdtype(action_space.dtype, np.floating):
        return GaussianHead(latent_dim, shape[0])
    raise SpecError(
        f"PPO needs Discrete, MultiDiscrete or 1-D floating Box actions; got {action_space}. "
        "Flatten the action space with a wrapper."
    )


def action_distribution(action_space: gym.Space) -> type[TorchDistribution]:
    """RLlib's distribution class for the action space."""
    if isinstance(action_space, gym.spaces.Discrete):
        return TorchCategorical
    if isinstance(action_space, gym.spaces.MultiDiscrete):
        return TorchMultiCategorical.get_partial_dist_cls(
            space=action_space, input_lens=[int(n) for n in action_space.nvec]
        )
    return TorchDiagGaussian
