"""Reconstruction: the error between observations and what a decoder makes of latents."""

import math

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from rlssl.auxiliary.normalization import RunningMoments, divisor
from rlssl.errors import SpecError
from rlssl.image_spaces import image_layout
from rlssl.networks.decoders import VectorDecoder, fitting_pixel_decoder, quantize_pixels
from rlssl.networks.encoders import Encoder
from rlssl.peers import ALONE, Peers


class Reconstruction(nn.Module):
    """Mean squared error between observations and what a decoder makes of their latents.

    The target of a vector is standardized: each element has its running mean subtracted and is
    divided by its running standard deviation (std). The target of an image in [0, 255] is what
    `quantize_pixels` gives; other images are divided by the largest value of their space.

    Args:
        space: The space of one stacked observation.
        encoder: An encoder of that space.
        hidden: Features of the hidden layer; used by a decoder of vectors only.

    Raises:
        SpecError: If observations are neither vectors nor images.
    """

    def __init__(self, space: gym.Space, encoder: Encoder, *, hidden: int = 512) -> None:
        super().__init__()
        if not isinstance(space, gym.spaces.Box):
            raise SpecError(
                f"a decoder gives vectors and images; got {space}. Leave the decoder out, or wrap "
                "the environment so that it gives a Box (gymnasium's FlattenObservation)."
            )
        self.layout: str | None = None
        self.moments: RunningMoments | None = None
        self._seen: Tensor | None = None
        self.largest = float(np.max(space.high))
        if len(space.shape) == 3:
            self.layout = getattr(encoder, "layout", None) or image_layout(space)
            shape = space.shape if self.layout == "CHW" else (space.shape[2], *space.shape[:2])
            self.decoder: nn.Module = fitting_pixel_decoder(encoder.output_dim, shape)
        else:
            size = int(np.prod(space.shape))
            self.moments = RunningMoments((size,))
            self.decoder = VectorDecoder(encoder.output_dim, size, hidden=hidden)

    def forward(
        self, latents: Tensor, observations: Tensor, generator: torch.Generator, peers: Peers
    ) -> Tensor:
        """[N], error of latents [N, D] and observations [N, ...]; gradients reach the latents."""
        if self.moments is not None:
            self._seen = peers.gather(self._vectors(observations))
        target = self._target(observations, generator, peers)
        return (self.decoder(latents) - target).square().flatten(1).mean(dim=1)

    def error_of_mean(self, observations: Tensor, generator: torch.Generator) -> Tensor:
        """The error of the best constant prediction: the targets' variance, averaged over elements.

        A decoder whose error is not smaller has learned nothing but the mean observation.

        Args:
            observations: [N, ...], of this Learner; N >= 1.
            generator: Draws the dither of images.

        Returns:
            Scalar, in the units of ``forward``.
        """
        target = self._target(observations, generator, ALONE)
        return target.var(dim=0, correction=0).mean()

    def after_update(self) -> None:
        """Adds the vectors of this update to their running mean and std."""
        if self.moments is not None and self._seen is not None and len(self._seen):
            self.moments.update(self._seen)
        self._seen = None

    @staticmethod
    def _vectors(observations: Tensor) -> Tensor:
        """[N, D] float32 of [N, ...], or of [N] numbers."""
        return observations.reshape(len(observations), math.prod(observations.shape[1:])).float()

    @torch.no_grad()
    def _target(self, observations: Tensor, generator: torch.Generator, peers: Peers) -> Tensor:
        if self.moments is None:
            images = observations.permute(0, 3, 1, 2) if self.layout == "HWC" else observations
            if self.largest == 255:
                rows = peers.rows(len(images))
                return quantize_pixels(images, generator=generator, rows=rows)
            scale = self.largest if 0 < self.largest < float("inf") else 1.0
            return images.float() / scale - 0.5
        vectors = self._vectors(observations)
        mean, variance = self.moments.mean, self.moments.variance
        if self.moments.count < 2 and self._seen is not None and len(self._seen):
            mean, variance = self._seen.mean(0), self._seen.var(0, correction=0)
        return (vectors - mean) / divisor(mean, variance)
