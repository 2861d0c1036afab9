"""Builds the encoder of the RL loss from the settings of ``model``."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rlssl.augmentations import center_crop
from rlssl.errors import SpecError
from rlssl.image_spaces import ImageSpace, Layout, image_layout, is_image, with_layout
from rlssl.networks.augmentation import parse_augmentation
from rlssl.networks.encoders import Encoder, build_encoder
from rlssl.networks.layers.vector_normalizer import VectorNormalizer


class CenterCropped(Encoder):
    """Wraps an encoder of crops: center-crops larger images first.

    Args:
        encoder: Reads images with sides of ``size`` pixels.
        size: Side of the crop, pixels.
        layout: Layout of the images.
    """

    def __init__(self, encoder: Encoder, size: int, layout: Layout) -> None:
        super().__init__()
        self.encoder, self.size, self.layout = encoder, size, layout
        self.output_dim = encoder.output_dim

    def forward(self, obs: Tensor) -> Tensor:
        """[N, C, H, W] or [N, H, W, C], sides of ``size`` pixels or more, to [N, output_dim]."""
        if self.layout == "CHW":
            return self.encoder(center_crop(obs, self.size))
        cropped = center_crop(obs.permute(0, 3, 1, 2), self.size)
        return self.encoder(cropped.permute(0, 2, 3, 1))


class BFloat16(Encoder):
    """Wraps an encoder: computes in bfloat16 where torch's autocast allows it.

    Weights, gradients and latents stay float32.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.output_dim = encoder.output_dim
        self.layout = getattr(encoder, "layout", None)

    def forward(self, obs: Any) -> Tensor:
        """[N, ...] to [N, output_dim], float32."""
        device = next(self.encoder.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            latents = self.encoder(obs)
        return latents.float()


class _Shared:
    """Holds a module that copies of its owner share, unless they are copied together with it."""

    def __init__(self, module: VectorNormalizer) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return _Shared(memo.get(id(self.module), self.module))


class NormalizedEncoder(Encoder):
    """Wraps an encoder: normalizes its observations first.

    The normalizer belongs to the RLModule and is not registered here. Copies of this encoder, such
    as target networks, use the same normalizer.

    Args:
        encoder: Reads observations with normalized vectors.
        normalizer: Changes raw observations into what ``encoder`` reads.
    """

    def __init__(self, encoder: Encoder, normalizer: VectorNormalizer) -> None:
        super().__init__()
        self.encoder = encoder
        self.output_dim = encoder.output_dim
        self.layout = getattr(encoder, "layout", None)
        self._shared = _Shared(normalizer)

    @property
    def normalizer(self) -> VectorNormalizer:
        """The normalizer, which all encoders of an RLModule share."""
        return self._shared.module

    def forward(self, obs: Any) -> Tensor:
        """[N, ...], raw, to [N, output_dim]."""
        latents: Tensor = self.encoder(self._shared.module(obs))
        return latents


def normalized_as(encoder: Encoder, like: Encoder) -> Encoder:
    """Returns ``encoder`` with the normalization of another encoder of the same space.

    Args:
        encoder: A new encoder, for example that of an auxiliary loss.
        like: The RL encoder. If it does not normalize, ``encoder`` is returned unchanged.
    """
    for part in like.modules():
        if isinstance(part, NormalizedEncoder):
            return NormalizedEncoder(encoder, part.normalizer)
    return encoder


def crop_size(setting: str | Mapping[str, Any] | None) -> int | None:
    """Side of the crop in ``model.augmentation``, pixels; None if it has no crop."""
    size: int | None = dict(parse_augmentation(setting)).get("crop")
    return size


def build_rl_encoder(space: gym.Space, settings: Mapping[str, Any]) -> Encoder:
    """Builds the encoder of the RL loss from the settings of ``.model()``.

    Args:
        space: Space of one raw stacked observation, from ``stacked_space``. If ``augmentation`` has
            a crop, the encoder reads both raw observations and crops.
        settings: ``encoder``, ``encoder_config``, ``augmentation`` and ``precision``.

    Raises:
        SpecError: If the settings do not fit each other or the space.
    """
    space = with_layout(space, settings["encoder_config"])
    size = crop_size(settings["augmentation"])
    seen = seen_space(space, settings)
    encoder = build_encoder(seen, settings["encoder"], settings["encoder_config"])
    if settings["precision"] == "bfloat16":
        encoder = BFloat16(encoder)
    if size is None:
        return encoder
    return CenterCropped(encoder, size, getattr(encoder, "layout", None) or image_layout(space))


def seen_space(space: gym.Space, settings: Mapping[str, Any]) -> gym.Space:
    """The space of what the encoder of the RL loss reads: crops, if ``augmentation`` has a crop.

    Args:
        space: Space of one raw stacked observation.
        settings: ``encoder_config`` and ``augmentation``.
    """
    space = with_layout(space, settings["encoder_config"])
    size = crop_size(settings["augmentation"])
    return space if size is None else _cropped_space(space, size)


def _cropped_space(space: gym.Space, size: int) -> ImageSpace:
    if not is_image(space):
        raise SpecError(f"model.augmentation.crop needs images; got {space}.")
    layout = image_layout(space)
    sides = [1, 2] if layout == "CHW" else [0, 1]
    if size > min(space.shape[side] for side in sides):
        raise SpecError(
            f"model.augmentation.crop.size must be at most the side of the images, {space.shape}; "
            f"got {size}. Render larger images (env.size) or use a smaller crop."
        )
    shape = [size if axis in sides else length for axis, length in enumerate(space.shape)]
    low = np.full(shape, space.low.min())
    return ImageSpace(low, np.full(shape, space.high.max()), layout)
