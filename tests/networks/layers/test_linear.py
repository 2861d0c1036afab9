"""oneDNN's products are torch's, up to rounding, in values and in gradients of both orders."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlssl.networks.layers import linear as products
from rlssl.networks.layers.ensemble import EnsembleLinear
from rlssl.networks.layers.linear import Layers, Linear, linear

NUM_ROWS, NUM_INPUTS, NUM_OUTPUTS = 40, 32, 24


@pytest.fixture(autouse=True)
def onednn_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the processor, and however small the product."""
    monkeypatch.setattr(products, "use_onednn", True)
    monkeypatch.setattr(products, "MIN_PRODUCTS", 1)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The products that oneDNN computes."""
    seen: list[tuple[Any, ...]] = []
    product = products._product

    def counted(*args: Any) -> Tensor:
        seen.append(args)
        return product(*args)

    monkeypatch.setattr(products, "_product", counted)
    return seen


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


def plainly(x: Tensor, weight: Tensor, bias: Tensor, activation: nn.Module | None) -> Tensor:
    out = F.linear(x, weight, bias)
    return out if activation is None else activation(out)


def in_doubles(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


WEIGHTS = {
    "a layer's": lambda: drawn(NUM_OUTPUTS, NUM_INPUTS),
    "an ensemble's": lambda: drawn(NUM_INPUTS, NUM_OUTPUTS),
}


@pytest.mark.parametrize("shape", [(NUM_ROWS,), (5, 8)], ids=str)
@pytest.mark.parametrize("upstream", ["dense", "expanded", "transposed"])
@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.ELU()], ids=str)
@pytest.mark.parametrize("whose", WEIGHTS)
def test_product_and_gradients(
    whose: str,
    activation: nn.Module | None,
    upstream: str,
    shape: tuple[int, ...],
    calls: list[tuple[Any, ...]],
) -> None:
    leaves = [drawn(*shape, NUM_INPUTS), WEIGHTS[whose](), drawn(NUM_OUTPUTS)]
    references = in_doubles(*leaves)

    def outcome(x: Tensor, weight: Tensor, bias: Tensor, *, multiply: Any) -> list[Tensor]:
        out = multiply(x, weight if whose == "a layer's" else weight.t(), bias, activation)
        numbers, reverse = torch.linspace(-1, 1, out.numel()), tuple(reversed(range(out.ndim)))
        gradient = {
            "dense": numbers.reshape(out.shape),
            "expanded": torch.ones(()).expand(out.shape),
            "transposed": numbers.reshape(out.shape[::-1]).permute(reverse),
        }[upstream]
        return [out, *torch.autograd.grad(out, (x, weight, bias), gradient.to(out.dtype))]

    results = outcome(*leaves, multiply=linear)
    expected = outcome(*references, multiply=plainly)
    for result, reference in zip(results, expected, strict=True):
        torch.testing.assert_close(result.double(), reference, rtol=1e-5, atol=1e-5)
    assert results[2].stride() == leaves[1].stride()
    assert len(calls) == 3  # one forwards, two backwards


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU()], ids=str)
def test_gradients_of_gradients(activation: nn.Module) -> None:
    leaves = [drawn(NUM_ROWS, NUM_INPUTS), drawn(NUM_OUTPUTS, NUM_INPUTS), drawn(NUM_OUTPUTS)]

    def penalty_gradients(multiply: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Any:
        out = multiply(x, 0.1 * weight, bias, activation)
        (by_x,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        loss = by_x.square().sum() + 0.0 * out.sum()
        return torch.autograd.grad(loss, (x, weight, bias))

    results = penalty_gradients(linear, *leaves)
    for result, expected in zip(
        results, penalty_gradients(plainly, *in_doubles(*leaves)), strict=True
    ):
        torch.testing.assert_close(result.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", [None, nn.ReLU()], ids=str)
@pytest.mark.parametrize("shared", [True, False])
def test_ensembles_members(
    shared: bool, activation: nn.Module | None, calls: list[tuple[Any, ...]]
) -> None:
    layer = EnsembleLinear(3, NUM_INPUTS, NUM_OUTPUTS)
    x = drawn(NUM_ROWS, NUM_INPUTS) if shared else drawn(3, NUM_ROWS, NUM_INPUTS)
    upstream = torch.randn(3, NUM_ROWS, NUM_OUTPUTS)
    leaves = [x, layer.weight, layer.bias]
    results = torch.autograd.grad(layer(x, activation), leaves, upstream)
    wide_x, weight, bias = references = in_doubles(*leaves)
    out = wide_x @ weight + bias
    out = out if activation is None else activation(out)
    expected = torch.autograd.grad(out, references, upstream.double())
    for result, reference in zip(results, expected, strict=True):
        torch.testing.assert_close(result.double(), reference, rtol=1e-5, atol=1e-5)
    assert len(calls) == 9


def test_layers_compute_activations_with_products(calls: list[tuple[Any, ...]]) -> None:
    layers = Layers(Linear(NUM_INPUTS, 24), nn.ReLU(), Linear(24, 24), nn.Tanh(), Linear(24, 8))
    x, seen = drawn(NUM_ROWS, NUM_INPUTS), []
    expected = nn.Sequential(*layers)(x)
    calls.clear()
    torch.testing.assert_close(layers(x), expected)
    assert [relu for *_, relu in calls] == [True, False, False]
    layers[1].register_forward_hook(lambda *_: seen.append("called"))
    torch.testing.assert_close(layers(x), expected)
    assert seen == ["called"]


def test_no_gradient_is_computed_that_nobody_needs(calls: list[tuple[Any, ...]]) -> None:
    layer = Linear(NUM_INPUTS, NUM_OUTPUTS).requires_grad_(False)
    layer(drawn(NUM_ROWS, NUM_INPUTS)).sum().backward()
    assert len(calls) == 2
    calls.clear()
    layer(torch.randn(NUM_ROWS, NUM_INPUTS))
    assert len(calls) == 1


@pytest.mark.parametrize(
    "why", ["small", "double", "autocast", "exported", "vmap", "one row's vector"]
)
def test_torch_computes_the_rest(
    why: str, calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = Linear(NUM_INPUTS, NUM_OUTPUTS), torch.randn(NUM_ROWS, NUM_INPUTS)
    if why == "small":
        monkeypatch.setattr(products, "MIN_PRODUCTS", NUM_ROWS * NUM_INPUTS * NUM_OUTPUTS + 1)
        layer(x)
    elif why == "double":
        layer.double()(x.double())
    elif why == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(x).dtype is torch.bfloat16
    elif why == "exported":
        graph = str(torch.export.export(layer, (x,)).graph)
        assert "aten.linear" in graph and "mkldnn" not in graph
    elif why == "vmap":
        torch.func.vmap(torch.func.grad(lambda rows: layer(rows).sum()))(x.expand(3, -1, -1))
    else:
        layer(x[0])
    assert not calls
