"""Ensembles: equal to separate networks, in values, gradients and initial weights."""

import pytest
import torch
from torch import Tensor, nn

from rlssl.networks.layers.ensemble import EnsembleLayerNorm, EnsembleLinear, initialize


def separate(layer: EnsembleLinear) -> list[nn.Linear]:
    """The members as separate layers, with the same weights."""
    num, fan_in, fan_out = layer.weight.shape
    members = [nn.Linear(fan_in, fan_out) for _ in range(num)]
    with torch.no_grad():
        for c, member in enumerate(members):
            member.weight.copy_(layer.weight[c].T)
            member.bias.copy_(layer.bias[c, 0])
    return members


@pytest.mark.parametrize("out_features", [1, 4])
@pytest.mark.parametrize("shared", [True, False])
def test_members_equal_separate_layers(out_features: int, shared: bool) -> None:
    layer = EnsembleLinear(3, 5, out_features)
    members = separate(layer)
    x = torch.randn(7, 5) if shared else torch.randn(3, 7, 5)
    upstream = torch.randn(3, 7, out_features)
    actual = layer(x)
    expected = torch.stack([m(x if shared else x[c]) for c, m in enumerate(members)])
    torch.testing.assert_close(actual, expected)
    (actual * upstream).sum().backward()
    (expected * upstream).sum().backward()
    assert layer.weight.grad is not None and layer.bias.grad is not None
    for c, member in enumerate(members):
        assert member.weight.grad is not None and member.bias.grad is not None
        torch.testing.assert_close(layer.weight.grad[c].T, member.weight.grad)
        torch.testing.assert_close(layer.bias.grad[c, 0], member.bias.grad)


def test_layer_norms_equal_separate_layer_norms() -> None:
    layer, x = EnsembleLayerNorm(2, 6), torch.randn(2, 3, 6)
    torch.testing.assert_close(layer(x), nn.functional.layer_norm(x, (6,)))
    with torch.no_grad():
        layer.weight.uniform_()
        layer.bias.uniform_()
    for c in range(2):
        expected = nn.functional.layer_norm(x[c], (6,), layer.weight[c, 0], layer.bias[c, 0])
        torch.testing.assert_close(layer(x)[c], expected)


def assert_uniform(values: Tensor, bound: float) -> None:
    """The values fill [-bound, bound] and have the variance of a uniform, bound^2 / 3."""
    assert 0.98 * bound < values.abs().max().item() <= bound
    assert values.square().mean().item() == pytest.approx(bound**2 / 3, rel=0.05)


@pytest.mark.parametrize("how", ["built", "fan_in"])
def test_initial_weights_of_members_are_those_of_torchs_linear_layers(how: str) -> None:
    layer, reference = EnsembleLinear(2, 100, 80), nn.Linear(100, 80)
    if how == "fan_in":
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        initialize(layer, how)
    for values in (reference.weight, layer.weight[0], layer.weight[1]):
        assert_uniform(values, 0.1)  # 1 / sqrt(100)
    assert layer.bias.abs().max() <= 0.1 and layer.bias.abs().max() > 0.09
    assert not torch.equal(layer.weight[0], layer.weight[1])


@pytest.mark.parametrize("layer", [EnsembleLinear(2, 12, 8), nn.Linear(12, 8)])
def test_orthogonal_initial_weights_of_each_member(layer: nn.Linear | EnsembleLinear) -> None:
    initialize(layer, "orthogonal")
    weights = layer.weight.detach()
    for weight in weights if weights.ndim == 3 else [weights]:
        torch.testing.assert_close(torch.linalg.svdvals(weight), torch.ones(8))
    assert not layer.bias.any()
    if weights.ndim == 3:
        assert not torch.equal(weights[0], weights[1])


def test_bound_replaces_both_initializations() -> None:
    for how in ("fan_in", "orthogonal"):
        layer = EnsembleLinear(2, 100, 50)
        initialize(layer, how, 3e-3)
        assert_uniform(layer.weight, 3e-3)
        assert 0 < layer.bias.abs().max() <= 3e-3


@pytest.mark.parametrize(
    "how, bound, match", [("xavier", None, "'xavier'"), ("fan_in", 0.0, "0.0")]
)
def test_bad_options_are_named(how: str, bound: float | None, match: str) -> None:
    with pytest.raises(ValueError, match=f"got {match}"):
        initialize(nn.Linear(2, 2), how, bound)
