"""Linear layers whose large matrix products are computed by oneDNN on AMD processors.

On x86, torch computes matrix products with MKL, which uses AVX-512 only on Intel processors.
oneDNN, which computes torch's convolutions, also uses AVX-512 on AMD processors. On one core of an
EPYC, the product of two 256 x 256 matrices takes 0.17 ms instead of 0.35 ms; the forward and
backward pass of such a layer takes 0.56 ms instead of 1.15 ms. oneDNN also computes a ReLU that
follows the product.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Environment variable; with the value 0, torch computes all products.
SWITCH = "RLSSL_ONEDNN"

#: Multiplications above which oneDNN is faster, including gradients and the overhead of Python.
MIN_PRODUCTS = 5 * 2**18


def _mkl_lacks_avx512() -> bool:
    """Whether torch uses MKL and the processor is an AMD with AVX-512."""
    backends = torch.backends
    if os.environ.get(SWITCH) == "0" or not backends.mkl.is_available():
        return False
    if not backends.mkldnn.is_available() or backends.cpu.get_cpu_capability() != "AVX512":
        return False
    processors = Path("/proc/cpuinfo")
    return processors.exists() and "AuthenticAMD" in processors.read_text()


# Multiplications of the smallest product that oneDNN computes; None: torch computes all of them.
_min_products: int | None = MIN_PRODUCTS if _mkl_lacks_avx512() else None


@contextlib.contextmanager
def onednn_from(min_products: int | None) -> Iterator[None]:
    """Sets, within a ``with`` block, which products oneDNN computes.

    Args:
        min_products: Multiplications of the smallest product that oneDNN computes, on any
            processor; None: torch computes all products.
    """
    global _min_products
    before, _min_products = _min_products, min_products
    try:
        yield
    finally:
        _min_products = before


class Linear(nn.Linear):
    """``torch.nn.Linear``: equal up to rounding, faster on AMD processors.

    Example:
        >>> layer = Linear(2, 1)
        >>> _ = nn.init.ones_(layer.weight), nn.init.zeros_(layer.bias)
        >>> layer(torch.tensor([[1.0, 2.0]])).tolist()
        [[3.0]]
    """

    def forward(self, x: Tensor, activation: nn.Module | None = None) -> Tensor:
        """[..., in_features] to [..., out_features]; see ``linear``."""
        return linear(x, self.weight, self.bias, activation)


class Layers(nn.Sequential):
    """nn.Sequential for small layers, where calling a module takes as long as its computation.

    A ReLU is computed together with the ``Linear`` before it. A layer with hooks is called as
    usual.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, fan_in] to [N, fan_out]."""
        pending: Linear | None = None  # not computed yet: a ReLU may follow
        for layer in self._modules.values():
            assert layer is not None  # for mypy
            if pending is not None:
                is_relu = type(layer) is nn.ReLU
                inputs = pending.forward(inputs, layer if is_relu else None)
                pending = None
                if is_relu:
                    continue
            if type(layer) is Linear and not _has_hooks(layer):
                pending = layer
            else:
                inputs = activated(inputs, layer)
        return inputs if pending is None else pending.forward(inputs)


class MapLinear(nn.Module):
    """A linear layer that reads feature maps [N, C, H, W] in channels-last format.

    Its weight is [out_features, C, H, W], in channels-last format. So neither features nor
    gradients are copied. The state of the ``nn.Linear`` that this layer replaces can be loaded.

    Args:
        linear: Provides the weights.
        shape: C, H, W.
    """

    def __init__(self, linear: nn.Linear, shape: Sequence[int]) -> None:
        super().__init__()
        maps = linear.weight.detach().unflatten(1, tuple(shape))
        self.weight = nn.Parameter(maps.contiguous(memory_format=torch.channels_last))
        self.bias = linear.bias

    def forward(self, features: Tensor) -> Tensor:
        """[N, C, H, W] to [N, out_features]."""
        rows, weight = (maps.permute(0, 2, 3, 1).flatten(1) for maps in (features, self.weight))
        return linear(rows, weight, self.bias)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        out_features, *shape = self.weight.shape
        return f"{tuple(shape)}, {out_features}"

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        key = f"{prefix}weight"
        if key in state and state[key].ndim == 2:
            state[key] = state[key].unflatten(1, self.weight.shape[1:])
        super()._load_from_state_dict(state, prefix, *args)


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: nn.Module | None = None
) -> Tensor:
    """``activation(x @ weight.T + bias)``; otherwise as ``torch.nn.functional.linear``.

    Args:
        x: [..., in].
        weight: [out, in]. The gradient has the memory layout of the weight.
        bias: [out].
        activation: Applied to the product; None: no activation.

    Returns:
        [..., out].
    """
    if not is_for_onednn(x, weight):
        return activated_in_place(F.linear(x, weight, bias), activation)
    relu = _is_plain_relu(activation)
    rows = x if x.ndim == 2 else x.flatten(0, -2)
    if torch.is_grad_enabled():
        outputs = _Linear.apply(rows, weight, bias, relu)
    else:
        outputs = _product(rows, weight, bias, relu)
    if x.ndim != 2:
        outputs = outputs.unflatten(0, x.shape[:-1])
    return outputs if relu else activated(outputs, activation)


def by_columns(
    x: Tensor, weight: Tensor, bias: Tensor, activation: nn.Module | None = None
) -> Tensor:
    """As ``linear``, for a weight [in, out]; without views of it, which autograd would record.

    Args:
        x: [N, in].
        weight: [in, out].
        bias: [out] or [1, out].
        activation: As in ``linear``.

    Returns:
        [N, out].

    Example:
        >>> by_columns(torch.ones(1, 2), torch.tensor([[1.0], [2.0]]), torch.zeros(1)).tolist()
        [[3.0]]
    """
    if is_for_onednn(x, weight, len(x) * weight.numel()):
        return linear(x, weight.t(), bias.flatten(), activation)
    return activated_in_place(torch.addmm(bias, x, weight), activation)


def activated(x: Tensor, layer: nn.Module | None) -> Tensor:
    """``layer(x)``, without the overhead of ``__call__`` if it has no hooks; ``x`` if None."""
    if layer is None:
        return x
    outputs: Tensor = layer(x) if _has_hooks(layer) else layer.forward(x)
    return outputs


def activated_in_place(x: Tensor, layer: nn.Module | None) -> Tensor:
    """As ``activated``, but a ReLU overwrites ``x``: no other code may read it afterwards."""
    return x.relu_() if _is_plain_relu(layer) else activated(x, layer)


def is_for_onednn(x: Tensor, weight: Tensor, num_products: int | None = None) -> bool:
    """Whether oneDNN computes ``linear``: a large product in float32 on the CPU.

    Args:
        x: As in ``linear``.
        weight: As in ``linear``; only its dtype is read if ``num_products`` is given.
        num_products: Multiplications; None: those of ``linear``.
    """
    return (
        _min_products is not None
        and x.ndim >= 2
        and (num_products or x.numel() * weight.shape[0]) >= _min_products
        and x.is_cpu
        and x.dtype is weight.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
        # Exported programs also run on other machines.
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        # The transforms of torch.func do not support oneDNN's operator.
        and not torch._C._are_functorch_transforms_active()
    )


class _Linear(torch.autograd.Function):
    """oneDNN's product with gradients, which can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        outputs = _product(x, weight, bias, relu)
        ctx.save_for_backward(x, weight, outputs if relu else None)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight, rectified = ctx.saved_tensors
        if rectified is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, rectified, 0)
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        by_weight = None
        if needs_weight and weight.is_contiguous():
            by_weight = linear(gradient.t(), x.t())
        elif needs_weight:
            by_weight = linear(x.t(), gradient.t()).t()
        return (
            linear(gradient, weight.t()) if needs_x else None,
            by_weight,
            gradient.sum(dim=0) if needs_bias else None,
            None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """Product of oneDNN; the only place with torch's name of the operator."""
    then = "relu" if relu else "none"
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "")
    return product


def _is_plain_relu(layer: nn.Module | None) -> TypeGuard[nn.ReLU]:
    return type(layer) is nn.ReLU and not _has_hooks(layer)


def _has_hooks(layer: nn.Module) -> bool:
    forwards = layer._forward_hooks or layer._forward_pre_hooks
    return bool(forwards or layer._backward_hooks or layer._backward_pre_hooks)
