"""Noisy layers: by hand, statistics of the noise, switches, gradients, checkpoints."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlssl.networks.layers.noisy import NoisyLinear, noisy_layers, reset_noise, set_use_noise


def noisy_linear(in_features: int, out_features: int, **options: Any) -> NoisyLinear:
    given = {"sigma0": 0.5, "noise": "factorized", "bias_sigma_fan": "in", **options}
    return NoisyLinear(in_features, out_features, **given)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weight_noise_of(layer: NoisyLinear) -> Tensor:
    """[out, in], measured with unit vectors: noisy weights minus means, divided by sigmas."""
    eye = torch.eye(layer.in_features, dtype=layer.weight_mean.dtype)
    set_use_noise(layer, False)
    means = layer(eye) - layer(0 * eye)
    set_use_noise(layer, True)
    noisy = layer(eye) - layer(0 * eye)
    return ((noisy - means).T / layer.weight_sigma).detach()


def f(p: float) -> float:
    return math.copysign(math.sqrt(abs(p)), p)


def test_factorized_forward_by_hand() -> None:
    layer = noisy_linear(2, 1)
    with torch.no_grad():
        layer.weight_mean.copy_(torch.tensor([[1.0, 2.0]]))
        layer.weight_sigma.copy_(torch.tensor([[0.5, 1.0]]))
        layer.bias_mean.fill_(3.0)
        layer.bias_sigma.fill_(0.1)
    layer.noise_values = torch.tensor([2.0, -1.0, 3.0])  # of the inputs, then of the output
    # Weights 1 + 0.5 * 3 * 2 = 4 and 2 + 1 * 3 * -1 = -1, bias 3 + 0.1 * 3 = 3.3.
    assert layer(torch.tensor([[1.0, 10.0]])).item() == pytest.approx(4 - 10 + 3.3)
    set_use_noise(layer, False)
    assert layer(torch.tensor([[1.0, 10.0]])).item() == 1 + 20 + 3


def test_independent_forward_by_hand() -> None:
    layer = noisy_linear(2, 2, noise="independent")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1.0)
    layer.noise_values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    # Weights 1 + [[1, 2], [3, 4]], biases 1 + [5, 6]: 2 + 3 + 6 = 11, 4 + 5 + 7 = 16.
    assert layer(torch.ones(1, 2)).tolist() == [[11.0, 16.0]]


def test_factorized_noise_is_sign_times_root_of_normal_draws() -> None:
    layer = noisy_linear(3, 2, generator=generator())
    drawn = torch.randn(5, generator=generator()).tolist()
    # The first draw of the generator is the noise: the means come from the global generator.
    expected = torch.tensor([[f(q) * f(p) for p in drawn[:3]] for q in drawn[3:]])
    torch.testing.assert_close(weight_noise_of(layer), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("noise", ["factorized", "independent"])
def test_statistics_of_the_noise(noise: str) -> None:
    # Factorized: an element is f(p) f(q), E f = 0, E f^2 = E|p| = sqrt(2 / pi) = 0.798: mean 0,
    # variance 2 / pi = 0.637. Independent: mean 0, variance 1.
    layer = noisy_linear(20, 30, noise=noise, sigma0=1.0, generator=generator())
    draws = []
    for _ in range(400):
        layer.reset_noise()
        draws.append(weight_noise_of(layer))
    noises = torch.stack(draws).double()
    variance = 2 / math.pi if noise == "factorized" else 1.0
    assert noises.mean().item() == pytest.approx(0.0, abs=0.01)
    assert noises.square().mean().item() == pytest.approx(variance, rel=0.03)
    # Factorized noise has rank 1, independent noise has full rank.
    assert torch.linalg.matrix_rank(noises[0], rtol=1e-3).item() == (1 if noise[0] == "f" else 20)


@pytest.mark.parametrize(
    "noise, fan, mean_bound, bias_sigma",
    [
        ("factorized", "in", 0.1, 0.05),
        ("factorized", "out", 0.1, 0.1),
        ("independent", "in", math.sqrt(0.03), 0.05),
    ],
)
def test_initial_means_and_sigmas(
    noise: str, fan: str, mean_bound: float, bias_sigma: float
) -> None:
    # 100 inputs: 1 / sqrt(100) = 0.1, sqrt(3 / 100); sigma 0.5 / 10. 25 outputs: 0.5 / 5.
    layer = noisy_linear(100, 25, noise=noise, bias_sigma_fan=fan)
    assert 0.95 * mean_bound < layer.weight_mean.abs().max().item() <= mean_bound
    assert layer.bias_mean.abs().max().item() <= mean_bound
    torch.testing.assert_close(layer.weight_sigma.detach(), torch.full((25, 100), 0.05))
    torch.testing.assert_close(layer.bias_sigma.detach(), torch.full((25,), bias_sigma))


def test_old_spelling_of_factorized_builds_the_same_layer() -> None:
    layers = []
    for noise in ("factorized", "factorised"):
        torch.manual_seed(0)
        layers.append(noisy_linear(4, 3, noise=noise))
    today, old = layers
    assert today.noise == old.noise == "factorized"
    assert torch.equal(today(torch.ones(1, 4)), old(torch.ones(1, 4)))


def test_train_and_eval_change_nothing() -> None:
    layer, x = noisy_linear(4, 3), torch.ones(1, 4)
    noisy = layer.train()(x)
    assert torch.equal(layer.eval()(x), noisy)
    layer.use_noise = False
    means = layer(x)
    assert torch.equal(layer.train()(x), means) and not torch.equal(means, noisy)


@pytest.mark.parametrize("noise", ["factorized", "independent"])
def test_noise_does_not_change_until_it_is_reset(noise: str) -> None:
    layer, x = noisy_linear(4, 3, noise=noise), torch.ones(1, 4)
    first = layer(x)
    assert torch.equal(layer(x), first)
    layer.reset_noise()
    assert not torch.equal(layer(x), first)


@pytest.mark.parametrize("noise", ["factorized", "independent"])
def test_gradients_equal_the_definition(noise: str) -> None:
    layer = noisy_linear(3, 2, noise=noise, generator=generator()).double()
    x = torch.randn(5, 3, generator=generator(), dtype=torch.float64, requires_grad=True)
    noises = weight_noise_of(layer)
    upstream = torch.randn(5, 2, generator=generator(), dtype=torch.float64)
    (layer(x) * upstream).sum().backward()
    assert layer.weight_mean.grad is not None and layer.weight_sigma.grad is not None
    torch.testing.assert_close(layer.weight_mean.grad, upstream.T @ x)
    torch.testing.assert_close(layer.weight_sigma.grad, (upstream.T @ x) * noises)
    assert layer.bias_mean.grad is not None and layer.bias_sigma.grad is not None
    torch.testing.assert_close(layer.bias_mean.grad, upstream.sum(0))
    bias_noise = layer.noise_values[-2:]
    torch.testing.assert_close(layer.bias_sigma.grad, upstream.sum(0) * bias_noise)


@pytest.mark.parametrize("noise", ["factorized", "independent"])
def test_reset_between_forward_and_backward_does_not_change_the_gradient(noise: str) -> None:
    layer, x = noisy_linear(3, 2, noise=noise), torch.ones(1, 3)
    expected = torch.autograd.grad(layer(x).sum(), list(layer.parameters()))
    loss = layer(x).sum()
    layer.reset_noise()
    assert all(
        torch.equal(a, b)
        for a, b in zip(expected, torch.autograd.grad(loss, list(layer.parameters())), strict=True)
    )


def test_reset_and_switch_of_a_network_reach_all_its_layers() -> None:
    network = nn.Sequential(noisy_linear(4, 4), nn.ReLU(), noisy_linear(4, 4), nn.Linear(4, 1))
    first, second = noisy_layers(network)
    reset_noise(network, generator())
    assert not torch.equal(first.noise_values, second.noise_values)
    values = [layer.noise_values for layer in (first, second)]
    reset_noise(network, generator())
    assert torch.equal(torch.stack(values), torch.stack([first.noise_values, second.noise_values]))
    reset_noise(network)
    assert not torch.equal(first.noise_values, values[0])
    assert not torch.equal(first.noise_values, second.noise_values)
    set_use_noise(network, False)
    assert not first.use_noise and not second.use_noise


def test_checkpoint_restores_the_noise() -> None:
    layer, other, x = noisy_linear(4, 3), noisy_linear(4, 3), torch.ones(1, 4)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert torch.equal(other(x), layer(x))


def test_copy_of_a_layer_draws_the_same_noise_unless_it_gets_another_generator() -> None:
    layer = noisy_linear(4, 3)
    twin = copy.deepcopy(layer)
    layer.reset_noise()
    twin.reset_noise()
    assert torch.equal(layer.noise_values, twin.noise_values)
    twin.reset_noise(generator(7))
    assert not torch.equal(layer.noise_values, twin.noise_values)


def test_reset_does_not_draw_from_torchs_global_generator() -> None:
    layer = noisy_linear(4, 3)
    before = torch.random.get_rng_state()
    layer.reset_noise()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.gpu
def test_noise_of_a_layer_on_a_device_comes_from_a_generator_on_the_cpu() -> None:
    layer = noisy_linear(4, 3).cuda()
    reset_noise(layer, generator())
    on_device = layer.noise_values
    assert on_device.is_cuda
    reset_noise(layer.cpu(), generator())
    torch.testing.assert_close(on_device.cpu(), layer.noise_values)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"noise": "fctorized"}, "got 'fctorized'"),
        ({"bias_sigma_fan": "both"}, "got 'both'"),
        ({"sigma0": -0.5}, "sigma0 must be >= 0; got -0.5"),
    ],
)
def test_bad_options_are_named(arguments: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        noisy_linear(2, 2, **arguments)
