"""Initialization of weights, the same for every network here."""

import math
from typing import TypeVar

from torch import nn

# Keeps the variance of activations through ReLU layers (He et al. 2015, arXiv:1502.01852).
HIDDEN_GAIN = math.sqrt(2.0)
# Output layers: predictions start near 0, so policies and classifiers start near uniform.
OUTPUT_GAIN = 0.01

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def orthogonal_init(module: ModuleT, gain: float = HIDDEN_GAIN) -> ModuleT:
    """Gives every linear and convolutional layer orthogonal weights and zero biases.

    Draws from torch's global generator: a caller that must leave it untouched forks it.

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
