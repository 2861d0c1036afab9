"""EMA copies: by hand, gradients, buffers, tied weights, checkpoints."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlssl.networks.target_networks import EMACopy, update_ema


class Tied(nn.Module):
    """Two layers that share a weight, and a buffer of each kind."""

    count: Tensor
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)
        self.second.weight = self.first.weight
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("mean", torch.zeros(2))


def filled(value: float) -> Tied:
    network = Tied()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)
    return network


def test_average_by_hand_and_tied_weights_move_once() -> None:
    # 0.75 * 4 + 0.25 * 8 = 5; then 0.75 * 5 + 0.25 * 8 = 5.75.
    online, target = filled(8.0), filled(4.0)
    for expected in (5.0, 5.75):
        update_ema(online, target, 0.25)
        assert all((parameter == expected).all() for parameter in target.parameters())
    assert all((parameter == 8.0).all() for parameter in online.parameters())


def test_buffers_are_copied_and_stay_their_own() -> None:
    online = filled(0.0)
    copied: Any = EMACopy(online)
    online.count.add_(3)
    online.mean.fill_(7.0)
    copied.update(online, 0.01)
    assert copied.target.count == 3 and copied.target.mean.tolist() == [7.0, 7.0]
    online.mean.zero_()
    assert copied.target.mean.tolist() == [7.0, 7.0]


def test_copy_starts_equal_follows_and_takes_no_gradient() -> None:
    online = nn.Linear(3, 2)
    copied = EMACopy(online)
    row = torch.ones(1, 3, requires_grad=True)
    assert torch.equal(copied(row), online(row))
    assert not copied(row).requires_grad
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    with torch.no_grad():
        online.weight.add_(1.0)
    assert not torch.equal(copied(row), online(row))
    copied.update(online, 1.0)
    assert torch.equal(copied(row), online(row))


def test_tied_weights_stay_tied_through_copy_and_checkpoint() -> None:
    copied = EMACopy(filled(1.0))
    restored: Any = EMACopy(filled(2.0))
    restored.load_state_dict(copy.deepcopy(copied.state_dict()))
    assert restored.target.first.weight is restored.target.second.weight
    for key, value in copied.state_dict().items():
        assert torch.equal(restored.state_dict()[key], value), key
    for network in (copied, restored):
        network.update(filled(3.0), 0.5)
    assert (restored.target.second.weight == 2.0).all()  # 0.5 * 1 + 0.5 * 3


def test_no_random_number_is_drawn() -> None:
    online = filled(1.0)
    before = torch.random.get_rng_state()
    EMACopy(online).update(online, 0.5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_network_without_parameters_is_left_alone() -> None:
    update_ema(nn.Identity(), nn.Identity(), 0.5)


@pytest.mark.parametrize("tau", [-0.1, 1.1, float("nan")])
def test_share_outside_0_to_1_is_refused(tau: float) -> None:
    with pytest.raises(ValueError, match=r"tau must be in \[0, 1\]"):
        update_ema(nn.Linear(1, 1), nn.Linear(1, 1), tau)


def test_networks_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="only one of them has \\['bias'\\]"):
        update_ema(nn.Linear(1, 1), nn.Linear(1, 1, bias=False), 0.5)
