"""The discriminator's loss, its rewards, and the penalty on slopes."""

import math

import pytest
import torch

from rlssl.losses import discriminator_loss, discriminator_reward, slope_penalty
from rlssl.losses.adversarial import REWARD_FORMS


def test_discriminator_loss_by_hand() -> None:
    # D = 1 / (1 + e^-2) = 0.8808 at the demonstration, 1 / (1 + e^1) = 0.2689 at the policy:
    # -ln 0.8808 - ln(1 - 0.2689) = 0.1269 + 0.3133.
    found = discriminator_loss(torch.tensor([2.0]), torch.tensor([-1.0]))
    torch.testing.assert_close(found, torch.tensor([0.4402]), rtol=0, atol=1e-4)


def test_discriminator_loss_is_the_binary_cross_entropy() -> None:
    first, second = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    expected = entropy(first, torch.ones(50), reduction="none")
    expected = expected + entropy(second, torch.zeros(50), reduction="none")
    torch.testing.assert_close(discriminator_loss(first, second), expected)


def test_rewards_by_hand() -> None:
    # f = ln 3: D = 3 / 4.
    f = torch.tensor([math.log(3.0)])
    found = [discriminator_reward(f, form).item() for form in REWARD_FORMS]
    assert found == pytest.approx([math.log(4.0), math.log(0.75), math.log(3.0)], abs=1e-6)


def test_large_logits_give_finite_rewards() -> None:
    f = torch.tensor([-1e4, 1e4])
    assert discriminator_reward(f, "softplus").tolist() == [0.0, 1e4]
    assert discriminator_reward(f, "log_d").tolist() == [-1e4, 0.0]


def test_slope_penalty_by_hand() -> None:
    # f = 3 x + 4 y: the slope is 5, and (5 - 1)^2 = 16.
    inputs = torch.zeros(2, 2, requires_grad=True)
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    penalty = slope_penalty(inputs @ weight, inputs)
    assert penalty.tolist() == [16.0, 16.0]
    # d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w| = 8 w / 5, for each of the two rows.
    penalty.sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, 2 * 1.6 * weight.detach())


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must both be \[N\]; got \(2,\) and \(3,\)"):
        discriminator_loss(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match=r"form must be one of .* got 'airl'"):
        discriminator_reward(torch.zeros(2), "airl")
    with pytest.raises(ValueError, match=r"inputs \[N, D\]; got \(2,\) and \(2,\)"):
        slope_penalty(torch.zeros(2), torch.zeros(2))
