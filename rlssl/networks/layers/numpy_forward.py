"""Small layers in numpy: for them, calling torch takes longer than the arithmetic."""

from collections.abc import Callable, Sequence

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from rlssl.networks.layers.linear import Linear

#: Multiplications of a layer above which torch is as fast. Above it, numpy also starts threads.
MAX_PRODUCTS = 2**18

_ACTIVATIONS: dict[type[nn.Module], Callable[[np.ndarray], np.ndarray]] = {
    nn.Tanh: np.tanh,
    nn.ReLU: lambda inputs: np.maximum(inputs, 0),
}


def reads_vectors(space: gym.Space | None) -> bool:
    """Whether observations are float32 vectors, which the first layer can read unchanged."""
    return isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and space.dtype == np.float32


def numpy_forward(
    layers: Sequence[nn.Module],
    num_rows: int,
    *,
    first: Sequence[Callable[[np.ndarray], np.ndarray]] = (),
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Builds a numpy function that computes the layers, in half the time of torch.

    The function shares memory with the parameters. It stays correct if parameters are changed in
    place, but not if they are replaced: then build a new function.

    Args:
        layers: Applied one after the other.
        num_rows: N.
        first: Functions of float32 [N, fan_in] to the same, applied before the layers.

    Returns:
        A function from float32 [N, fan_in] to float32 [N, fan_out], equal up to rounding. None if
        a layer is large, has hooks, or is not an nn.Tanh, an nn.ReLU or a float32 nn.Linear with
        a bias on the CPU.

    Example:
        >>> forward = numpy_forward([nn.ReLU()], num_rows=1)
        >>> forward(np.array([[-1.0, 2.0]], np.float32)).tolist()
        [[0.0, 2.0]]
    """
    steps = [*first, *(_step(layer, num_rows) for layer in layers)]
    if any(step is None for step in steps):
        return None

    def forward(inputs: np.ndarray) -> np.ndarray:
        for step in steps:
            inputs = step(inputs)  # type: ignore[misc]
        return inputs

    return forward


def with_log_std(mean: np.ndarray, log_std: np.ndarray) -> np.ndarray:
    """[N, A] and [A] to [N, 2 A], the output of ``rlssl.networks.heads.GaussianHead``."""
    return np.concatenate([mean, np.broadcast_to(log_std, mean.shape)], axis=-1)


def _step(layer: nn.Module, num_rows: int) -> Callable[[np.ndarray], np.ndarray] | None:
    if layer._forward_hooks or layer._forward_pre_hooks:
        return None
    # Other subclasses of nn.Linear may compute something else.
    if not isinstance(layer, nn.Linear) or type(layer) not in (nn.Linear, Linear):
        return _ACTIVATIONS.get(type(layer))
    weight, bias = layer.weight.detach(), layer.bias
    is_plain = weight.dtype is torch.float32 and weight.device.type == "cpu"
    if not is_plain or bias is None or num_rows * weight.numel() > MAX_PRODUCTS:
        return None
    transposed, shift = weight.numpy().T, bias.detach().numpy()

    def linear(inputs: np.ndarray) -> np.ndarray:
        outputs = inputs @ transposed
        outputs += shift
        return outputs

    return linear
