"""Losses of off-policy actor-critics: values by hand, torch's distributions, gradients, errors."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from rlssl.losses import (
    critic_loss,
    deterministic_policy_loss,
    saturation_penalty,
    smoothed_actions,
    soft_policy_loss,
    soft_q_target,
    squashed_gaussian_log_prob,
    squashed_gaussian_sample,
    td3_target,
    temperature_loss,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_td3_target_by_hand_uses_the_lower_critic_of_each_row() -> None:
    # 1 + 0.5 * min(4, 6) = 3; 2 + 0.5 * min(8, 2) = 3; terminated: 5.
    target = td3_target(
        torch.tensor([1.0, 2.0, 5.0]),
        torch.tensor([0.5, 0.5, 0.0]),
        torch.tensor([4.0, 8.0, 7.0]),
        torch.tensor([6.0, 2.0, 7.0]),
    )
    assert target.tolist() == [3.0, 3.0, 5.0]


def test_soft_q_target_by_hand_adds_the_entropy() -> None:
    # 1 + 0.5 * (min(4, 6) - 0.2 * -3) = 1 + 0.5 * 4.6 = 3.3; terminated: 2, without entropy.
    target = soft_q_target(
        torch.tensor([1.0, 2.0]),
        torch.tensor([0.5, 0.0]),
        torch.tensor([4.0, 1.0]),
        torch.tensor([6.0, 1.0]),
        torch.tensor([-3.0, 9.0]),
        alpha=torch.tensor(0.2),
    )
    torch.testing.assert_close(target, torch.tensor([3.3, 2.0]))


def test_targets_equal_the_slow_loop() -> None:
    rows = torch.randn(5, 20, generator=generator())
    rewards, discounts, q1, q2, logp = rows.unbind(0)
    plain, soft = [], []
    for r, d, a, b, lp in zip(*rows.tolist(), strict=True):
        plain.append(r + d * min(a, b))
        soft.append(r + d * (min(a, b) - 0.3 * lp))
    torch.testing.assert_close(td3_target(rewards, discounts, q1, q2), torch.tensor(plain))
    actual = soft_q_target(rewards, discounts, q1, q2, logp, alpha=0.3)
    torch.testing.assert_close(actual, torch.tensor(soft))
    assert torch.equal(
        td3_target(rewards, discounts, q2, q1), td3_target(rewards, discounts, q1, q2)
    )


def test_smoothing_noise_is_gaussian_and_clipped_on_both_sides() -> None:
    actions = torch.zeros(50_000, 2)
    noisy = smoothed_actions(actions, std=0.2, clip=0.3, generator=generator())
    assert noisy.min().item() == pytest.approx(-0.3) and noisy.max().item() == pytest.approx(0.3)
    # P(|N| > 1.5) = 0.1336 is at the clip; 100,000 draws: std 0.0011.
    clipped = (noisy.abs() > 0.2999).double().mean().item()
    assert clipped == pytest.approx(0.1336, abs=0.005)
    free = smoothed_actions(actions, std=0.2, clip=math.inf, generator=generator())
    assert free.std().item() == pytest.approx(0.2, rel=0.02)
    assert free.mean().item() == pytest.approx(0.0, abs=0.003)


def test_smoothed_actions_stay_in_bounds_and_depend_only_on_the_generator() -> None:
    actions = torch.full((1000, 1), 1.9)
    first = smoothed_actions(actions, low=-2.0, high=2.0, generator=generator())
    assert first.max() == 2.0 and first.min() > 1.3
    assert torch.equal(first, smoothed_actions(actions, low=-2, high=2, generator=generator()))
    assert not torch.equal(first, smoothed_actions(actions, low=-2, high=2, generator=generator(1)))
    assert torch.equal(smoothed_actions(actions, std=0.0, low=-2, high=2), actions)


@pytest.mark.parametrize("straight_through, expected", [(False, 0.0), (True, 1.0)])
def test_gradient_at_the_bound(straight_through: bool, expected: float) -> None:
    # With noise of std 1e-3, 5.0 stays outside the bounds and 0.0 inside.
    actions = torch.tensor([[5.0, 0.0]], requires_grad=True)
    noisy = smoothed_actions(actions, std=1e-3, straight_through=straight_through)
    assert noisy[0, 0].item() == 1.0
    noisy.sum().backward()
    assert actions.grad is not None
    assert actions.grad.tolist() == [[expected, 1.0]]


def test_critic_loss_by_hand_is_the_sum_over_critics() -> None:
    targets = torch.tensor([1.0, 2.0])
    # (3 - 1)^2 = 4, (2 - 2)^2 = 0; with the second critic + (0 - 1)^2 = 5, + (5 - 2)^2 = 9.
    values = torch.tensor([[3.0, 2.0], [0.0, 5.0]])
    assert critic_loss(values[0], targets).tolist() == [4.0, 0.0]
    assert critic_loss(values, targets).tolist() == [5.0, 9.0]


def test_policy_losses_by_hand() -> None:
    q1, q2 = torch.tensor([4.0, 1.0]), torch.tensor([3.0, 2.0])
    assert deterministic_policy_loss(q1).tolist() == [-4.0, -1.0]
    # 0.5 * -2 - 3 = -4; 0.5 * 4 - 1 = 1.
    loss = soft_policy_loss(torch.tensor([-2.0, 4.0]), q1, q2, alpha=0.5)
    assert loss.tolist() == [-4.0, 1.0]


def test_saturation_penalty_by_hand_and_its_gradient() -> None:
    # (9 + 1) / 2 = 5; the slope of x^2 / 2 is x, also where the tanh is flat.
    pre_tanh = torch.tensor([[3.0, -1.0], [40.0, 0.0]], requires_grad=True)
    penalty = saturation_penalty(pre_tanh)
    assert penalty.tolist() == [5.0, 800.0]
    penalty.sum().backward()
    assert pre_tanh.grad is not None
    assert torch.equal(pre_tanh.grad, pre_tanh)


def test_temperature_loss_by_hand_and_its_gradient() -> None:
    # Entropies 3 and 1, target 2: -0.5 * (-3 + 2) = 0.5, -0.5 * (-1 + 2) = -0.5.
    alpha = torch.tensor(0.5, requires_grad=True)
    logp = torch.tensor([-3.0, -1.0], requires_grad=True)
    loss = temperature_loss(alpha, logp, target_entropy=2.0)
    assert loss.tolist() == [0.5, -0.5]
    # Above the target the gradient is positive: descent lowers alpha.
    loss[0].backward()
    assert alpha.grad is not None
    assert alpha.grad.item() == 1.0
    assert logp.grad is None


def test_temperature_of_log_alpha_has_the_gradient_divided_by_alpha() -> None:
    logp = torch.tensor([-3.0])
    gradients = []
    for transform in (torch.exp, lambda log_alpha: log_alpha):
        log_alpha = torch.tensor([math.log(0.1)], requires_grad=True)
        temperature_loss(transform(log_alpha), logp, target_entropy=2.0).sum().backward()
        assert log_alpha.grad is not None
        gradients.append(log_alpha.grad.item())
    assert gradients == pytest.approx([0.1, 1.0])


def test_squashed_log_prob_by_hand() -> None:
    # At u = mean = 0, std 1: -0.5 log 2 pi - log(1 - 0) = -0.9189385 per dimension.
    zeros = torch.zeros(1, 2)
    logp = squashed_gaussian_log_prob(zeros, zeros, zeros)
    torch.testing.assert_close(logp, torch.tensor([-1.8378771]))


def test_squashed_log_prob_equals_torchs_distributions() -> None:
    mean, log_std, noise = torch.randn(3, 50, 3, generator=generator(), dtype=torch.float64)
    pre_tanh = mean + log_std.exp() * noise
    reference: Any = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    mild = pre_tanh.abs().amax(dim=1) < 6  # above 6, atanh in the reference loses digits
    expected = reference.log_prob(pre_tanh.tanh()).sum(dim=-1)
    actual = squashed_gaussian_log_prob(mean, log_std, pre_tanh)
    assert mild.sum() > 20
    torch.testing.assert_close(actual[mild], expected[mild], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("u", [-100.0, -15.0, 15.0, 100.0])
def test_squashed_log_prob_is_exact_where_the_plain_formula_overflows(u: float) -> None:
    # For large |u|, log(1 - tanh(u)^2) = 2 log 2 - 2 |u|, up to e^(-2 |u|). With mean = u the
    # Gaussian has no square.
    pre_tanh = torch.full((1, 1), u, requires_grad=True)
    logp = squashed_gaussian_log_prob(pre_tanh.detach(), torch.zeros(1, 1), pre_tanh)
    expected = -0.5 * math.log(2 * math.pi) - (2 * math.log(2) - 2 * abs(u))
    assert logp.item() == pytest.approx(expected, rel=1e-6)
    logp.sum().backward()
    # d/du of 2 |u|.
    assert pre_tanh.grad is not None
    assert pre_tanh.grad.item() == pytest.approx(2.0 * math.copysign(1, u))


def test_log_prob_of_a_sample_and_its_gradient_equal_those_of_log_prob() -> None:
    # In double precision, atanh recovers the action before the tanh.
    mean, log_std = 0.3 * torch.randn(2, 40, 3, generator=generator(), dtype=torch.float64)
    mean.requires_grad_()
    log_std.requires_grad_()
    actions, logp = squashed_gaussian_sample(mean, log_std, generator=generator(1))
    assert actions.abs().max() < 1
    through = squashed_gaussian_log_prob(mean, log_std, actions.atanh())
    torch.testing.assert_close(logp, through, rtol=1e-9, atol=1e-9)
    direct = torch.autograd.grad(logp.sum(), (mean, log_std), retain_graph=True)
    composed = torch.autograd.grad(through.sum(), (mean, log_std))
    torch.testing.assert_close(direct, composed, rtol=1e-7, atol=1e-7)


def test_entropy_of_samples_equals_the_integral() -> None:
    # -integral p log p of tanh(N(0, 1)) on a grid of u, and the mean of 100,000 samples.
    u = torch.linspace(-12, 12, 200_001, dtype=torch.float64)[:, None]
    zeros = torch.zeros_like(u)
    density = Normal(0.0, 1.0).log_prob(u).exp()[:, 0]
    logp = squashed_gaussian_log_prob(zeros, zeros, u)
    integral = torch.trapezoid(density * logp, u[:, 0]).item()
    zeros = torch.zeros(100_000, 1)
    _, drawn = squashed_gaussian_sample(zeros, zeros, generator=generator())
    assert drawn.mean().item() == pytest.approx(integral, abs=0.01)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"std": -0.1}, "std=-0.1"),
        ({"clip": 0.0}, "clip=0.0"),
        ({"low": 1.0, "high": 1.0}, "low=1.0, high=1.0"),
    ],
)
def test_smoothing_refuses_bad_numbers(arguments: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        smoothed_actions(torch.zeros(2, 1), **arguments)  # type: ignore[arg-type]


def test_shapes_that_would_broadcast_are_refused() -> None:
    column, row = torch.zeros(3, 1), torch.zeros(3)
    with pytest.raises(ValueError, match=r"'next_q2': \(3, 1\)"):
        td3_target(row, row, row, column)
    with pytest.raises(ValueError, match=r"'next_logp': \(3, 1\)"):
        soft_q_target(row, row, row, row, column, alpha=0.1)
    with pytest.raises(ValueError, match=r"'logp': \(3, 1\)"):
        soft_policy_loss(column, row, row, alpha=0.1)
    with pytest.raises(ValueError, match=r"'values': \(3, 1\)"):
        deterministic_policy_loss(column)
    with pytest.raises(ValueError, match=r"must be \[N, A\]; got \(3,\)"):
        saturation_penalty(row)
    with pytest.raises(ValueError, match=r"got \(3, 1\) and \(3,\)"):
        critic_loss(column, row)
    with pytest.raises(ValueError, match=r"scalar; got \(3,\)"):
        temperature_loss(row, row, target_entropy=-1.0)


@pytest.mark.parametrize("log_std", [torch.zeros(3), torch.zeros(3, 1)])
def test_gaussians_of_differing_shapes_are_refused(log_std: Tensor) -> None:
    mean = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"all be \[N, A\]; got \(3, 2\)"):
        squashed_gaussian_log_prob(mean, log_std, mean)
    with pytest.raises(ValueError, match=r"all be \[N, A\]; got \(3, 2\)"):
        squashed_gaussian_sample(mean, log_std)
