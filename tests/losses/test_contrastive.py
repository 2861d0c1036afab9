"""Contrastive losses: values by hand, slow reference, permutation, gradients, errors."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rlssl.losses import bilinear_info_nce, info_nce, masked_info_nce


def reference_info_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """The docstring's formula, one sample at a time."""
    losses = []
    for i in range(len(query)):
        sims = [torch.cosine_similarity(query[i], k, dim=0) / temperature for k in key]
        losses.append(torch.logsumexp(torch.stack(sims), dim=0) - sims[i])
    return torch.stack(losses)


def test_info_nce_by_hand() -> None:
    # Orthonormal rows, query == key: s_ii = 1, s_ij = 0, so with temperature 1
    # loss_i = log(e + 1) - 1 = 0.3132617.
    eye = torch.eye(2)
    expected = torch.full((2,), math.log(math.e + 1.0) - 1.0)
    torch.testing.assert_close(info_nce(eye, eye, temperature=1.0), expected)


def test_uninformative_embeddings_cost_log_batch_size() -> None:
    ones = torch.ones(16, 8)
    torch.testing.assert_close(info_nce(ones, ones), torch.full((16,), math.log(16.0)))


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_info_nce_equals_the_slow_reference(temperature: float) -> None:
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


def reference_bilinear(query: Tensor, key: Tensor, weight: Tensor, scale: float) -> Tensor:
    """The docstring's formula, one sample at a time."""
    losses = []
    for i in range(len(query)):
        sims = torch.stack([scale * (query[i] @ weight @ k) for k in key])
        losses.append(torch.logsumexp(sims, dim=0) - sims[i])
    return torch.stack(losses)


def random_bilinear(n: int = 6, d: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, n, d, generator=generator).unbind(0)
    return query, key, torch.rand(d, d, generator=generator)


def test_bilinear_info_nce_by_hand() -> None:
    # query @ W = [[2, 1], [0, 3]]; with keys (1, 0) and (0, 1) the similarities are the same:
    # loss_0 = log(e^2 + e^1) - 2 = 0.3132617, loss_1 = log(1 + e^3) - 3 = 0.0485874.
    weight = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
    loss = bilinear_info_nce(torch.eye(2), torch.eye(2), weight)
    torch.testing.assert_close(loss, torch.tensor([0.3132617, 0.0485874]))
    # With a scale of 1/3: log(e^(2/3) + e^(1/3)) - 2/3 = 0.5403053, log(1 + e) - 1.
    scaled = bilinear_info_nce(torch.eye(2), torch.eye(2), weight, scale=1 / 3)
    torch.testing.assert_close(scaled, torch.tensor([0.5403053, 0.3132617]))


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_bilinear_info_nce_equals_the_slow_reference(scale: float) -> None:
    query, key, weight = random_bilinear()
    expected = reference_bilinear(query, key, weight, scale)
    actual = bilinear_info_nce(query, key, weight, scale=scale)
    torch.testing.assert_close(actual, expected)


def test_uninformative_bilinear_embeddings_cost_log_batch_size() -> None:
    ones = torch.ones(16, 8)
    torch.testing.assert_close(
        bilinear_info_nce(ones, ones, torch.rand(8, 8)), torch.full((16,), math.log(16.0))
    )


def test_permuting_the_batch_permutes_the_bilinear_losses() -> None:
    query, key, weight = random_bilinear()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    permuted = bilinear_info_nce(query[order], key[order], weight)
    torch.testing.assert_close(permuted, bilinear_info_nce(query, key, weight)[order])


def test_some_queries_with_all_keys_give_the_same_losses_as_all_queries() -> None:
    query, key, weight = random_bilinear()
    part = bilinear_info_nce(query[2:5], key, weight, positives=torch.tensor([2, 3, 4]))
    torch.testing.assert_close(part, bilinear_info_nce(query, key, weight)[2:5])


def test_bilinear_gradient_flows_into_query_and_weight_but_not_a_detached_key() -> None:
    query, key, weight = (tensor.requires_grad_() for tensor in random_bilinear())
    bilinear_info_nce(query, key.detach(), weight).mean().backward()
    assert query.grad is not None and query.grad.abs().sum() > 0
    assert weight.grad is not None and weight.grad.abs().sum() > 0
    assert key.grad is None


def test_large_similarities_stay_finite() -> None:
    query, key, weight = random_bilinear()
    assert bilinear_info_nce(1e15 * query, 1e15 * key, weight).isfinite().all()


@pytest.mark.parametrize(
    "query, key, weight, options, match",
    [
        ((4, 3), (4, 2), (3, 3), {}, r"key \[M, D\]"),
        ((4, 3), (4, 3), (3, 2), {}, r"weight \[D, D\]"),
        ((4, 1, 3), (4, 3), (3, 3), {}, r"query must be \[N, D\]"),
        ((1, 3), (1, 3), (3, 3), {}, "2 keys or more"),
        ((4, 3), (5, 3), (3, 3), {}, "4 queries and 5 keys need positives"),
        ((4, 3), (4, 3), (3, 3), {"scale": 0.0}, "scale must be > 0; got 0.0"),
    ],
)
def test_bilinear_rejects_bad_arguments(
    query: tuple[int, ...],
    key: tuple[int, ...],
    weight: tuple[int, ...],
    options: dict[str, Any],
    match: str,
) -> None:
    with pytest.raises(ValueError, match=match):
        bilinear_info_nce(torch.ones(query), torch.ones(key), torch.ones(weight), **options)


def test_bilinear_loss_is_finite_where_exponentials_are_not() -> None:
    # Similarities 2,000 and 1,000: their exponentials overflow float32, their difference does not.
    query = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]], requires_grad=True)
    key, weight = torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.eye(2)
    loss = bilinear_info_nce(query, key, weight)
    assert loss.tolist() == [0.0, 0.0]
    swapped = bilinear_info_nce(query, key, weight, positives=torch.tensor([1, 0]))
    assert swapped.tolist() == [1000.0, 1000.0]
    (slope,) = torch.autograd.grad(swapped.sum(), query)
    # The negative key minus the positive key.
    assert slope.tolist() == [[1.0, -1.0], [-1.0, 1.0]]


def test_bilinear_gradients_contain_no_denormal_floats() -> None:
    # Softmax probabilities from 1 to 1e-44; the smallest are denormal.
    key, weight = torch.eye(102), torch.eye(102, requires_grad=True)
    query = 101.0 - torch.arange(102.0).repeat(102, 1)
    positives = torch.zeros(102, dtype=torch.int64)
    (ours,) = torch.autograd.grad(
        bilinear_info_nce(query, key, weight, positives=positives).mean(), weight
    )
    (plain,) = torch.autograd.grad(F.cross_entropy(query @ weight @ key.T, positives), weight)
    torch.testing.assert_close(ours, plain)
    for gradient, has_denormals in ((ours, False), (plain, True)):
        sizes = gradient.abs()
        assert ((sizes > 0) & (sizes < torch.finfo(torch.float32).tiny)).any() == has_denormals


LOGITS = torch.tensor([[1.0, 0.0, 2.0], [0.5, 3.0, -1.0]])
POSITIVES = torch.tensor([2, 0])


def test_all_candidates_are_plain_cross_entropy() -> None:
    query, key = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    weight = torch.eye(3)
    expected = bilinear_info_nce(query, key, weight)
    found = masked_info_nce(query @ key.T, torch.arange(4))
    torch.testing.assert_close(found, expected)
    everything = torch.ones(4, 4, dtype=torch.bool)
    torch.testing.assert_close(masked_info_nce(query @ key.T, torch.arange(4), everything), found)


def test_masked_candidates_do_not_count_and_the_positive_always_does() -> None:
    # Row 0: the positive 2 and the candidate 0: log(e^1 + e^2) - 2. Row 1 has no negative.
    allowed = torch.tensor([[True, False, False], [False, False, False]])
    found = masked_info_nce(LOGITS, POSITIVES, allowed)
    assert found.tolist() == pytest.approx([math.log(math.e + math.e**2) - 2, 0.0], abs=1e-6)


def test_no_gradient_reaches_masked_candidates() -> None:
    logits = LOGITS.clone().requires_grad_()
    allowed = torch.tensor([[True, False, True], [False, False, False]])
    masked_info_nce(logits, POSITIVES, allowed).sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[True, False, True], [False, False, False]]


def test_large_masked_logits_do_not_overflow() -> None:
    found = masked_info_nce(torch.tensor([[1e4, 0.0]]), torch.tensor([1]))
    assert found.tolist() == [1e4]


@pytest.mark.parametrize(
    "positives, allowed, message",
    [
        (torch.tensor([0]), None, r"logits must be \[N, M\] and positives \[N\]; got \(2, 3\)"),
        (POSITIVES, torch.ones(2, 2, dtype=torch.bool), r"allowed must have the shape \(2, 3\)"),
    ],
)
def test_wrong_shapes_of_masked_candidates_are_refused(
    positives: torch.Tensor, allowed: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        masked_info_nce(LOGITS, positives, allowed)
