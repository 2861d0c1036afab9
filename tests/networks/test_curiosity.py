"""Curiosity's models: coding of actions, shapes, values at the start, what reads the action."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlssl.losses import forward_dynamics_loss, inverse_dynamics_loss
from rlssl.networks.action_encoding import action_dim, encode_action, inverse_target
from rlssl.networks.curiosity import ForwardModel, InverseModel, ResidualForwardModel

D, N = 6, 5
UNBOUNDED = spaces.Box(-np.inf, np.inf, (2,))
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


def test_discrete_actions_are_one_hot_from_their_start() -> None:
    space: spaces.Discrete = spaces.Discrete(3, start=2)
    assert encode_action(torch.tensor([2, 4]), space).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert inverse_target(torch.tensor([2, 4]), space).tolist() == [0, 2]


def test_multi_discrete_actions_are_blocks_of_one_hot() -> None:
    space = spaces.MultiDiscrete([2, 3], start=[1, 0])
    assert encode_action(torch.tensor([[2, 0]]), space).tolist() == [[0, 1, 1, 0, 0]]
    assert inverse_target(torch.tensor([[2, 0]]), space).tolist() == [[1, 0]]


def test_multi_binary_actions_are_taken_as_they_are() -> None:
    action = torch.tensor([[0, 1, 1]], dtype=torch.int8)
    assert encode_action(action, spaces.MultiBinary(3)).tolist() == [[0.0, 1.0, 1.0]]
    assert inverse_target(action, spaces.MultiBinary(3)).dtype == torch.int64


def test_continuous_actions_are_clamped_where_the_space_is_bounded() -> None:
    # Normalized actions: the bounds are -1 and 1, whatever the bounds of the space.
    action = torch.tensor([[3.0, -0.5]])
    bounded = spaces.Box(-2.0, 2.0, (2,))
    assert encode_action(action, bounded).tolist() == [[1.0, -0.5]]
    assert inverse_target(action, bounded).tolist() == [[1.0, -0.5]]
    assert encode_action(action, UNBOUNDED).tolist() == [[3.0, -0.5]]


@every_action_space
def test_models_take_every_kind_of_action(space: spaces.Space) -> None:
    phi, phi_next = latents()
    action = random_actions(space)
    coded = encode_action(action, space)
    assert coded.shape == (N, action_dim(space)) and coded.dtype == torch.float32
    prediction = InverseModel(D, space)(phi, phi_next)
    assert inverse_dynamics_loss(prediction, inverse_target(action, space)).shape == (N,)
    for model in (ForwardModel(D, space), ResidualForwardModel(D, space, hidden=16)):
        assert model(phi, coded).shape == (N, D)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("discrete", math.log(4)),
        ("multi-discrete", math.log(3) + math.log(2)),
        ("multi-binary", 3 * math.log(2)),
    ],
)
def test_inverse_loss_starts_at_that_of_a_guess(name: str, expected: float) -> None:
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


def test_inverse_model_reads_both_states() -> None:
    phi, phi_next = (part.requires_grad_() for part in latents())
    InverseModel(D, ACTION_SPACES["discrete"])(phi, phi_next).square().sum().backward()
    for part in (phi, phi_next):
        assert part.grad is not None and part.grad.abs().sum() > 0


def test_residual_model_is_told_the_action_at_every_layer() -> None:
    model = ResidualForwardModel(D, spaces.Discrete(4), hidden=16, num_blocks=4)
    seen: list[Tensor] = []
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    coded = torch.eye(4).repeat(2, 1)[:N]
    model(latents()[0], coded)
    # The first layer reads D features, then 4 blocks of two layers and the last read 16.
    assert [x.shape[1] for x in seen] == [D + 4] + [16 + 4] * 9
    assert all(torch.equal(x[:, -4:], coded) for x in seen)


def test_residual_blocks_add_to_their_input() -> None:
    model = ResidualForwardModel(D, spaces.Discrete(2), hidden=8, num_blocks=3)
    phi, _ = latents()
    coded = torch.eye(2).repeat(3, 1)[:N]
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "outer" in name:
                weights.zero_()
    # Blocks that add nothing leave the first layer's output: last(leaky(first)).
    first = nn.functional.leaky_relu(model.first(torch.cat([phi, coded], dim=-1)), 0.2)
    expected = model.last(torch.cat([first, coded], dim=-1))
    torch.testing.assert_close(model(phi, coded), expected)


@pytest.mark.parametrize(
    "space", [spaces.Text(3), spaces.Box(0, 5, (2,), np.int64), spaces.Dict({})], ids=str
)
def test_other_action_spaces_are_refused_with_the_fix(space: spaces.Space) -> None:
    for build in (action_dim, lambda space: InverseModel(D, space)):
        with pytest.raises(ValueError, match="cannot be coded; use Discrete"):
            build(space)
