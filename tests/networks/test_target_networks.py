"""Target networks: EMA by hand, full copies, gradients, buffers, tied weights, checkpoints."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlssl.networks.target_networks import (
    EMACopy,
    TargetNetwork,
    TargetNetworks,
    update_ema,
)


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


def test_average_by_hand_updates_tied_weights_once() -> None:
    # 0.75 * 4 + 0.25 * 8 = 5; then 0.75 * 5 + 0.25 * 8 = 5.75.
    online, target = filled(8.0), filled(4.0)
    for expected in (5.0, 5.75):
        update_ema(online, target, 0.25)
        assert all((parameter == expected).all() for parameter in target.parameters())
    assert all((parameter == 8.0).all() for parameter in online.parameters())


def test_buffers_are_copied_and_not_shared() -> None:
    online = filled(0.0)
    copied: Any = EMACopy(online)
    online.count.add_(3)
    online.mean.fill_(7.0)
    copied.update(online, 0.01)
    assert copied.target.count == 3 and copied.target.mean.tolist() == [7.0, 7.0]
    online.mean.zero_()
    assert copied.target.mean.tolist() == [7.0, 7.0]


def test_copy_starts_equal_follows_and_has_no_gradient() -> None:
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


def test_ema_draws_no_random_numbers() -> None:
    online = filled(1.0)
    before = torch.random.get_rng_state()
    EMACopy(online).update(online, 0.5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_network_without_parameters_is_no_error() -> None:
    update_ema(nn.Identity(), nn.Identity(), 0.5)


@pytest.mark.parametrize("tau", [-0.1, 1.1, float("nan")])
def test_tau_outside_0_to_1_is_refused(tau: float) -> None:
    with pytest.raises(ValueError, match=r"tau must be in \[0, 1\]"):
        update_ema(nn.Linear(1, 1), nn.Linear(1, 1), tau)


def test_networks_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="only one of them has \\['bias'\\]"):
        update_ema(nn.Linear(1, 1), nn.Linear(1, 1, bias=False), 0.5)


def network(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, value)
    return layer


def weight_of(target: TargetNetwork) -> float:
    return float(target.state_dict()["target.weight"])


def test_full_copies_are_made_every_k_updates() -> None:
    online = network(1.0)
    target = TargetNetwork(online, tau=None, every_updates=3)
    values = []
    for update in range(1, 8):
        nn.init.constant_(online.weight, 1.0 + update)
        target.after_update()
        values.append(weight_of(target))
    # Copies at updates 3 and 6, when the online weight is 4 and 7.
    assert values == [1.0, 1.0, 4.0, 4.0, 4.0, 7.0, 7.0]


def test_polyak_updates_are_made_after_every_update() -> None:
    online = network(0.0)
    target = TargetNetwork(online, tau=0.5, every_updates=None)
    nn.init.constant_(online.weight, 1.0)
    target.after_update()
    target.after_update()
    # 0.5 * 0 + 0.5 * 1, then 0.5 * 0.5 + 0.5 * 1.
    assert weight_of(target) == 0.75


def test_restored_target_network_copies_at_the_same_updates() -> None:
    first, online = TargetNetwork(network(1.0), tau=None, every_updates=3), network(2.0)
    first.after_update()
    first.after_update()
    second = TargetNetwork(online, tau=None, every_updates=3)
    second.load_state_dict(first.state_dict())
    assert weight_of(second) == 1.0
    second.after_update()
    assert weight_of(second) == 2.0


def test_online_network_is_not_a_submodule_of_the_target_network() -> None:
    target = TargetNetwork(network(1.0), tau=0.1, every_updates=None)
    assert set(target.state_dict()) == {"target.weight", "target.bias", "_extra_state"}
    assert not any(parameter.requires_grad for parameter in target.parameters())


@pytest.mark.parametrize("tau, every_updates", [(None, None), (0.1, 2)])
def test_exactly_one_of_tau_and_every_updates_is_needed(
    tau: float | None, every_updates: int | None
) -> None:
    with pytest.raises(ValueError, match="exactly one of tau and every_updates"):
        TargetNetwork(network(1.0), tau=tau, every_updates=every_updates)


def test_each_of_several_target_networks_has_its_tau() -> None:
    encoder, critic = network(0.0), network(0.0)
    online = nn.ModuleDict({"encoder": encoder, "critic": critic})
    targets = TargetNetworks(online, {"encoder": 0.5, "critic": 0.25})
    for layer in (encoder, critic):
        nn.init.constant_(layer.weight, 4.0)
    targets.polyak_update()
    state = targets.state_dict()
    # 0.5 * 0 + 0.5 * 4 and 0.75 * 0 + 0.25 * 4.
    assert state["target.encoder.weight"].item() == 2.0
    assert state["target.critic.weight"].item() == 1.0
    assert not any(name.startswith("online") for name in state)


@pytest.mark.parametrize("taus", [{}, {"critic": 0.0}, {"critic": 0.1, "encoder": 0.1}])
def test_taus_that_do_not_fit_the_networks_are_refused(taus: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"taus must give \['critic'\] a number in \(0, 1\]"):
        TargetNetworks(nn.ModuleDict({"critic": network(1.0)}), taus)
