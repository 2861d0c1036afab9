"""Encoded actions of every kind of space, and the targets of inverse models."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlssl.networks.action_encoding import action_dim, encode_action, inverse_target

UNBOUNDED = spaces.Box(-np.inf, np.inf, (2,))


def test_discrete_actions_are_one_hot_and_counted_from_start() -> None:
    space: spaces.Discrete = spaces.Discrete(3, start=2)
    assert encode_action(torch.tensor([2, 4]), space).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert inverse_target(torch.tensor([2, 4]), space).tolist() == [0, 2]


def test_multi_discrete_actions_are_one_hot_blocks() -> None:
    space = spaces.MultiDiscrete([2, 3], start=[1, 0])
    assert encode_action(torch.tensor([[2, 0]]), space).tolist() == [[0, 1, 1, 0, 0]]
    assert inverse_target(torch.tensor([[2, 0]]), space).tolist() == [[1, 0]]


def test_multi_binary_actions_are_not_changed() -> None:
    action = torch.tensor([[0, 1, 1]], dtype=torch.int8)
    assert encode_action(action, spaces.MultiBinary(3)).tolist() == [[0.0, 1.0, 1.0]]
    assert inverse_target(action, spaces.MultiBinary(3)).dtype == torch.int64


def test_continuous_actions_are_clamped_if_the_space_is_bounded() -> None:
    # Actions are normalized: the bounds are -1 and 1 for any bounds of the space.
    action = torch.tensor([[3.0, -0.5]])
    bounded = spaces.Box(-2.0, 2.0, (2,))
    assert encode_action(action, bounded).tolist() == [[1.0, -0.5]]
    assert inverse_target(action, bounded).tolist() == [[1.0, -0.5]]
    assert encode_action(action, UNBOUNDED).tolist() == [[3.0, -0.5]]


@pytest.mark.parametrize(
    "space", [spaces.Text(3), spaces.Box(0, 5, (2,), np.int64), spaces.Dict({})], ids=str
)
def test_unsupported_action_spaces_are_refused_with_the_fix(space: spaces.Space) -> None:
    action = torch.zeros(1, 2)
    for call in (
        lambda: action_dim(space),
        lambda: encode_action(action, space),
        lambda: inverse_target(action, space),
    ):
        with pytest.raises(ValueError, match=r"cannot be encoded; .* has Discrete"):
            call()
