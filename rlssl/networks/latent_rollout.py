"""Transitions of latents and of feature maps that are rolled forward many times."""

import torch
from torch import Tensor, nn

from rlssl.networks.layers.linear import Layers, Linear


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


class MLPTransition(nn.Module):
    """The next latent from a latent and an action: Linear, LayerNorm, ReLU, Linear.

    Args:
        latent_dim: D of a latent.
        action_dim: A, features of an encoded action.
        hidden: Features between the layers.

    Example:
        >>> MLPTransition(8, 2, 16)(torch.zeros(5, 8), torch.zeros(5, 2)).shape
        torch.Size([5, 8])
    """

    def __init__(self, latent_dim: int, action_dim: int, hidden: int) -> None:
        super().__init__()
        self.layers = Layers(
            Linear(latent_dim + action_dim, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            Linear(hidden, latent_dim),
        )

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """[N, D], from latents [N, D] and actions [N, A]."""
        return self.layers(torch.cat([latent, action], dim=1))


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
