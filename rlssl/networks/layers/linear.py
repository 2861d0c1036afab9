"""Linear layers whose large products oneDNN computes where MKL leaves AVX-512 unused.

torch's matrix products on x86 are MKL's, which uses AVX-512 on Intel's processors alone; oneDNN,
which computes torch's convolutions, uses it on AMD's, too. Two matrices of 256 x 256 take 0.17
instead of 0.35 ms of a core of an EPYC, forwards and backwards of such a layer 0.56 instead of
1.15 ms. A ReLU behind such a product is computed with it.
"""

import os
from pathlib import Path
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Set to 0, this leaves all products to torch.
SWITCH = "RLSSL_ONEDNN"

#: Multiplications from which on oneDNN is faster, gradients and Python's share included.
MIN_PRODUCTS = 5 * 2**18


def _mkl_lacks_avx512() -> bool:
    """Whether torch's products are MKL's here, and the processor is AMD's, with AVX-512."""
    backends = torch.backends
    if os.environ.get(SWITCH) == "0" or not backends.mkl.is_available():
        return False
    if not backends.mkldnn.is_available() or backends.cpu.get_cpu_capability() != "AVX512":
        return False
    processors = Path("/proc/cpuinfo")
    return processors.exists() and "AuthenticAMD" in processors.read_text()


#: Whether oneDNN is asked at all.
use_onednn = _mkl_lacks_avx512()


class Linear(nn.Linear):
    """``torch.nn.Linear``, up to rounding, and in half the time where the module says."""

    def forward(self, x: Tensor, activation: nn.Module | None = None) -> Tensor:
        """[..., in_features] to [..., out_features]; see ``linear``."""
        return linear(x, self.weight, self.bias, activation)


class Layers(nn.Sequential):
    """nn.Sequential for small layers, where calling a module takes as long as what it computes.

    An activation is computed with the ``Linear`` before it. A layer with hooks is called as usual.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, fan_in] to [N, fan_out]."""
        waiting: Linear | None = None
        for layer in self._modules.values():
            assert layer is not None  # for mypy
            if waiting is not None:
                joins = type(layer) is nn.ReLU
                inputs = waiting.forward(inputs, layer if joins else None)
                waiting = None
                if joins:
                    continue
            if type(layer) is Linear and not _has_hooks(layer):
                waiting = layer
            else:
                inputs = activated(inputs, layer)
        return inputs if waiting is None else waiting.forward(inputs)


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: nn.Module | None = None
) -> Tensor:
    """``activation(x @ weight.T + bias)``, as ``torch.nn.functional.linear``.

    Args:
        x: [..., in].
        weight: [out, in]; its gradient lies in memory as it does.
        bias: [out].
        activation: None: none.
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


def activated(x: Tensor, layer: nn.Module | None) -> Tensor:
    """``layer(x)``, without what calling a module does besides where it has no hooks; None: x."""
    if layer is None:
        return x
    outputs: Tensor = layer(x) if _has_hooks(layer) else layer.forward(x)
    return outputs


def activated_in_place(x: Tensor, layer: nn.Module | None) -> Tensor:
    """As ``activated``, of an ``x`` that nobody else reads: a ReLU is written over it."""
    return x.relu_() if _is_plain_relu(layer) else activated(x, layer)


def is_for_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether ``linear`` takes oneDNN's product: on the CPU, in float32, where it is large."""
    return (
        use_onednn
        and x.ndim >= 2
        and x.numel() * weight.shape[0] >= MIN_PRODUCTS
        and x.is_cpu
        and x.dtype is weight.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
        # Exported programs are for other machines.
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        # torch.func's transforms do not know the product.
        and not torch._C._are_functorch_transforms_active()
    )


class _Linear(torch.autograd.Function):
    """The product with its gradients; these can be differentiated in turn."""

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
    """oneDNN's; the only place that knows torch's name for it."""
    then = "relu" if relu else "none"
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "")
    return product


def _is_plain_relu(layer: nn.Module | None) -> TypeGuard[nn.ReLU]:
    return type(layer) is nn.ReLU and not _has_hooks(layer)


def _has_hooks(layer: nn.Module) -> bool:
    forwards = layer._forward_hooks or layer._forward_pre_hooks
    return bool(forwards or layer._backward_hooks or layer._backward_pre_hooks)
