"""inverse_dynamics_loss and forward_dynamics_loss: values by hand, gradients, errors."""

import math

import pytest
import torch
from torch import Tensor

from rlssl.losses import forward_dynamics_loss, inverse_dynamics_loss


def test_loss_of_a_discrete_action_is_its_negative_log_probability() -> None:
    # softmax([0, log 3]) = [1/4, 3/4]: action 0 costs log 4, action 1 costs log(4/3).
    logits = torch.tensor([[0.0, math.log(3.0)]]).repeat(2, 1)
    expected = torch.tensor([math.log(4.0), math.log(4.0 / 3.0)])
    torch.testing.assert_close(inverse_dynamics_loss(logits, torch.tensor([0, 1])), expected)


def test_loss_of_a_multi_discrete_action_is_the_sum_over_its_parts() -> None:
    # Part 0 has 2 values, part 1 has 3. Row 0: both are guesses. Row 1: part 0 is certain.
    # log 2 + log 3; -log(1 / (1 + e^-20)) + log 3 ~ log 3.
    logits = [torch.tensor([[0.0, 0.0], [20.0, 0.0]]), torch.zeros(2, 3)]
    action = torch.tensor([[1, 2], [0, 1]])
    expected = torch.tensor([math.log(2.0) + math.log(3.0), math.log(3.0)])
    torch.testing.assert_close(inverse_dynamics_loss(logits, action), expected)


def test_loss_of_a_continuous_action_is_half_its_squared_error() -> None:
    # 0.5 * ((1 - 0)^2 + (2 - 4)^2) = 2.5
    loss = inverse_dynamics_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]))
    torch.testing.assert_close(loss, torch.tensor([2.5]))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64])
def test_small_integer_actions_are_accepted(dtype: torch.dtype) -> None:
    loss = inverse_dynamics_loss(torch.zeros(1, 5), torch.tensor([4], dtype=dtype))
    torch.testing.assert_close(loss, torch.tensor([math.log(5.0)]))


@pytest.mark.parametrize(
    "prediction, action, match",
    [
        (torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.long), r"discrete action \[N\]"),
        (torch.zeros(4, 3), torch.zeros(4), r"\[N, A\]"),
        ([torch.zeros(4, 3)] * 2, torch.zeros(4, 3, dtype=torch.long), "2 sets of logits"),
        ([torch.zeros(4, 3)] * 2, torch.zeros(4, 2), "integer actions"),
    ],
)
def test_inverse_loss_rejects_shapes_that_do_not_fit(
    prediction: Tensor | list[Tensor], action: Tensor, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        inverse_dynamics_loss(prediction, action)


def test_forward_loss_by_hand_in_both_reductions() -> None:
    # Squares 1, 4, 0, 9: half their sum is 7, their mean is 3.5.
    prediction = torch.tensor([[1.0, 2.0, 0.0, 3.0]])
    target = torch.zeros(1, 4)
    assert forward_dynamics_loss(prediction, target).tolist() == [7.0]
    assert forward_dynamics_loss(prediction, target, reduction="mean").tolist() == [3.5]


def test_forward_loss_has_a_gradient_for_the_target_unless_it_is_detached() -> None:
    prediction = torch.ones(2, 3, requires_grad=True)
    target = torch.zeros(2, 3, requires_grad=True)
    forward_dynamics_loss(prediction, target.detach()).sum().backward()
    assert target.grad is None
    forward_dynamics_loss(prediction, target).sum().backward()
    # d/dt of 0.5 (p - t)^2 is t - p = -1.
    torch.testing.assert_close(target.grad, -torch.ones(2, 3))


def test_forward_loss_rejects_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        forward_dynamics_loss(torch.zeros(4, 3), torch.zeros(4, 1))
    with pytest.raises(ValueError, match="'sum'"):
        forward_dynamics_loss(torch.zeros(4, 3), torch.zeros(4, 3), reduction="sum")
