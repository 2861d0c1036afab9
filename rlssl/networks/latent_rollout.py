"""Transitions of feature maps, for latents that are rolled forward many times."""

import torch
from torch import Tensor, nn


def min_max_normalized(maps: Tensor) -> Tensor:
    """[N, ...], each row shifted and scaled to [0, 1]; a constant row becomes 0.

    Example:
        >>> min_max_normalized(torch.tensor([[1.0, 3.0], [5.0, 5.0]])).tolist()
        [[0.0, 1.0], [0.0, 0.0]]

    Source:
        Schwarzer et al. 2021, arXiv:2007.05929, published code. Differs: there, a constant row is
        NaN.
    """
    rows = maps.flatten(1)
    low, high = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
    span = high - low
    scaled = (rows - low) / torch.where(span > 0, span, 1.0)
    return scaled.view_as(maps)


class ConvTransition(nn.Module):
    """The next feature maps from feature maps and an action.

    The encoded action is added as constant planes; then a 3x3 convolution, ReLU, BatchNorm, and a
    3x3 convolution, ReLU. The result is scaled to [0, 1] by `min_max_normalized`.

    Args:
        channels: C of the maps.
        action_dim: A, features of an encoded action.
        hidden: Channels between the convolutions.

    Source:
        Schwarzer et al. 2021, arXiv:2007.05929, published code.

    Example:
        >>> ConvTransition(8, 2)(torch.zeros(5, 8, 3, 3), torch.zeros(5, 2)).shape
        torch.Size([5, 8, 3, 3])
    """

    def __init__(self, channels: int, action_dim: int, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels + action_dim, hidden, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(hidden),
            nn.Conv2d(hidden, channels, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, maps: Tensor, action: Tensor) -> Tensor:
        """[N, C, H, W], from maps [N, C, H, W] and actions [N, A]."""
        planes = action[:, :, None, None].expand(-1, -1, *maps.shape[2:])
        return min_max_normalized(self.layers(torch.cat([maps, planes], dim=1)))
