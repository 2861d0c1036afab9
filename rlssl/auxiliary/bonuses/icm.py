"""Intrinsic Curiosity Module: the reward is the error of predicting the next features."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import AuxiliaryLoss
from rlssl.auxiliary.bonus_options import BonusConfig
from rlssl.auxiliary.normalization import (
    DiscountedReturnScale,
    ObservationNormalizer,
    unbounded,
)
from rlssl.image_spaces import channels_first, is_image
from rlssl.losses import forward_dynamics_loss, inverse_dynamics_loss
from rlssl.networks.action_encoding import encode_action, inverse_target
from rlssl.networks.curiosity import ForwardModel, InverseModel, ResidualForwardModel
from rlssl.networks.encoders import Encoder, build_encoder
from rlssl.networks.rl_encoder import normalized_as

#: Defaults of each variant.
_VARIANTS: dict[str, dict[str, Any]] = {
    "pathak": {"features": "own", "intrinsic_coeff": 0.01, "reward_clip": 1.0, "grad_clip": 40.0},
    "burda": {"features": "random", "intrinsic_coeff": 1.0, "reward_clip": None, "grad_clip": None},
}


class ICM(AuxiliaryLoss):
    """Curiosity-driven exploration by self-supervised prediction.

    With features phi, action a and the networks g (inverse) and f (forward)::

        L_inv = loss(g(phi(s), phi(s')), a)       cross-entropy, or 0.5 ||mean - a||^2
        L_fwd = 0.5 ||f(phi(s), a) - phi(s')||^2   (pathak), mean square over features (burda)
        loss  = scale * ((1 - forward_weight) * L_inv + forward_weight * L_fwd)
        intrinsic reward = L_fwd

    At initialization L_inv is log(number of actions) nats. In ``pathak``, the forward loss trains
    both phi(s) and phi(s'). In ``burda``, the forward loss does not train phi, observations are
    normalized, and the reward is divided by the running standard deviation (std) of its discounted
    return.

    Source:
        pathak: Pathak et al. 2017, arXiv:1705.05363, and its published code.
        burda: Burda et al. 2018, arXiv:1808.04355, and its published code. Differs: see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(BonusConfig):
        """Options of ICM; None: the variant's default."""

        # "pathak" (A3C on Doom and Mario, 2017) or "burda" (large-scale PPO, 2018).
        variant: str = "pathak"
        # Weight of the reward; None: 0.01 (pathak, Doom), 1.0 (burda).
        intrinsic_coeff: float | None = None  # type: ignore[assignment]
        # Network phi: "own" (a network in this loss), "shared" (the RL encoder) or "random" (a
        # network in this loss that is never trained); None: own (pathak), random (burda).
        features: str | None = None
        # beta of the paper: share of the forward loss; in [0, 1]; 0.2 in pathak.
        forward_weight: float = 0.2
        # 1 / lambda of the paper: factor on both losses; > 0; 10 in pathak; not used by burda.
        scale: float = 10.0
        # Clips reward + bonus to +-value; None: no clip; "variant": 1.0 (pathak), no clip (burda).
        # With stream=own, reward and bonus are not added, so there is no clip.
        reward_clip: float | str | None = "variant"
        # Discount of the return whose std scales burda's reward; in [0, 1).
        gamma: float = 0.99
        # Number of first rows whose mean and std normalize burda's observations; > 0.
        normalization_rows: int = 10_000
        # Name of the encoder of own or random features; None: "icm" for images of at least 36 x 36
        # pixels, else chosen from the space.
        encoder: str | None = None
        # Options of that encoder.
        encoder_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

        @property
        def needs_chunks(self) -> bool:
            """Whether running statistics scale the reward: in burda."""
            return self.variant == "burda"

        def idle_options(self) -> dict[str, str]:
            """Options of the other variant, and of networks that the loss does not have."""
            other = {
                "pathak": dict.fromkeys(("gamma", "normalization_rows"), "variant: burda"),
                "burda": dict.fromkeys(("scale", "forward_weight"), "variant: pathak"),
            }
            idle = {**super().idle_options(), **other[self.variant]}
            if self.features == "shared":
                words = "features: own or random"
                idle |= dict.fromkeys(("encoder", "encoder_config", "normalization_rows"), words)
            return idle

        def __post_init__(self) -> None:
            """Fills in the variant's defaults, and checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            if self.variant not in _VARIANTS:
                raise ValueError(f"variant must be one of {list(_VARIANTS)}; got {self.variant!r}.")
            defaults = _VARIANTS[self.variant]
            for key in ("features", "intrinsic_coeff", "grad_clip"):
                if getattr(self, key) is None:
                    object.__setattr__(self, key, defaults[key])
            if self.reward_clip == "variant":
                clip = defaults["reward_clip"] if self.stream == "shared" else None
                object.__setattr__(self, "reward_clip", clip)
            super().__post_init__()
            self._check()

        def _check(self) -> None:
            if self.features not in ("own", "shared", "random"):
                raise ValueError(f"features must be own, shared or random; got {self.features!r}.")
            if not 0.0 <= self.forward_weight <= 1.0:
                raise ValueError(f"forward_weight must be in [0, 1]; got {self.forward_weight}.")
            if not 0.0 <= self.gamma < 1.0:
                raise ValueError(f"gamma must be in [0, 1); got {self.gamma}.")
            positive = {
                "scale": self.scale,
                "reward_clip": self.reward_clip,
                "normalization_rows": self.normalization_rows,
            }
            for key, value in positive.items():
                if value is not None and (isinstance(value, str) or not value > 0):
                    raise ValueError(f"{key} must be > 0; got {value!r}.")

    config: Config

    reads = frozenset({Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS})

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.trains = "encoder" if config.features == "shared" else "own"
        self.reward_clip = config.reward_clip
        self.is_burda = config.variant == "burda"
        self.normalizer = self._make_normalizer()
        self.features = self._make_features()
        feature_dim = self._phi_network.output_dim
        self.learns_features = config.features != "random"
        if self.learns_features or not self.is_burda:
            self.inverse = InverseModel(feature_dim, self.action_space)
        forward_class = ResidualForwardModel if self.is_burda else ForwardModel
        self.forward_model = forward_class(feature_dim, self.action_space)
        self.return_scale = DiscountedReturnScale(config.gamma) if self.is_burda else None
        # Both from the last update, for `metrics`: errors [N]; predictions and targets of the
        # inverse model.
        self._errors: dict[str, Tensor] = {}
        self._inverse_predictions: tuple[Tensor, Tensor] | None = None

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Weighted ``inverse`` and ``forward`` losses, each [N]."""
        phi, phi_next, actions = self._transition_features(batch)
        if self.is_burda:
            error = self._forward_error(phi.detach(), phi_next.detach(), actions)
        else:
            error = self._forward_error(phi, phi_next, actions)
        forward_weight = 1.0 if self.is_burda else self.config.scale * self.config.forward_weight
        losses = {"forward": forward_weight * error}
        self._errors = {"forward_error": error.detach()}
        if hasattr(self, "inverse"):
            losses["inverse"] = self._inverse_weight * self._inverse_error(phi, phi_next, actions)
        return losses

    @torch.no_grad()
    def intrinsic_reward(self, batch: Mapping[str, Any]) -> Tensor:
        """[N], the forward error; burda divides it by the std of its discounted return."""
        if self.normalizer is not None:
            self.normalizer.observe(self.peers.gather(batch[Columns.OBS]))
        phi, phi_next, actions = self._transition_features(batch)
        error = self._forward_error(phi, phi_next, actions)
        if self.return_scale is None:
            return error
        return self.return_scale(error, batch["chunks"], self.peers)

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Unweighted errors and, for a Discrete action space, the accuracy of the inverse model."""
        del batch
        metrics = {key: error.mean() for key, error in self._errors.items()}
        if self._inverse_predictions is not None:
            prediction, target = self._inverse_predictions
            metrics["inverse_accuracy"] = (prediction.argmax(-1) == target).float().mean()
        return metrics

    @property
    def _inverse_weight(self) -> float:
        if self.is_burda:
            return 1.0
        return self.config.scale * (1.0 - self.config.forward_weight)

    @property
    def _phi_network(self) -> Encoder:
        return self.encoder if self.features is None else self.features

    def _make_normalizer(self) -> ObservationNormalizer | None:
        is_box = isinstance(self.observation_space, gym.spaces.Box)
        if not self.is_burda or self.config.features == "shared" or not is_box:
            return None
        return ObservationNormalizer(
            self.observation_space.shape or (), num_rows=self.config.normalization_rows
        )

    def _make_features(self) -> Encoder | None:
        if self.config.features == "shared":
            return None
        space = self.observation_space
        if self.normalizer is not None:
            assert isinstance(space, gym.spaces.Box)  # for mypy
            space = unbounded(space)
        like = self.encoder if self.normalizer is None else None
        features = build_features(space, self.config.encoder, self.config.encoder_config, like=like)
        return features.requires_grad_(self.config.features != "random")

    def _transition_features(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        if self.features is None:
            phi = self.latents(batch)
        else:
            phi = self.features(self._normalized(batch[Columns.OBS]))
        phi_next = self._phi_network(self._normalized(batch[Columns.NEXT_OBS]))
        return phi, phi_next, batch[Columns.ACTIONS]

    def _normalized(self, observations: Any) -> Any:
        return observations if self.normalizer is None else self.normalizer(observations)

    def _forward_error(self, phi: Tensor, phi_next: Tensor, actions: Tensor) -> Tensor:
        prediction = self.forward_model(phi, encode_action(actions, self.action_space))
        reduction = "mean" if self.is_burda else "half_sum"
        return forward_dynamics_loss(prediction, phi_next, reduction=reduction)

    def _inverse_error(self, phi: Tensor, phi_next: Tensor, actions: Tensor) -> Tensor:
        prediction = self.inverse(phi, phi_next)
        target = inverse_target(actions, self.action_space)
        error = inverse_dynamics_loss(prediction, target)
        if isinstance(self.action_space, gym.spaces.Discrete):
            self._inverse_predictions = prediction.detach(), target
        self._errors["inverse_error"] = error.detach()
        return error


def build_features(
    space: gym.Space, name: str | None, config: Mapping[str, Any], *, like: Encoder | None
) -> Encoder:
    """Builds an encoder of features that is not the RL encoder.

    Args:
        space: What the features read.
        name: Registered name; None: "icm" for images of at least 36 x 36 pixels, else chosen from
            the space.
        config: Options of the encoder.
        like: An encoder whose normalization of observations is also used; None: no normalization.
    """
    if name is None and is_image(space) and min(channels_first(space)[1:]) >= 36:
        name = "icm"
    features = build_encoder(space, name, config)
    return features if like is None else normalized_as(features, like)
