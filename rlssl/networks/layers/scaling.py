"""Integers of images to the numbers that networks read."""

import torch
from torch import Tensor


def cast_and_scale(
    images: Tensor, scale: float, shift: float, memory_format: torch.memory_format
) -> Tensor:
    """``scale * images + shift`` in float32; a GPU casts and scales in one kernel.

    Args:
        images: [N, C, H, W], integers.
        scale: Factor.
        shift: Added after scaling.
        memory_format: Of the result.

    Returns:
        [N, C, H, W], float32, with the bits of casting first.
    """
    scaled = torch.mul(images, scale).contiguous(memory_format=memory_format)
    return scaled.add_(shift) if shift else scaled
