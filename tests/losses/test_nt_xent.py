"""NT-Xent and InfoNCE against given negatives: values by hand, slow references, gradients."""

import math

import pytest
import torch
from torch import Tensor

from rlssl.losses import nt_xent, queue_info_nce
from rlssl.losses.contrastive import unit_vectors


def random_rows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def slow_nt_xent(first: Tensor, second: Tensor, temperature: float) -> list[float]:
    """The formula of the docstring, one row at a time."""
    rows = [*first, *second]
    num = len(first)
    losses = []
    for i, row in enumerate(rows):
        logits = [float(torch.cosine_similarity(row, z, dim=0)) / temperature for z in rows]
        total = sum(math.exp(logit) for j, logit in enumerate(logits) if j != i)
        losses.append(math.log(total) - logits[(i + num) % (2 * num)])
    return [(losses[n] + losses[num + n]) / 2 for n in range(num)]


def slow_queue_info_nce(
    query: Tensor, key: Tensor, negatives: Tensor, allowed: Tensor, temperature: float
) -> list[float]:
    losses = []
    for i, row in enumerate(query):
        positive = float(torch.cosine_similarity(row, key[i], dim=0)) / temperature
        others = [
            float(torch.cosine_similarity(row, z, dim=0)) / temperature
            for z, counts in zip(negatives, allowed[i], strict=True)
            if counts
        ]
        losses.append(math.log(sum(map(math.exp, [positive, *others]))) - positive)
    return losses


def test_nt_xent_of_equal_embeddings_is_log_of_the_others() -> None:
    ones = torch.ones(8, 3)
    torch.testing.assert_close(nt_xent(ones, ones), torch.full((8,), math.log(15)))


def test_nt_xent_of_perfect_pairs_by_hand() -> None:
    # N = 8 orthogonal pairs, temperature 0.5: log(1 + 14 e^-2) = 1.06288.
    eye = torch.eye(8)
    torch.testing.assert_close(nt_xent(eye, eye), torch.full((8,), 1.06288), rtol=0, atol=5e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_equals_the_slow_reference(temperature: float) -> None:
    first, second = random_rows(2, 5, 4).unbind(0)
    found = nt_xent(first, second, temperature=temperature).tolist()
    assert found == pytest.approx(slow_nt_xent(first, second, temperature), rel=1e-4)


def test_nt_xent_ignores_the_order_of_views_and_the_norms_of_rows() -> None:
    first, second = random_rows(2, 5, 4).unbind(0)
    expected = nt_xent(first, second)
    torch.testing.assert_close(nt_xent(second, first), expected)
    scales = torch.tensor([0.1, 1.0, 3.0, 10.0, 100.0])[:, None]
    torch.testing.assert_close(nt_xent(scales * first, second / scales), expected)
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(nt_xent(first[order], second[order]), expected[order])


def test_both_views_get_gradients() -> None:
    first, second = (view.clone().requires_grad_() for view in random_rows(2, 5, 4))
    nt_xent(first, second).mean().backward()
    for view in (first, second):
        assert view.grad is not None and view.grad.abs().sum() > 0


def test_zero_vectors_are_finite_with_finite_gradients() -> None:
    first, second = (torch.zeros(3, 4, requires_grad=True) for _ in range(2))
    losses = nt_xent(first, second)
    torch.testing.assert_close(losses, torch.full((3,), math.log(5)))
    losses.mean().backward()
    one = random_rows(3, 4)
    one[1] = 0
    one.requires_grad_()
    queue_info_nce(one, one.detach(), torch.zeros(2, 4)).mean().backward()
    for rows in (first, second, one):
        # A direction that is computed with an epsilon of 1e-12 would have gradients of 1e12.
        assert rows.grad is not None and rows.grad.isfinite().all() and rows.grad.abs().max() < 100


def test_unit_vectors_by_hand() -> None:
    rows = torch.tensor([[3.0, -4.0], [0.0, 0.0], [0.0, 1e-9]])
    expected = torch.tensor([[0.6, -0.8], [0.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(unit_vectors(rows), expected)


@pytest.mark.parametrize("num", [0, 1])
def test_nt_xent_without_negatives_is_refused(num: int) -> None:
    with pytest.raises(ValueError, match=f"nt_xent needs N >= 2: with {num} there are no neg"):
        nt_xent(torch.ones(num, 2), torch.ones(num, 2))


def test_queue_info_nce_of_equal_vectors_is_log_of_the_candidates() -> None:
    ones = torch.ones(2, 3)
    found = queue_info_nce(ones, ones, torch.ones(7, 3))
    torch.testing.assert_close(found, torch.full((2,), math.log(8)))


def test_queue_info_nce_by_hand() -> None:
    # The positive at cosine 1, two negatives at 0, temperature 0.5: log(1 + 2 e^-2).
    query, negatives = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, -3.0]])
    found = queue_info_nce(query, query, negatives, temperature=0.5)
    assert found.item() == pytest.approx(math.log(1 + 2 * math.exp(-2)))


def test_queue_info_nce_equals_the_slow_reference() -> None:
    query, key = random_rows(2, 4, 3).unbind(0)
    negatives = random_rows(5, 3)
    allowed = torch.rand(4, 5, generator=torch.Generator().manual_seed(1)) > 0.5
    found = queue_info_nce(query, key, negatives, temperature=0.3, allowed=allowed).tolist()
    assert found == pytest.approx(
        slow_queue_info_nce(query, key, negatives, allowed, 0.3), rel=1e-4
    )


def test_negatives_that_do_not_count_change_nothing() -> None:
    query, key = (rows.clone().requires_grad_() for rows in random_rows(2, 4, 3))
    negatives = random_rows(5, 3)
    expected = queue_info_nce(query, key, negatives[:2])
    negatives[2:] = 77
    allowed = torch.tensor([[True, True, False, False, False]])
    found = queue_info_nce(query, key, negatives, allowed=allowed)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss.sum(), [query, key]) for loss in (expected, found)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("num", [0, 3])
def test_query_without_negatives_costs_nothing_and_has_the_gradient_zero(num: int) -> None:
    query = random_rows(2, 3).requires_grad_()
    allowed = torch.zeros(2, num, dtype=torch.bool)
    losses = queue_info_nce(query, random_rows(2, 3), torch.ones(num, 3), allowed=allowed)
    assert not losses.any()
    losses.sum().backward()
    assert query.grad is not None and not query.grad.any()


def test_wrong_arguments_are_refused() -> None:
    rows = torch.ones(2, 3)
    with pytest.raises(ValueError, match="temperature must be > 0; got 0"):
        nt_xent(rows, rows, temperature=0)
    with pytest.raises(ValueError, match="temperature must be > 0; got -1"):
        queue_info_nce(rows, rows, rows, temperature=-1)
    with pytest.raises(ValueError, match=r"must be \[N, D\], with the same N and D"):
        nt_xent(rows, rows[:, :2])
    with pytest.raises(ValueError, match=r"negatives must be \[K, 3\], as the queries"):
        queue_info_nce(rows, rows, torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"allowed must be \(2, 4\), queries by negatives"):
        queue_info_nce(rows, rows, torch.ones(4, 3), allowed=torch.ones(4, 2) > 0)
