"""Orthogonal initialization: singular values, biases, convolutions."""

import math

import torch
from torch import nn

from rlssl.networks.layers.initialization import delta_orthogonal_, orthogonal_init


def test_orthogonal_init_sets_all_singular_values_to_the_gain_and_biases_to_zero() -> None:
    network = orthogonal_init(nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Linear(8, 4)))
    for layer in (network[0], network[2]):
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        singular = torch.linalg.svdvals(layer.weight.detach().flatten(1))
        torch.testing.assert_close(singular, torch.full_like(singular, math.sqrt(2)))
        assert layer.bias is not None and not layer.bias.any()


def test_delta_orthogonal_convolution_keeps_the_norm_of_every_pixel() -> None:
    weight = delta_orthogonal_(torch.empty(8, 4, 3, 3), gain=1.0)
    images = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    mapped = nn.functional.conv2d(images, weight, padding=1)
    torch.testing.assert_close(mapped.norm(dim=1), images.norm(dim=1))
