"""Models of curiosity: shapes for every action space, initial losses, inputs of the layers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlssl.losses import forward_dynamics_loss, inverse_dynamics_loss
from rlssl.networks.action_encoding import action_dim, encode_action, inverse_target
from rlssl.networks.curiosity import ForwardModel, InverseModel, ResidualForwardModel

D, N = 6, 5
ACTION_SPACES = {
    "discrete": spaces.Discrete(4, start=3),
    "multi-discrete": spaces.MultiDiscrete([3, 2], start=[1, 0]),
    "multi-binary": spaces.MultiBinary(3),
    "box": spaces.Box(-2.0, 2.0, (2, 3)),
}
every_action_space = pytest.mark.parametrize(
    "space", ACTION_SPACES.values(), ids=ACTION_SPACES.keys()
)


def random_actions(space: spaces.Space) -> Tensor:
    space.seed(0)
    return torch.as_tensor(np.stack([space.sample() for _ in range(N)]))


def latents() -> tuple[Tensor, Tensor]:
    phi, phi_next = torch.randn(2, N, D, generator=torch.Generator().manual_seed(0)).unbind(0)
    return phi, phi_next


@every_action_space
def test_models_accept_every_kind_of_action(space: spaces.Space) -> None:
    phi, phi_next = latents()
    action = random_actions(space)
    encoded = encode_action(action, space)
    assert encoded.shape == (N, action_dim(space)) and encoded.dtype == torch.float32
    prediction = InverseModel(D, space)(phi, phi_next)
    assert inverse_dynamics_loss(prediction, inverse_target(action, space)).shape == (N,)
    for model in (ForwardModel(D, space), ResidualForwardModel(D, space, hidden=16)):
        assert model(phi, encoded).shape == (N, D)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("discrete", math.log(4)),
        ("multi-discrete", math.log(3) + math.log(2)),
        ("multi-binary", 3 * math.log(2)),
    ],
)
def test_inverse_loss_starts_at_the_loss_of_a_uniform_guess(name: str, expected: float) -> None:
    space = ACTION_SPACES[name]
    target = inverse_target(random_actions(space), space)
    loss = inverse_dynamics_loss(InverseModel(D, space)(*latents()), target)
    torch.testing.assert_close(loss, torch.full((N,), expected), atol=0.1, rtol=0)


def test_forward_loss_starts_at_half_the_squared_norm_of_the_target() -> None:
    phi, phi_next = latents()
    space = ACTION_SPACES["discrete"]
    prediction = ForwardModel(D, space)(phi, encode_action(random_actions(space), space))
    expected = 0.5 * phi_next.square().sum(dim=-1)
    torch.testing.assert_close(
        forward_dynamics_loss(prediction, phi_next), expected, atol=0.3, rtol=0
    )


def test_inverse_model_reads_both_latents() -> None:
    phi, phi_next = (part.requires_grad_() for part in latents())
    InverseModel(D, ACTION_SPACES["discrete"])(phi, phi_next).square().sum().backward()
    for part in (phi, phi_next):
        assert part.grad is not None and part.grad.abs().sum() > 0


def test_every_layer_of_the_residual_model_reads_the_action() -> None:
    model = ResidualForwardModel(D, spaces.Discrete(4), hidden=16, num_blocks=4)
    seen: list[Tensor] = []
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    encoded = torch.eye(4).repeat(2, 1)[:N]
    model(latents()[0], encoded)
    # The first layer reads D features; 4 blocks of two layers and the last layer read 16.
    assert [x.shape[1] for x in seen] == [D + 4] + [16 + 4] * 9
    assert all(torch.equal(x[:, -4:], encoded) for x in seen)


def test_residual_blocks_add_to_their_input() -> None:
    model = ResidualForwardModel(D, spaces.Discrete(2), hidden=8, num_blocks=3)
    phi, _ = latents()
    encoded = torch.eye(2).repeat(3, 1)[:N]
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "outer" in name:
                weights.zero_()
    # If blocks add zero, the output is last(leaky(first)).
    first = nn.functional.leaky_relu(model.first(torch.cat([phi, encoded], dim=-1)), 0.2)
    expected = model.last(torch.cat([first, encoded], dim=-1))
    torch.testing.assert_close(model(phi, encoded), expected)


@pytest.mark.parametrize("build", [InverseModel, ForwardModel, ResidualForwardModel])
def test_unsupported_action_spaces_are_refused(build: Any) -> None:
    with pytest.raises(ValueError, match="cannot be encoded"):
        build(D, spaces.Text(3))
