"""Feature maps of the RL encoder's convolutions, for losses that compare places of images."""

from typing import Any

import torch
from torch import Tensor, nn

from rlssl.errors import SpecError
from rlssl.networks.encoders import Encoder
from rlssl.networks.pixel_encoders import ImageEncoder


class FeatureMaps:
    """Reads latents and the feature maps of one convolution in the same pass of an encoder.

    Args:
        encoder: The RL encoder, or another one that contains a built-in encoder of images.
        layer: The convolution, counted from 1; None: the last but one, or the only one.
        key: The option that ``layer`` is, for messages.

    Raises:
        SpecError: If the encoder has no such convolution.

    Example:
        >>> import gymnasium as gym
        >>> from rlssl.networks import build_encoder
        >>> encoder = build_encoder(gym.spaces.Box(0, 255, (4, 10, 10), "uint8"))
        >>> maps = FeatureMaps(encoder, None, key="auxiliary.mine.layer")
        >>> maps.shape
        (16, 8, 8)
        >>> latents, found = maps(torch.zeros(5, 4, 10, 10))
        >>> latents.shape, found.shape
        (torch.Size([5, 128]), torch.Size([5, 16, 8, 8]))
    """

    def __init__(self, encoder: Encoder, layer: int | None, *, key: str) -> None:
        images = [part for part in encoder.modules() if isinstance(part, ImageEncoder)]
        if not images:
            raise SpecError(
                f"{key.rpartition('.')[0]} compares feature maps, and the encoder "
                f"{type(encoder).__name__} has none: it needs images, and an encoder that is a "
                "subclass of rlssl.networks.pixel_encoders.ImageEncoder, as all built-in encoders "
                "of images are."
            )
        layers = images[0].map_layers()
        number = max(1, len(layers) - 1) if layer is None else layer
        if number > len(layers):
            raise SpecError(
                f"{key} must be at most {len(layers)}, the convolutions of the encoder "
                f"{type(images[0]).__name__}; got {number}."
            )
        self._encoder = encoder
        self._layer: nn.Module = layers[number - 1][0]
        #: C, H, W of the maps.
        self.shape: tuple[int, int, int] = layers[number - 1][1]

    def __call__(self, obs: Any) -> tuple[Tensor, Tensor]:
        """Latents [N, D] and maps [N, C, H, W] of observations [N, ...], with gradients."""
        # Some encoders run their convolutions over pieces of a batch.
        pieces: list[Tensor] = []
        handle = self._layer.register_forward_hook(lambda _, given, maps: pieces.append(maps))
        try:
            latents: Tensor = self._encoder(obs)
        finally:
            handle.remove()
        return latents, torch.cat(pieces).float()
