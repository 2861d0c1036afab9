"""Distances of predicted latents, and collapse when targets carry gradients."""

import pytest
import torch
from torch import Tensor

from rlssl.losses.self_prediction import latent_prediction_loss


@pytest.mark.parametrize(
    "one, other, expected",
    [
        ([1.0, 0.0], [5.0, 0.0], 0.0),
        ([1.0, 0.0], [0.0, 2.0], 2.0),
        ([1.0, 0.0], [-3.0, 0.0], 4.0),
        ([1.0, 0.0], [1.0, 1.0], 0.585786),
        ([0.0, 0.0], [1.0, 1.0], 2.0),
    ],
)
def test_known_values(one: list[float], other: list[float], expected: float) -> None:
    first, second = torch.tensor(one), torch.tensor(other)
    assert float(latent_prediction_loss(first, second)) == pytest.approx(expected, abs=1e-6)
    scaled = latent_prediction_loss(7 * first, 0.1 * second)
    assert float(scaled) == pytest.approx(expected, abs=1e-6)
    assert float(latent_prediction_loss(first, second, "l2")) == pytest.approx(
        sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) / 2
    )


def test_gradients_are_finite_at_zero() -> None:
    zero = torch.zeros(3, 4, requires_grad=True)
    latent_prediction_loss(zero, torch.ones(3, 4)).sum().backward()
    assert zero.grad is not None and zero.grad.isfinite().all()


def test_an_unknown_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="distance must be one of"):
        latent_prediction_loss(torch.ones(2), torch.ones(2), "angle")


def tabular_features(target: str) -> Tensor:
    """Singular values of 4 features of 20 states after 4,000 steps of self-prediction.

    At each step the linear predictor is the least-squares one; then the features take a step of
    gradient descent. ``target``: "stopped", "ema" or "with gradients".
    """
    generator = torch.Generator().manual_seed(0)
    raw = torch.rand(20, 20, generator=generator, dtype=torch.float64)
    transitions = raw + raw.T
    for _ in range(200):  # nearly symmetric, rows sum to 1
        transitions = transitions / transitions.sum(dim=1, keepdim=True)
        transitions = 0.5 * (transitions + transitions.T)
    transitions = transitions / transitions.sum(dim=1, keepdim=True)
    features = torch.linalg.qr(torch.randn(20, 4, generator=generator, dtype=torch.float64))[0]
    copy = features.clone()
    for _ in range(4_000):
        features.requires_grad_(True)
        source = {"stopped": features.detach(), "ema": copy, "with gradients": features}[target]
        targets = transitions @ source
        predictor = torch.linalg.lstsq(features.detach(), targets.detach()).solution
        # The mean over the features times their number: the sum.
        loss = 4 * latent_prediction_loss(features @ predictor, targets, "l2").sum()
        (gradient,) = torch.autograd.grad(loss, features)
        features = (features - 0.1 * gradient).detach()
        copy = copy.lerp(features, 0.005)
    return torch.linalg.svdvals(features)


@pytest.mark.parametrize("target", ["stopped", "ema"])
def test_features_keep_their_size_without_gradients_in_the_targets(target: str) -> None:
    values = tabular_features(target)
    assert values.min() > 0.999 and values.max() < 1.03


def test_features_shrink_with_gradients_in_the_targets() -> None:
    values = tabular_features("with gradients")
    assert values.max() < 0.95 and values.min() < 0.5
