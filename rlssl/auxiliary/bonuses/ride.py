"""RIDE: the reward is how far a step moves the latent, for steps to rare observations."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import AuxiliaryLoss
from rlssl.auxiliary.bonus_options import BonusConfig
from rlssl.auxiliary.bonuses.icm import build_features
from rlssl.auxiliary.episodic_visits import EpisodicVisits, check_max_states
from rlssl.losses import episodic_impact, forward_dynamics_loss, inverse_dynamics_loss
from rlssl.networks.action_encoding import encode_action, inverse_target
from rlssl.networks.curiosity import ForwardModel, InverseModel


class RIDE(AuxiliaryLoss):
    """Rewards impact: steps that change what the agent can control.

    With features phi, action a and ICM's networks g (inverse) and f (forward)::

        L_inv  = loss(g(phi(s), phi(s')), a)       cross-entropy, or 0.5 ||mean - a||^2
        L_fwd  = 0.5 ||f(phi(s), a) - phi(s')||^2
        loss   = inverse_coeff * L_inv + forward_coeff * L_fwd
        reward = ||phi(s') - phi(s)||_2 / sqrt(visits of s' in the episode)

    Both losses train phi. At initialization L_inv is log(number of actions) nats.

    Source:
        Raileanu and Rocktäschel 2020, arXiv:2002.12292, and its published code. Differs: see
        PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(BonusConfig):
        """Options of RIDE."""

        # Weight of the reward; published: 0.1 (MultiRoom-N7-S4, N10-S4, KeyCorridorS3R3), 0.5
        # (larger mazes).
        intrinsic_coeff: float = 0.1
        # Weights of the losses, as ICM's; >= 0. Published: 0.1 and 10: the forward loss then made
        # all features equal in a few updates, and the bonus 0 (docs/bonuses.md).
        inverse_coeff: float = 0.8
        forward_coeff: float = 0.2
        # Most observations that are remembered, over all open episodes of a Learner; > 0.
        max_states: int = 1_000_000
        # Name of the encoder phi; None: as for ICM.
        encoder: str | None = None
        # Options of that encoder.
        encoder_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            for key in ("inverse_coeff", "forward_coeff"):
                if not getattr(self, key) >= 0:
                    raise ValueError(f"{key} must be >= 0; got {getattr(self, key)}.")
            check_max_states(self.max_states)

    config: Config

    reads = frozenset({Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS})
    trains = "own"

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.features = build_features(
            self.observation_space, config.encoder, config.encoder_config, like=self.encoder
        )
        self.inverse = InverseModel(self.features.output_dim, self.action_space)
        self.forward_model = ForwardModel(self.features.output_dim, self.action_space)
        self.visits = EpisodicVisits(config.max_states)
        # Predictions and targets of the inverse model in the last update, for `metrics`.
        self._inverse_predictions: tuple[Tensor, Tensor] | None = None

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Weighted ``inverse`` and ``forward`` losses, each [N]."""
        phi, phi_next = (self.features(batch[key]) for key in (Columns.OBS, Columns.NEXT_OBS))
        actions = batch[Columns.ACTIONS]
        logits, target = self.inverse(phi, phi_next), inverse_target(actions, self.action_space)
        if isinstance(self.action_space, gym.spaces.Discrete):
            self._inverse_predictions = logits.detach(), target
        prediction = self.forward_model(phi, encode_action(actions, self.action_space))
        return {
            "inverse": self.config.inverse_coeff * inverse_dynamics_loss(logits, target),
            "forward": self.config.forward_coeff * forward_dynamics_loss(prediction, phi_next),
        }

    @torch.no_grad()
    def intrinsic_reward(self, batch: Mapping[str, Any]) -> Tensor:
        """[N], >= 0, the length of the step in the features / sqrt(visits)."""
        before, after = batch[Columns.OBS], batch[Columns.NEXT_OBS]
        visits = self.visits(before, after, batch["chunks"], self.peers)
        phi = self.features(before)
        return episodic_impact(self.features(after), phi, visits.to(phi.device))

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``inverse_accuracy`` (Discrete actions), ``first_visits`` and ``num_states``."""
        del batch
        metrics = self.visits.metrics()
        if self._inverse_predictions is not None:
            prediction, target = self._inverse_predictions
            metrics["inverse_accuracy"] = (prediction.argmax(-1) == target).float().mean()
        return metrics
