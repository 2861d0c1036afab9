"""Random network distillation, the part that its bonuses share: networks, loss, normalization."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.auxiliary.base import AuxiliaryLoss
from rlssl.auxiliary.bonus_options import BonusConfig
from rlssl.auxiliary.normalization import RunningNormalizer, unbounded
from rlssl.batches import device_of, take_rows
from rlssl.image_spaces import last_frame, last_frame_space
from rlssl.losses import forward_dynamics_loss
from rlssl.networks.curiosity import Distiller
from rlssl.networks.encoders import Encoder, build_encoder
from rlssl.networks.rl_encoder import normalized_as
from rlssl.networks.update_rng import UpdateRNG

#: Largest size of a normalized observation, in standard deviations, as published.
OBSERVATION_LIMIT = 5.0


@dataclasses.dataclass(frozen=True)
class DistillationConfig(BonusConfig):
    """Options of the losses that distill a random network."""

    # Share of the rows, drawn in each update, that train the predictor; in (0, 1]. Published: 1,
    # and 0.25 with 128 environments.
    update_share: float = 1.0
    # D of the target's and the predictor's output; > 0; published: 512.
    output_dim: int = 512
    # Features of the predictor's hidden layer after its encoder; > 0; published: 512.
    hidden: int = 512
    # Name of the encoder of target and predictor; None: chosen from the space of a frame.
    encoder: str | None = None
    # Options of that encoder.
    encoder_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            ValueError: If a value is out of range; the message names field and value.
        """
        super().__post_init__()
        if not 0.0 < self.update_share <= 1.0:
            raise ValueError(f"update_share must be in (0, 1]; got {self.update_share}.")
        for key in ("output_dim", "hidden"):
            value = getattr(self, key)
            if type(value) is not int or value <= 0:
                raise ValueError(f"{key} must be a whole number > 0; got {value!r}.")


class DistillationLoss(AuxiliaryLoss):
    """A predictor learns the output of a random network on the next observations.

    With the target f, which is never trained, the predictor g, and x the last frame of the next
    observation, normalized by its running mean and standard deviation and clipped to +-5::

        loss = mean over features of (g(x) - f(x))^2

    The error is low for observations that resemble those that trained the predictor.
    """

    config: DistillationConfig

    trains = "own"

    def __init__(self, config: DistillationConfig, **given: Any) -> None:
        super().__init__(config, **given)
        space = last_frame_space(self.observation_space, self.frame_stack)
        self.normalizer: RunningNormalizer | None = None
        if isinstance(space, gym.spaces.Box):
            self.normalizer = RunningNormalizer(space.shape, limit=OBSERVATION_LIMIT)
            space = unbounded(space)
        self.target = Distiller(self._make_encoder(space), config.output_dim, hidden=None)
        self.target.requires_grad_(False)
        self.predictor = Distiller(
            self._make_encoder(space), config.output_dim, hidden=config.hidden
        )
        self.update_rng = UpdateRNG()

    def losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``distillation``, [M], squared units of the target, at the M rows that are drawn."""
        observations = self._drawn(batch[Columns.NEXT_OBS], len(batch[Columns.ACTIONS]))
        return {
            "distillation": forward_dynamics_loss(*self.outputs(observations), reduction="mean")
        }

    def after_update(self) -> None:
        """Renews the random draws."""
        self.update_rng.after_update()

    def observe(self, observations: Any) -> None:
        """Adds observations of all Learners, [N, ...], to the statistics that normalize them."""
        if self.normalizer is not None:
            self.normalizer.observe(self.peers.gather(self._last_frame(observations)))

    def outputs(self, observations: Any) -> tuple[Tensor, Tensor]:
        """[N, D] each: the predictor's output, and the target's without a gradient."""
        frames = self._last_frame(observations)
        if self.normalizer is not None:
            frames = self.normalizer(frames)
        with torch.no_grad():
            target = self.target(frames)
        return self.predictor(frames), target

    def _last_frame(self, observations: Any) -> Any:
        return last_frame(observations, self.observation_space, self.frame_stack)

    def _make_encoder(self, space: gym.Space) -> Encoder:
        encoder = build_encoder(space, self.config.encoder, self.config.encoder_config)
        return encoder if self.normalizer is not None else normalized_as(encoder, self.encoder)

    def _drawn(self, observations: Any, num_rows: int) -> Any:
        """The rows that train the predictor; every row is drawn with probability update_share."""
        if self.config.update_share == 1.0:
            return observations
        device = device_of(observations)
        generator = self.update_rng.generator(device)
        first, total = self.peers.rows(num_rows)
        drawn = torch.rand(total, generator=generator, device=generator.device)
        is_used = drawn[first : first + num_rows] < self.config.update_share
        return take_rows(observations, is_used.nonzero().squeeze(-1).to(device))
