"""oneDNN's products equal torch's, up to rounding, in values, first and second gradients."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from rlssl.networks.layers.ensemble import EnsembleLinear
from rlssl.networks.layers.linear import Layers, Linear, MapLinear, linear, onednn_from

NUM_ROWS, NUM_INPUTS, NUM_OUTPUTS = 40, 32, 24
ONEDNN, RELU = "mkldnn::_linear_pointwise", "aten::relu"


@pytest.fixture(autouse=True)
def onednn_for_everything() -> Iterator[None]:
    """On any processor, and for products of any size."""
    with onednn_from(1):
        yield


@contextlib.contextmanager
def counted() -> Iterator[Counter[str]]:
    """Counts the calls of torch's operators within the block, by name; filled at its end."""
    calls: Counter[str] = Counter()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        yield calls
    calls.update({event.key: event.count for event in profiler.key_averages()})


def random_leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


def torch_linear(x: Tensor, weight: Tensor, bias: Tensor, activation: nn.Module | None) -> Tensor:
    out = F.linear(x, weight, bias)
    return out if activation is None else activation(out)


def in_doubles(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


WEIGHTS = {
    "a layer's": lambda: random_leaf(NUM_OUTPUTS, NUM_INPUTS),
    "an ensemble's": lambda: random_leaf(NUM_INPUTS, NUM_OUTPUTS),
}


@pytest.mark.parametrize("shape", [(NUM_ROWS,), (5, 8)], ids=str)
@pytest.mark.parametrize("upstream", ["dense", "expanded", "transposed"])
@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.ELU()], ids=str)
@pytest.mark.parametrize("whose", WEIGHTS)
def test_product_and_gradients(
    whose: str, activation: nn.Module | None, upstream: str, shape: tuple[int, ...]
) -> None:
    leaves = [random_leaf(*shape, NUM_INPUTS), WEIGHTS[whose](), random_leaf(NUM_OUTPUTS)]
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

    with counted() as calls:
        results = outcome(*leaves, multiply=linear)
    expected = outcome(*references, multiply=torch_linear)
    for result, reference in zip(results, expected, strict=True):
        torch.testing.assert_close(result.double(), reference, rtol=1e-5, atol=1e-5)
    assert results[2].stride() == leaves[1].stride()
    assert calls[ONEDNN] == 3  # one forward, two backward


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU()], ids=str)
def test_gradients_of_gradients(activation: nn.Module) -> None:
    shapes = [(NUM_ROWS, NUM_INPUTS), (NUM_OUTPUTS, NUM_INPUTS), (NUM_OUTPUTS,)]
    leaves = [random_leaf(*shape) for shape in shapes]

    def penalty_gradients(multiply: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Any:
        out = multiply(x, 0.1 * weight, bias, activation)
        (by_x,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        loss = by_x.square().sum() + 0.0 * out.sum()
        return torch.autograd.grad(loss, (x, weight, bias))

    results = penalty_gradients(linear, *leaves)
    references = penalty_gradients(torch_linear, *in_doubles(*leaves))
    for result, expected in zip(results, references, strict=True):
        torch.testing.assert_close(result.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", [None, nn.ReLU()], ids=str)
@pytest.mark.parametrize("shared", [True, False])
def test_members_of_an_ensemble(shared: bool, activation: nn.Module | None) -> None:
    layer = EnsembleLinear(3, NUM_INPUTS, NUM_OUTPUTS)
    x = random_leaf(NUM_ROWS, NUM_INPUTS) if shared else random_leaf(3, NUM_ROWS, NUM_INPUTS)
    upstream = torch.randn(3, NUM_ROWS, NUM_OUTPUTS)
    leaves = [x, layer.weight, layer.bias]
    with counted() as calls:
        results = torch.autograd.grad(layer(x, activation), leaves, upstream)
    wide_x, weight, bias = references = in_doubles(*leaves)
    out = wide_x @ weight + bias
    out = out if activation is None else activation(out)
    expected = torch.autograd.grad(out, references, upstream.double())
    for result, reference in zip(results, expected, strict=True):
        torch.testing.assert_close(result.double(), reference, rtol=1e-5, atol=1e-5)
    assert calls[ONEDNN] == 9  # for each of three members, one forward and two backward


def test_layers_compute_a_relu_together_with_the_product() -> None:
    layers = Layers(Linear(NUM_INPUTS, 24), nn.ReLU(), Linear(24, 24), nn.Tanh(), Linear(24, 8))
    x, seen = random_leaf(NUM_ROWS, NUM_INPUTS), []
    with counted() as separate:
        expected = nn.Sequential(*layers)(x)
    with counted() as together:
        torch.testing.assert_close(layers(x), expected)
    assert (separate[ONEDNN], separate[RELU]) == (3, 1)
    assert (together[ONEDNN], together[RELU]) == (3, 0)
    layers[1].register_forward_hook(lambda *_: seen.append("called"))
    torch.testing.assert_close(layers(x), expected)
    assert seen == ["called"]


def test_gradients_that_are_not_needed_are_not_computed() -> None:
    layer = Linear(NUM_INPUTS, NUM_OUTPUTS).requires_grad_(False)
    with counted() as calls:
        layer(random_leaf(NUM_ROWS, NUM_INPUTS)).sum().backward()
    assert calls[ONEDNN] == 2  # one forward, one backward
    with counted() as calls:
        layer(torch.randn(NUM_ROWS, NUM_INPUTS))
    assert calls[ONEDNN] == 1


@pytest.mark.parametrize(
    "why", ["small", "switched off", "double", "autocast", "exported", "vmap", "one row's vector"]
)
def test_torch_computes_the_rest(why: str) -> None:
    layer, x = Linear(NUM_INPUTS, NUM_OUTPUTS), torch.randn(NUM_ROWS, NUM_INPUTS)
    with counted() as calls:
        if why == "small":
            with onednn_from(NUM_ROWS * NUM_INPUTS * NUM_OUTPUTS + 1):
                layer(x)
        elif why == "switched off":
            with onednn_from(None):
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
    assert calls[ONEDNN] == 0
    assert sum(calls.values()) > 0


@pytest.mark.parametrize("min_products", [None, 1])
@pytest.mark.parametrize("last", [False, True])
def test_map_linear_equals_a_linear_layer_on_flattened_maps(
    last: bool, min_products: int | None
) -> None:
    plain, maps = nn.Linear(3 * 4 * 5, 6), random_leaf(7, 3, 4, 5)
    given = maps.contiguous(memory_format=torch.channels_last) if last else maps
    layer, other = (MapLinear(linear, (3, 4, 5)) for linear in (plain, nn.Linear(60, 6)))
    upstream = torch.randn(7, 6)
    expected = torch.autograd.grad(plain(maps.flatten(1)), [maps, plain.weight], upstream)
    with onednn_from(min_products):
        results = torch.autograd.grad(layer(given), [maps, layer.weight], upstream)
    assert results[1].stride() == layer.weight.stride()
    torch.testing.assert_close(results[0], expected[0])
    torch.testing.assert_close(results[1].flatten(1), expected[1])
    # Both the state of an nn.Linear and of a MapLinear can be loaded.
    for state in (plain.state_dict(), layer.state_dict()):
        nn.init.zeros_(other.weight)
        other.load_state_dict(state)
        assert torch.equal(other(given), layer(given))
        assert other.weight.is_contiguous(memory_format=torch.channels_last)
