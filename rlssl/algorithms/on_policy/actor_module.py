"""The networks of a stochastic policy: an encoder, an LSTM if wanted, and a policy head."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
    TorchDistribution,
    TorchMultiCategorical,
)
from torch import Tensor, nn

from rlssl.algorithms.common.action_spaces import check_actions
from rlssl.algorithms.common.module import BaseModule
from rlssl.auxiliary.base import RL_LATENTS
from rlssl.connectors.recurrent_states import SEQUENCE_BEGINS
from rlssl.networks.augmentation import AUGMENTED_OBS
from rlssl.networks.heads import GaussianHead, linear_head
from rlssl.networks.recurrent import LSTM, STATE_KEYS, LSTMConfig


class ActorModule(BaseModule):
    """Encoder, LSTM and policy head; what PPO's, A3C's and behavior cloning's modules share.

    Settings (``model_config``): encoder, encoder_config, augmentation, precision, lstm, auxiliary,
    seed.

    For acting, a recurrent module takes OBS [B, T, ...] and STATE_IN, and returns STATE_OUT. For
    learning, it takes rows [N, ...], the STATE_IN of each row, and ``SEQUENCE_BEGINS``; without
    that column, every row is a separate sequence.
    """

    #: Smallest logarithm of a Gaussian policy's standard deviation, nats; None: no bound.
    min_log_std: float | None = None

    def build_actor(self) -> int:
        """Builds normalizer, encoder, LSTM and policy head; returns the features of their input."""
        settings = self.model_config
        lstm = LSTMConfig.parse(settings.get("lstm"))
        self.sequence_length = lstm and lstm.sequence_length
        self.lstm = None
        self.build_normalizer()
        self.encoder = self.build_encoder(settings)
        latent_dim = self.encoder.output_dim
        if lstm:
            self.lstm = LSTM(latent_dim, lstm.hidden)
            latent_dim = lstm.hidden
        self.pi = policy_head(latent_dim, self.action_space, self.min_log_std)
        self.action_dist_cls = action_distribution(self.action_space)
        return latent_dim

    def get_initial_state(self) -> dict[str, np.ndarray]:
        """The state before an episode's first step: zeros, [H] each; {} without an LSTM."""
        return {} if self.lstm is None else self.lstm.initial_state()

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        if self.lstm is not None:
            return self._forward_recurrent(batch, self.lstm)
        return {Columns.ACTION_DIST_INPUTS: self.pi(self.encoder(batch[Columns.OBS]))}

    def _forward_recurrent(self, batch: dict[str, Any], lstm: LSTM) -> dict[str, Any]:
        """The forward pass for acting, over [B, T, ...]."""
        rows, shape = rows_of_sequences(batch[Columns.OBS])
        hidden, after = lstm(
            self.encoder(rows).unflatten(0, shape), part_of_state(batch[Columns.STATE_IN], "")
        )
        return {Columns.ACTION_DIST_INPUTS: self.pi(hidden), Columns.STATE_OUT: after}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        obs = batch[Columns.OBS]
        out = {}
        if self.augmentation is not None:
            obs = out[AUGMENTED_OBS] = self.augmentation(obs)
        latents = out[RL_LATENTS] = self.encoder(obs)
        hidden = out[Columns.EMBEDDINGS] = through_lstm(self.lstm, latents, batch, "")
        out[Columns.ACTION_DIST_INPUTS] = self.pi(hidden)
        return out


def rows_of_sequences(observations: Any) -> tuple[Any, tuple[int, int]]:
    """Observations [B, T, ...] as rows [B * T, ...], and (B, T)."""
    shape = tuple(tree.flatten(observations)[0].shape[:2])
    return tree.map_structure(lambda leaf: leaf.flatten(0, 1), observations), shape


def through_lstm(
    lstm: LSTM | None, latents: Tensor, rows: Mapping[str, Any], prefix: str
) -> Tensor:
    """The heads' inputs [N, H], from the latents [N, D] of a batch of rows."""
    if lstm is None:
        return latents
    states = part_of_state(rows[Columns.STATE_IN], prefix)
    return lstm.over_rows(latents, states, rows.get(SEQUENCE_BEGINS))


def part_of_state(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The state of one LSTM, from the states of several."""
    return {key: state[prefix + key] for key in STATE_KEYS}


def policy_head(
    latent_dim: int, action_space: gym.Space, min_log_std: float | None = None
) -> nn.Module:
    """A layer from latents [N, latent_dim] to the inputs of ``action_distribution``.

    Args:
        latent_dim: Features of a latent.
        action_space: Discrete, MultiDiscrete or a Box of one dimension.
        min_log_std: See `GaussianHead`.
    """
    check_actions(action_space, "ppo", "any")
    if isinstance(action_space, gym.spaces.Discrete):
        return linear_head(latent_dim, int(action_space.n), gain=0.01)
    if isinstance(action_space, gym.spaces.MultiDiscrete):
        return linear_head(latent_dim, int(action_space.nvec.sum()), gain=0.01)
    assert action_space.shape is not None  # for mypy
    return GaussianHead(latent_dim, action_space.shape[0], min_log_std)


def action_distribution(action_space: gym.Space) -> type[TorchDistribution]:
    """RLlib's distribution class for the action space."""
    if isinstance(action_space, gym.spaces.Discrete):
        return TorchCategorical
    if isinstance(action_space, gym.spaces.MultiDiscrete):
        return TorchMultiCategorical.get_partial_dist_cls(
            space=action_space, input_lens=[int(n) for n in action_space.nvec]
        )
    return TorchDiagGaussian
