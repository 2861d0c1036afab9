"""Heads: what they give before any training."""

import torch

from rlssl.networks.heads import GaussianHead, linear_head


def test_linear_head_starts_with_the_asked_gain_and_no_bias() -> None:
    head = linear_head(8, 3, gain=0.5)
    torch.testing.assert_close(torch.linalg.svdvals(head.weight.detach()), torch.full((3,), 0.5))
    assert not head.bias.any()


def test_gaussian_head_gives_means_then_a_deviation_that_ignores_the_latent() -> None:
    head = GaussianHead(in_dim=8, action_dim=2)
    with torch.no_grad():
        head.log_std.copy_(torch.tensor([-1.0, 0.5]))
    output = head(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    assert output.shape == (4, 4)
    assert output[:, 2:].tolist() == [[-1.0, 0.5]] * 4
    # Gain 0.01: |mean| <= 0.01 * |latent|, and |latent| is about sqrt 8.
    assert 0 < output[:, :2].abs().max() < 0.06


def test_deviation_is_trained() -> None:
    head = GaussianHead(in_dim=8, action_dim=2)
    head(torch.zeros(4, 8)).sum().backward()
    # Each of the 4 rows adds 1.
    assert head.log_std.grad is not None
    assert head.log_std.grad.tolist() == [4.0, 4.0]
