"""Trunks behind convolutions."""

import pytest
import torch
from torch import nn

from rlssl.networks.shared_encoder import Trunk


def test_trunk_ends_in_a_layer_norm_or_a_tanh() -> None:
    x = 10 * torch.randn(6, 20)
    trunk = Trunk(20, 5)
    assert trunk.output_dim == 5 and trunk(x).shape == (6, 5)
    torch.testing.assert_close(trunk(x).mean(dim=1), torch.zeros(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(trunk(x).std(dim=1, correction=0), torch.ones(6), rtol=0, atol=1e-3)
    squashed = Trunk(20, 5, tanh=True)
    squashed.load_state_dict(trunk.state_dict())
    torch.testing.assert_close(squashed(x), trunk(x).tanh())
    linear = trunk[0]
    assert isinstance(linear, nn.Linear)
    torch.testing.assert_close(torch.linalg.svdvals(linear.weight.detach()), torch.ones(5))


def test_trunk_refuses_sizes() -> None:
    with pytest.raises(ValueError, match="output_dim must be a whole number >= 1; got 0"):
        Trunk(4, 0)
