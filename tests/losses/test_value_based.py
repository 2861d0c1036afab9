"""Targets and losses of action values: values by hand, slow loops, gradients, errors."""

import pytest
import torch
from torch import Tensor

from rlssl.losses import (
    double_q_target,
    huber_loss,
    select_action_values,
    td_error,
    td_target,
)


def test_target_by_hand_has_no_next_value_after_termination() -> None:
    # 1 + 0.9 * 10 = 10; terminated: 2; n-step 2: 3 + 0.81 * 10 = 11.1.
    rewards, discounts = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.9, 0.0, 0.81])
    target = td_target(rewards, discounts, torch.full((3,), 10.0))
    torch.testing.assert_close(target, torch.tensor([10.0, 2.0, 11.1]))


def test_double_q_by_hand_uses_the_action_that_the_online_network_chose() -> None:
    # The online network prefers action 1. Its target value is 5; the target network's best is 7.
    online, target = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[7.0, 5.0, 6.0]])
    reward, discount = torch.tensor([1.0]), torch.tensor([0.5])
    assert double_q_target(reward, discount, online, target).item() == 3.5  # 1 + 0.5 * 5
    assert double_q_target(reward, discount, target, target).item() == 4.5  # 1 + 0.5 * 7: DQN


def test_double_q_equals_the_slow_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, discounts = torch.randn(2, 20, generator=generator).unbind(0)
    online, target = torch.randn(2, 20, 4, generator=generator).unbind(0)
    expected = []
    for i in range(20):
        best = max(range(4), key=lambda a, row=online[i]: row[a].item())  # type: ignore[misc]
        expected.append(rewards[i] + discounts[i] * target[i, best])
    actual = double_q_target(rewards, discounts, online, target)
    torch.testing.assert_close(actual, torch.stack(expected))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_values_of_actions_are_selected_with_and_without_atoms(dtype: torch.dtype) -> None:
    values = torch.arange(24.0).view(2, 3, 4)
    actions = torch.tensor([2, 0], dtype=dtype)
    # Row 0, action 2: 8 to 11. Row 1, action 0: 12 to 15.
    assert select_action_values(values, actions).tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert select_action_values(values[:, :, 0], actions).tolist() == [8, 12]


def test_gradient_flows_only_into_the_selected_values() -> None:
    values = torch.zeros(2, 3, requires_grad=True)
    select_action_values(values, torch.tensor([2, 0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_huber_by_hand_on_both_sides_of_delta() -> None:
    # Errors 0.5, -3, 3 with delta 2: 0.125; 2 * (3 - 1) = 4, twice.
    values = torch.zeros(3, requires_grad=True)
    targets = torch.tensor([0.5, -3.0, 3.0])
    loss = huber_loss(values, targets, delta=2.0)
    assert loss.tolist() == [0.125, 4.0, 4.0]
    loss.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [-0.5, 2.0, -2.0]  # minus the error, clipped to [-2, 2]


def test_td_error_is_target_minus_value() -> None:
    assert td_error(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 4.0])).tolist() == [2.0, -1.0]


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_delta_must_be_positive(delta: float) -> None:
    with pytest.raises(ValueError, match=f"delta must be > 0; got {delta}"):
        huber_loss(torch.zeros(2), torch.zeros(2), delta=delta)


def test_shapes_that_would_broadcast_are_refused() -> None:
    column, row = torch.zeros(3, 1), torch.zeros(3)
    with pytest.raises(ValueError, match=r"'next_values': \(3, 1\)"):
        td_target(row, row, column)
    with pytest.raises(ValueError, match=r"'values': \(3, 1\)"):
        td_error(column, row)
    with pytest.raises(ValueError, match=r"'targets': \(3, 1\)"):
        huber_loss(row, column)
    with pytest.raises(ValueError, match=r"\[N, A\]; got \(3, 2\) and \(3, 3\)"):
        double_q_target(row, row, torch.zeros(3, 2), torch.zeros(3, 3))


@pytest.mark.parametrize(
    "values, actions, match",
    [
        (torch.zeros(3, 2), torch.zeros(3, 1).long(), r"got \(3, 2\) and \(3, 1\)"),
        (torch.zeros(3), torch.zeros(3).long(), r"got \(3,\) and \(3,\)"),
        (torch.zeros(3, 2), torch.zeros(3), "integers; got torch.float32"),
    ],
)
def test_bad_actions_are_refused(values: Tensor, actions: Tensor, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        select_action_values(values, actions)
