"""An auxiliary loss: predict the reward of the next action from the latent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from ray.rllib.core.columns import Columns
from torch import Tensor, nn

from rlssl.auxiliary import AuxiliaryLoss, AuxiliaryLossConfig, Encoder


class RewardPrediction(AuxiliaryLoss):
    """Mean squared error of a small head that predicts r_t from the latent of o_t.

    A simple form of reward prediction in UNREAL (Jaderberg et al. 2016, arXiv:1611.05397), which
    classifies the sign of the reward from three frames.
    """

    @dataclass(frozen=True)
    class Config(AuxiliaryLossConfig):
        """Options, in addition to ``coeff``, ``lr`` and ``schedule``."""

        # Units of the head's hidden layer; >= 1; our choice.
        hidden: int = 64

    reads = frozenset({Columns.OBS, Columns.REWARDS})
    trains = "encoder"

    def __init__(
        self,
        config: Config,
        *,
        encoder: Encoder,
        observation_space: gym.Space,
        action_space: gym.Space,
    ) -> None:
        """Builds the head; the encoder belongs to the algorithm, which trains it as well."""
        super().__init__(
            config, encoder=encoder, observation_space=observation_space, action_space=action_space
        )
        self.head = nn.Sequential(
            nn.Linear(encoder.output_dim, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1)
        )

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Per-sample losses [N]; the Learner averages them and multiplies by ``coeff``."""
        predicted = self.head(self.latents(batch)).squeeze(-1)
        return {"squared_error": (predicted - batch[Columns.REWARDS]).square()}
