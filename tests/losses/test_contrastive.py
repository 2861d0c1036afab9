"""info_nce: value, reference, symmetry, gradient, errors."""

import math

import pytest
import torch
from torch import Tensor

from rlssl.losses import info_nce


def reference_info_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """The docstring's formula, one sample at a time."""
    losses = []
    for i in range(len(query)):
        sims = [torch.cosine_similarity(query[i], k, dim=0) / temperature for k in key]
        losses.append(torch.logsumexp(torch.stack(sims), dim=0) - sims[i])
    return torch.stack(losses)


def test_hand_computed_value() -> None:
    # Orthonormal rows, query == key: s_ii = 1, s_ij = 0, so with temperature 1
    # loss_i = log(e + 1) - 1 = 0.3132617.
    eye = torch.eye(2)
    expected = torch.full((2,), math.log(math.e + 1.0) - 1.0)
    torch.testing.assert_close(info_nce(eye, eye, temperature=1.0), expected)


def test_uninformative_embeddings_cost_log_batch_size() -> None:
    ones = torch.ones(16, 8)
    torch.testing.assert_close(info_nce(ones, ones), torch.full((16,), math.log(16.0)))


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_matches_per_sample_reference(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 6, 5, generator=generator).unbind(0)
    actual = info_nce(query, key, temperature=temperature)
    torch.testing.assert_close(actual, reference_info_nce(query, key, temperature))


def test_permuting_the_batch_permutes_the_losses() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 6, 5, generator=generator).unbind(0)
    order = torch.randperm(6, generator=generator)
    permuted = info_nce(query[order], key[order])
    torch.testing.assert_close(permuted, info_nce(query, key)[order])


def test_detached_key_gets_no_gradient() -> None:
    query = torch.randn(4, 3, requires_grad=True)
    key = torch.randn(4, 3, requires_grad=True)
    info_nce(query, key.detach()).mean().backward()
    assert query.grad is not None and query.grad.abs().sum() > 0
    assert key.grad is None


@pytest.mark.parametrize(
    "query, key, temperature, match",
    [
        (torch.zeros(4, 3), torch.zeros(4, 2), 0.1, r"\[B, D\]"),
        (torch.zeros(1, 3), torch.zeros(1, 3), 0.1, "B >= 2"),
        (torch.zeros(4, 3), torch.zeros(4, 3), 0.0, "temperature"),
    ],
)
def test_rejects_bad_arguments(query: Tensor, key: Tensor, temperature: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        info_nce(query, key, temperature=temperature)
