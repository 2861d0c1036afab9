"""behavior_cloning_loss: values and gradients by hand, errors."""

import math

import pytest
import torch

from rlssl.losses import behavior_cloning_loss


def test_loss_by_hand() -> None:
    # -(-0.5) - 0.1 * 2 = 0.3 and -(-3) - 0.1 * 0.5 = 2.95; a density may exceed 1: -1.5 - 0.1.
    logp = torch.tensor([-0.5, -3.0, 1.5], requires_grad=True)
    entropy = torch.tensor([2.0, 0.5, 1.0], requires_grad=True)
    loss = behavior_cloning_loss(logp, entropy, entropy_coeff=0.1)
    torch.testing.assert_close(loss, torch.tensor([0.3, 2.95, -1.6]))
    loss.sum().backward()
    torch.testing.assert_close(logp.grad, torch.full((3,), -1.0))
    torch.testing.assert_close(entropy.grad, torch.full((3,), -0.1))


def test_uniform_policy_has_the_documented_loss() -> None:
    # log 4 - 0.25 * log 4
    uniform = torch.distributions.Categorical(logits=torch.zeros(2, 4))
    loss = behavior_cloning_loss(
        uniform.log_prob(torch.tensor([0, 3])), uniform.entropy(), entropy_coeff=0.25
    )
    torch.testing.assert_close(loss, torch.full((2,), 0.75 * math.log(4)))


def test_bad_arguments_are_refused() -> None:
    row = torch.zeros(4)
    with pytest.raises(ValueError, match=r"'entropy': \(4, 1\)"):
        behavior_cloning_loss(row, torch.zeros(4, 1), entropy_coeff=0.0)
    with pytest.raises(ValueError, match=r"entropy_coeff must be >= 0; got -1"):
        behavior_cloning_loss(row, row, entropy_coeff=-1.0)
