"""Critics: twins equal two networks, the layer that reads the action, initial weights."""

from typing import Any

import pytest
import torch
from torch import nn

from rlssl.networks.critics import QCritics
from rlssl.networks.layers.ensemble import EnsembleLinear
from rlssl.networks.layers.linear import onednn_from


def critics_of(latent_dim: int, action_dim: int, **options: Any) -> QCritics:
    given = {
        "hidden": (256, 256),
        "num_critics": 2,
        "init": "fan_in",
        "final_bound": None,
        **options,
    }
    return QCritics(latent_dim, action_dim, **given)


def ensemble_layers(critics: QCritics) -> list[EnsembleLinear]:
    return [layer for layer in critics.layers if isinstance(layer, EnsembleLinear)]


def separate(critics: QCritics, member: int) -> list[nn.Linear]:
    """The layers of one critic as nn.Linear, with the same weights."""
    layers = []
    for layer in ensemble_layers(critics):
        plain = nn.Linear(layer.weight.shape[1], layer.weight.shape[2])
        with torch.no_grad():
            plain.weight.copy_(layer.weight[member].T)
            plain.bias.copy_(layer.bias[member, 0])
        layers.append(plain)
    return layers


@pytest.mark.parametrize("action_layer", [1, 2, 3])
@pytest.mark.parametrize("num_critics", [1, 2])
def test_critics_equal_separate_networks_with_the_same_weights(
    action_layer: int, num_critics: int
) -> None:
    critics = critics_of(5, 2, hidden=(16, 8), num_critics=num_critics, action_layer=action_layer)
    latent, action = torch.randn(9, 5), torch.randn(9, 2)
    values = critics(latent, action)
    assert values.shape == (num_critics, 9)
    values.square().sum().backward()
    for member in range(num_critics):
        layers = separate(critics, member)
        x = latent
        for index, layer in enumerate(layers, start=1):
            x = layer(torch.cat([x, action], dim=1) if index == action_layer else x)
            x = x if index == len(layers) else x.relu()
        torch.testing.assert_close(values[member], x[:, 0])
        x[:, 0].square().sum().backward()
        for plain, joint in zip(layers, ensemble_layers(critics), strict=True):
            assert plain.weight.grad is not None and joint.weight.grad is not None
            torch.testing.assert_close(joint.weight.grad[member].T, plain.weight.grad)


def test_both_twins_read_the_latent_and_the_action() -> None:
    for action_layer in (1, 2):
        critics = critics_of(3, 2, hidden=(32, 32), action_layer=action_layer)
        latent, action = (
            torch.randn(4, 3, requires_grad=True),
            torch.randn(4, 2, requires_grad=True),
        )
        for value in critics(latent, action):
            gradients = torch.autograd.grad(value.sum(), (latent, action), retain_graph=True)
            assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_twins_have_different_initial_weights() -> None:
    first, second = critics_of(3, 2)(torch.randn(4, 3), torch.randn(4, 2))
    assert not torch.allclose(first, second)


def test_final_bound_makes_values_start_small() -> None:
    critics = critics_of(
        3, 2, hidden=(400, 300), action_layer=2, init="orthogonal", final_bound=3e-3
    )
    layers = ensemble_layers(critics)
    assert layers[-1].weight.abs().max() <= 3e-3 and layers[-1].bias.abs().max() <= 3e-3
    assert [tuple(layer.weight.shape) for layer in layers] == [
        (2, 3, 400),
        (2, 402, 300),
        (2, 300, 1),
    ]
    svd = torch.linalg.svdvals(layers[1].weight[0].detach())
    torch.testing.assert_close(svd, torch.ones(300), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"action_layer": 0}, r"action_layer must be in \[1, 3\], for 2 hidden layers; got 0"),
        ({"action_layer": 4}, "got 4"),
        ({"num_critics": 0}, "num_critics must be a whole number >= 1; got 0"),
        ({"action_dim": 0}, "action_dim must be a whole number >= 1; got 0"),
        ({"init": "zeros"}, "got 'zeros'"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
    ],
)
def test_bad_options_are_named(arguments: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        critics_of(**{"latent_dim": 4, "action_dim": 2, **arguments})


@pytest.mark.parametrize("onednn", [None, 1], ids=["torch", "oneDNN"])
@pytest.mark.parametrize("num_critics", [1, 2])
def test_the_first_critic_alone_equals_the_first_of_all(
    num_critics: int, onednn: int | None
) -> None:
    critics = critics_of(3, 2, num_critics=num_critics, hidden=(8, 8))
    latents, actions = torch.randn(4, 3), torch.randn(4, 2)
    parameters = list(critics.parameters())
    members = separate(critics, 0)
    x = torch.cat([latents, actions], dim=1)
    for layer in members[:-1]:
        x = layer(x).relu()
    expected = members[-1](x).squeeze(-1)
    by_member = torch.autograd.grad(expected.sum(), [layer.weight for layer in members])
    with onednn_from(onednn):
        values = critics.first(latents, actions)
        torch.testing.assert_close(critics(latents, actions)[0], values)
        gradients = torch.autograd.grad(values.sum(), parameters)
    torch.testing.assert_close(values, expected)
    for gradient, reference in zip(gradients[::2], by_member, strict=True):
        torch.testing.assert_close(gradient[0].T, reference)
        assert not gradient[1:].any()
