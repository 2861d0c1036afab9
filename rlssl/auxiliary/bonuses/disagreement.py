"""Disagreement: the reward is the variance of the predictions of several forward models."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary.base import AuxiliaryLoss
from rlssl.auxiliary.bonus_options import BonusConfig
from rlssl.auxiliary.bonuses.icm import build_features
from rlssl.auxiliary.normalization import (
    DiscountedReturnScale,
    ObservationNormalizer,
    divisor,
    unbounded,
)
from rlssl.losses import ensemble_disagreement, forward_dynamics_loss
from rlssl.networks.action_encoding import encode_action
from rlssl.networks.curiosity import ForwardModel
from rlssl.networks.encoders import Encoder


class Disagreement(AuxiliaryLoss):
    """Rewards steps whose outcome the models predict differently.

    With features phi, which this loss does not train, and K forward models f_k::

        loss   = mean over models and features of (f_k(phi(s), a) - phi(s'))^2
        e      = variance over models of f_k(phi(s), a), unbiased, mean over features
        reward = e / running std of its discounted return

    Noise that cannot be predicted gives no lasting reward: all models learn its mean.

    Source:
        Pathak et al. 2019, Self-Supervised Exploration via Disagreement, arXiv:1906.04161. Differs:
        see PAPERS.md.
    """

    @dataclasses.dataclass(frozen=True)
    class Config(BonusConfig):
        """Options of the disagreement."""

        # Weight of the reward.
        intrinsic_coeff: float = 0.5
        # K; >= 2; published: 5.
        num_models: int = 5
        # Network phi: "random" (a network in this loss that is never trained) or "shared" (the RL
        # encoder, without gradients).
        features: str = "random"
        # Features of the hidden layer of each model; > 0.
        hidden: int = 256
        # Discount of the return whose std scales the reward; in [0, 1).
        gamma: float = 0.99
        # Number of first rows whose mean and std normalize observations (random features); > 0.
        normalization_rows: int = 10_000
        # Name of the encoder of random features; None: as for ICM.
        encoder: str | None = None
        # Options of that encoder.
        encoder_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

        def idle_options(self) -> dict[str, str]:
            """Options of random features, if there are none."""
            of_random = ("normalization_rows", "encoder", "encoder_config")
            idle = {} if self.features == "random" else dict.fromkeys(of_random, "features: random")
            return {**super().idle_options(), **idle}

        def __post_init__(self) -> None:
            """Checks ranges.

            Raises:
                ValueError: If a value is out of range; the message names field and value.
            """
            super().__post_init__()
            if self.features not in ("random", "shared"):
                raise ValueError(f"features must be random or shared; got {self.features!r}.")
            if not 0.0 <= self.gamma < 1.0:
                raise ValueError(f"gamma must be in [0, 1); got {self.gamma}.")
            for key, least in (("num_models", 2), ("hidden", 1), ("normalization_rows", 1)):
                value = getattr(self, key)
                if type(value) is not int or value < least:
                    raise ValueError(f"{key} must be a whole number >= {least}; got {value!r}.")

    config: Config

    reads = frozenset({Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS})
    trains = "own"

    def __init__(self, config: Config, **given: Any) -> None:
        super().__init__(config, **given)
        self.normalizer: ObservationNormalizer | None = None
        self.features = None if config.features == "shared" else self._make_features()
        width = self.encoder.output_dim if self.features is None else self.features.output_dim
        # With the gain 1, models differ where they were not trained.
        self.models = nn.ModuleList(
            ForwardModel(width, self.action_space, config.hidden, output_gain=1.0)
            for _ in range(config.num_models)
        )
        self.return_scale = DiscountedReturnScale(config.gamma, episodic=False)

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``forward``, [N], squared units of the features, mean over the models."""
        predictions = self._predictions(batch)
        target = self._features(batch, Columns.NEXT_OBS)
        errors = [forward_dynamics_loss(one, target, reduction="mean") for one in predictions]
        return {"forward": torch.stack(errors).mean(dim=0)}

    @torch.no_grad()
    def intrinsic_reward(self, batch: Mapping[str, Any]) -> Tensor:
        """[N], >= 0, the variance over the models divided by the std of its discounted return."""
        if self.normalizer is not None:
            self.normalizer.observe(self.peers.gather(batch[Columns.OBS]))
        variance = ensemble_disagreement(self._predictions(batch))
        return self.return_scale(variance, batch["chunks"], self.peers)

    def metrics(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``return_std``, what the variances are divided by."""
        del batch
        moments = self.return_scale.moments
        return {"return_std": divisor(moments.mean, moments.variance)}

    def _predictions(self, batch: Mapping[str, Any]) -> Tensor:
        """[K, N, D], the predicted next features of each model."""
        phi = self._features(batch, Columns.OBS)
        actions = encode_action(batch[Columns.ACTIONS], self.action_space)
        return torch.stack([model(phi, actions) for model in self.models])

    @torch.no_grad()
    def _features(self, batch: Mapping[str, Any], column: str) -> Tensor:
        if self.features is None:
            return self.latents(batch, column)
        observations = batch[column]
        if self.normalizer is not None:
            observations = self.normalizer(observations)
        latents: Tensor = self.features(observations)
        return latents

    def _make_features(self) -> Encoder:
        space = self.observation_space
        if isinstance(space, gym.spaces.Box):
            self.normalizer = ObservationNormalizer(
                space.shape, num_rows=self.config.normalization_rows
            )
            space = unbounded(space)
        like = None if self.normalizer is not None else self.encoder
        features = build_features(space, self.config.encoder, self.config.encoder_config, like=like)
        return features.requires_grad_(False)
