"""KL divergence from the standard normal: by hand, against torch, gradients, bad arguments."""

import math

import pytest
import torch

from rlssl.losses import standard_normal_kl


def test_kl_by_hand() -> None:
    # mean 1, variance 1: 1 / 2. mean 0, variance e: (e - 1 - 1) / 2 = .359141. N(0, 1): 0.
    # mean 2, variance 1 / 4: (4 + 1 / 4 - 1 + log 4) / 2 = 2.318147.
    mean = torch.tensor([[1.0, 0.0, 0.0, 2.0]])
    log_variance = torch.tensor([[0.0, 1.0, 0.0, -math.log(4)]])
    expected = torch.tensor([[0.5, 0.359141, 0.0, 2.318147]])
    torch.testing.assert_close(standard_normal_kl(mean, log_variance), expected)


def test_kl_equals_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 3, generator=generator)
    distributions = torch.distributions
    expected = distributions.kl_divergence(
        distributions.Normal(mean, (0.5 * log_variance).exp()), distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(standard_normal_kl(mean, log_variance), expected)


def test_gradient_vanishes_at_the_standard_normal_only() -> None:
    # d/dm = m; d/dv = (exp(v) - 1) / 2.
    mean = torch.tensor([[0.0, 3.0]], requires_grad=True)
    log_variance = torch.tensor([[0.0, 1.0]], requires_grad=True)
    standard_normal_kl(mean, log_variance).sum().backward()
    torch.testing.assert_close(mean.grad, torch.tensor([[0.0, 3.0]]))
    torch.testing.assert_close(log_variance.grad, torch.tensor([[0.0, 0.5 * (math.e - 1)]]))


def test_tiny_divergences_are_not_rounded_away() -> None:
    # v^2 / 4 for small v: 2.5e-9 for 1e-4, which 1 + v - exp(v) loses in float32.
    found = standard_normal_kl(torch.zeros(1, 1), torch.full((1, 1), 1e-4))
    assert float(found) == pytest.approx(2.5e-9, rel=0.01)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((3,), (3,))])
def test_wrong_shapes_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="must both be"):
        standard_normal_kl(*(torch.zeros(shape) for shape in shapes))
