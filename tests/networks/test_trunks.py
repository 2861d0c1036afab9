"""Trunks, and convolutions that two encoders share."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from rlssl.networks.encoders import build_encoder
from rlssl.networks.trunks import Trunk, tie_convolutions

PIXELS = spaces.Box(0, 255, (3, 24, 24), np.uint8)
NUM_CONVOLUTIONS = 4


def encoder() -> nn.Module:
    return build_encoder(PIXELS, "curl")


def tied_pair() -> nn.ModuleDict:
    pair = nn.ModuleDict({"critic": encoder(), "actor": encoder()})
    tie_convolutions(pair["actor"], pair["critic"])
    return pair


def shared_names(pair: nn.ModuleDict) -> set[str]:
    """Names of the parameters that are the same object in both."""
    theirs = dict(pair["critic"].named_parameters())
    return {name for name, p in pair["actor"].named_parameters() if p is theirs[name]}


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


def test_exactly_the_convolutions_are_tied() -> None:
    names = shared_names(tied_pair())
    assert len(names) == 2 * NUM_CONVOLUTIONS  # weights and biases
    convolutions = [name for name, m in encoder().named_modules() if isinstance(m, nn.Conv2d)]
    assert {name.rpartition(".")[0] for name in names} == set(convolutions)
    # 4 convolutions, 1 linear layer, 1 LayerNorm: 12 parameters, of which 8 are shared.
    assert len(list(tied_pair().parameters())) == 16


def test_step_on_one_encoder_moves_the_convolutions_of_both() -> None:
    pair = tied_pair()
    images = torch.randint(0, 256, (2, *PIXELS.shape), dtype=torch.uint8)
    before = copy.deepcopy(pair["actor"].state_dict())
    pair["critic"](images).square().sum().backward()
    torch.optim.SGD(pair["critic"].parameters(), lr=0.1).step()
    after = pair["actor"].state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == shared_names(pair)


@pytest.mark.parametrize("detour", ["state_dict", "deepcopy"])
def test_ties_survive(detour: str) -> None:
    pair = tied_pair()
    if detour == "deepcopy":
        restored = copy.deepcopy(pair)
    else:
        restored = tied_pair()
        restored.load_state_dict(copy.deepcopy(pair.state_dict()))
    assert len(shared_names(restored)) == 2 * NUM_CONVOLUTIONS
    for name, value in pair.state_dict().items():
        assert torch.equal(restored.state_dict()[name], value), name
    assert not {id(p) for p in pair.parameters()} & {id(p) for p in restored.parameters()}


def test_encoders_that_differ_are_refused() -> None:
    other = build_encoder(PIXELS, "curl", {"num_layers": 2})
    with pytest.raises(ValueError, match=r"\(32, 32, 3, 3\)"):
        tie_convolutions(other, encoder())
    vector = build_encoder(spaces.Box(-1, 1, (3,)))
    with pytest.raises(ValueError, match="one or more; got"):
        tie_convolutions(vector, vector)
    with_bias, without = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1, bias=False)
    with pytest.raises(ValueError, match="False"):
        tie_convolutions(without, with_bias)
