"""clipped_surrogate and value_loss: values and gradients by hand, errors."""

import math

import pytest
import torch
from torch import Tensor

from rlssl.losses import clipped_surrogate, value_loss


def log_ratios(*ratios: float) -> tuple[Tensor, Tensor]:
    """(logp, old_logp) with the given ratios."""
    logp = torch.tensor(ratios).log().requires_grad_()
    return logp, torch.zeros(len(ratios))


def test_surrogate_by_hand_inside_and_outside_the_clip() -> None:
    # ratio 1.1, inside:           -(1.1 * 2)          = -2.2
    # ratio 1.5, good action:      -min(3.0, 1.2 * 2)  = -2.4
    # ratio 1.5, bad action:       -min(-3.0, -2.4)    =  3.0   (pessimistic: not clipped)
    # ratio 0.5, good action:      -min(1.0, 0.8 * 2)  = -1.0
    # ratio 0.5, bad action:       -min(-1.0, -1.6)    =  1.6
    logp, old_logp = log_ratios(1.1, 1.5, 1.5, 0.5, 0.5)
    advantage = torch.tensor([2.0, 2.0, -2.0, 2.0, -2.0])
    loss = clipped_surrogate(logp, old_logp, advantage, clip=0.2)
    torch.testing.assert_close(loss, torch.tensor([-2.2, -2.4, 3.0, -1.0, 1.6]))


def test_only_clipped_improvements_have_no_gradient() -> None:
    # d loss / d logp = -ratio * advantage if not clipped: -2.2, 0, 3, -1, 0.
    logp, old_logp = log_ratios(1.1, 1.5, 1.5, 0.5, 0.5)
    advantage = torch.tensor([2.0, 2.0, -2.0, 2.0, -2.0])
    clipped_surrogate(logp, old_logp, advantage, clip=0.2).sum().backward()
    torch.testing.assert_close(logp.grad, torch.tensor([-2.2, 0.0, 3.0, -1.0, 0.0]))


def test_infinite_clip_is_the_plain_surrogate() -> None:
    logp, old_logp = log_ratios(5.0, 0.1)
    loss = clipped_surrogate(logp, old_logp, torch.tensor([1.0, -1.0]), clip=math.inf)
    torch.testing.assert_close(loss, torch.tensor([-5.0, 0.1]))


def test_value_loss_is_half_the_squared_error_and_has_a_gradient_for_large_errors() -> None:
    value = torch.tensor([1.0, 0.0], requires_grad=True)
    loss = value_loss(value, torch.tensor([3.0, 100.0]))
    # 0.5 * 2^2 = 2 and 0.5 * 100^2 = 5000; gradients value - target.
    torch.testing.assert_close(loss, torch.tensor([2.0, 5000.0]))
    loss.sum().backward()
    torch.testing.assert_close(value.grad, torch.tensor([-2.0, -100.0]))


def test_shapes_that_would_broadcast_are_refused() -> None:
    column, row = torch.zeros(4, 1), torch.zeros(4)
    with pytest.raises(ValueError, match=r"'value': \(4, 1\)"):
        value_loss(column, row)
    with pytest.raises(ValueError, match=r"\[N\]"):
        clipped_surrogate(row, row, column, clip=0.2)


@pytest.mark.parametrize("clip", [0.0, -0.1, math.nan])
def test_clip_must_be_positive(clip: float) -> None:
    with pytest.raises(ValueError, match=f"clip must be > 0; got {clip}"):
        clipped_surrogate(torch.zeros(2), torch.zeros(2), torch.zeros(2), clip=clip)
