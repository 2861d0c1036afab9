"""Target networks: moved by updates, and saved with their count."""

import pytest
from torch import nn

from rlssl.networks.target_networks import TargetNetwork


def network(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, value)
    return layer


def weight_of(target: TargetNetwork) -> float:
    """Of the copy."""
    return float(target.state_dict()["target.weight"])


def test_hard_copy_comes_with_every_kth_update() -> None:
    online = network(1.0)
    target = TargetNetwork(online, every_updates=3)
    values = []
    for update in range(1, 8):
        nn.init.constant_(online.weight, 1.0 + update)
        target.after_update()
        values.append(weight_of(target))
    # Copies at updates 3 and 6, of 4 and 7.
    assert values == [1.0, 1.0, 4.0, 4.0, 4.0, 7.0, 7.0]


def test_soft_copy_moves_with_every_update() -> None:
    online = network(0.0)
    target = TargetNetwork(online, tau=0.5)
    nn.init.constant_(online.weight, 1.0)
    target.after_update()
    target.after_update()
    # 0.5 * 0 + 0.5 * 1, then 0.5 * 0.5 + 0.5 * 1.
    assert weight_of(target) == 0.75


def test_restored_target_copies_when_it_would_have() -> None:
    first, online = TargetNetwork(network(1.0), every_updates=3), network(2.0)
    first.after_update()
    first.after_update()
    second = TargetNetwork(online, every_updates=3)
    second.load_state_dict(first.state_dict())
    assert weight_of(second) == 1.0
    second.after_update()
    assert weight_of(second) == 2.0


def test_online_network_is_not_a_part_of_the_target() -> None:
    target = TargetNetwork(network(1.0), tau=0.1)
    assert set(target.state_dict()) == {"target.weight", "target.bias", "_extra_state"}
    assert not any(parameter.requires_grad for parameter in target.parameters())


@pytest.mark.parametrize("options", [{}, {"tau": 0.1, "every_updates": 2}])
def test_exactly_one_clock_is_asked_for(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="exactly one of tau and every_updates"):
        TargetNetwork(network(1.0), **options)  # type: ignore[arg-type]
