"""Orthogonal initialization of weights, used by most networks of this package."""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

#: Keeps the variance of activations through ReLU layers (He et al. 2015, arXiv:1502.01852).
HIDDEN_GAIN = math.sqrt(2.0)
#: For output layers: predictions start near 0, so policies and classifiers start near uniform.
OUTPUT_GAIN = 0.01

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def orthogonal_init(module: ModuleT, gain: float = HIDDEN_GAIN) -> ModuleT:
    """Gives every linear and convolutional layer orthogonal weights and zero biases.

    Draws from torch's global generator. A caller that must not change this generator forks it.

    Args:
        module: A layer, or a network of layers. Changed in place.
        gain: Singular value of every weight matrix.

    Returns:
        The same module.

    Source:
        Saxe et al. 2013, arXiv:1312.6120.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


def delta_orthogonal_(weight: Tensor, gain: float = HIDDEN_GAIN) -> Tensor:
    """Makes a convolution an orthogonal map of its center pixel; all other weights are 0.

    Draws from torch's global generator, as ``orthogonal_init``.

    Args:
        weight: [C_out, C_in, k, k], k odd. Changed in place.
        gain: Singular value of the center.

    Returns:
        The same tensor.

    Source:
        Xiao et al. 2018, arXiv:1806.05393.
    """
    with torch.no_grad():
        center = weight.shape[2] // 2, weight.shape[3] // 2
        weight.zero_()
        weight[:, :, *center] = nn.init.orthogonal_(weight.new_empty(weight.shape[:2]), gain)
    return weight
