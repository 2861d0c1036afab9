"""IQL's losses: by hand, against slow references, gradients, errors."""

import math

import pytest
import torch

from rlssl.losses import advantage_weights, expectile_loss, weighted_log_likelihood_loss


def test_expectile_loss_by_hand() -> None:
    # e = 2: 0.7 * 4 = 2.8; e = -2: 0.3 * 4 = 1.2; e = 0: 0. Gradients: -2 * weight * e.
    value = torch.tensor([1.0, 1.0, 1.0], requires_grad=True)
    loss = expectile_loss(value, torch.tensor([3.0, -1.0, 1.0]), expectile=0.7)
    torch.testing.assert_close(loss, torch.tensor([2.8, 1.2, 0.0]))
    loss.sum().backward()
    torch.testing.assert_close(value.grad, torch.tensor([-2.8, 1.2, 0.0]))


@pytest.mark.parametrize(("expectile", "expected"), [(0.5, 2.0), (0.75, 3.0), (0.9, 3.6)])
def test_minimizer_is_the_expectile(expectile: float, expected: float) -> None:
    # Targets 0 and 4: expectile * (4 - v) = (1 - expectile) * v, so v = 4 * expectile.
    targets = torch.tensor([0.0, 4.0])
    grid = torch.linspace(0.0, 4.0, 401)
    losses = [float(expectile_loss(v.expand(2), targets, expectile=expectile).sum()) for v in grid]
    assert float(grid[losses.index(min(losses))]) == pytest.approx(expected, abs=1e-6)


def test_weights_by_hand_and_the_clip_of_an_overflow() -> None:
    # exp(3 * 0.5) = 4.4817, exp(-3) = 0.0498; exp(3 * 50) overflows float32.
    weights = advantage_weights(
        torch.tensor([0.5, -1.0, 0.0, 50.0]), inverse_temperature=3.0, max_weight=100.0
    )
    expected = torch.tensor([math.exp(1.5), math.exp(-3.0), 1.0, 100.0])
    torch.testing.assert_close(weights, expected)


def test_without_temperature_the_actor_loss_is_the_negative_log_likelihood() -> None:
    logp = torch.tensor([-1.0, -2.5], requires_grad=True)
    weights = advantage_weights(torch.tensor([5.0, -5.0]), inverse_temperature=0.0, max_weight=9.0)
    loss = weighted_log_likelihood_loss(logp, weights)
    torch.testing.assert_close(loss, torch.tensor([1.0, 2.5]))
    loss.sum().backward()
    torch.testing.assert_close(logp.grad, torch.tensor([-1.0, -1.0]))


def test_bad_arguments_are_refused() -> None:
    row, column = torch.zeros(4), torch.zeros(4, 1)
    with pytest.raises(ValueError, match=r"'value': \(4, 1\)"):
        expectile_loss(column, row, expectile=0.7)
    for expectile in (0.0, 1.0):
        with pytest.raises(ValueError, match=rf"expectile must be in \(0, 1\); got {expectile}"):
            expectile_loss(row, row, expectile=expectile)
    with pytest.raises(ValueError, match="inverse_temperature must be >= 0; got -3"):
        advantage_weights(row, inverse_temperature=-3.0, max_weight=1.0)
    with pytest.raises(ValueError, match="max_weight must be > 0; got 0"):
        advantage_weights(row, inverse_temperature=3.0, max_weight=0.0)
    with pytest.raises(ValueError, match=r"\[N\]"):
        advantage_weights(column, inverse_temperature=3.0, max_weight=1.0)
    with pytest.raises(ValueError, match=r"'weight': \(4, 1\)"):
        weighted_log_likelihood_loss(row, column)
