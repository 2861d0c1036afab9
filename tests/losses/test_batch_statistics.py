"""Barlow Twins and VICReg: values by hand, slow references, gradients, errors."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rlssl.losses import barlow_twins, vicreg


def vicreg_sum(first: Tensor, second: Tensor, **weights: float) -> Tensor:
    """[N], the sum of the three terms."""
    invariance, variance, covariance = vicreg(first, second, **weights).values()
    return invariance + variance + covariance


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "barlow_twins": barlow_twins,
    "vicreg": vicreg_sum,
}

#: Four rows, two features: mean 0, variance 1 (divided by N), no correlation.
WHITE = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])


def random_views(num: int = 6, dim: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, num, dim, generator=generator).unbind(0)
    return 0.7 * first + 1, second


def standardized(rows: Tensor) -> Tensor:
    """BatchNorm in training, one feature at a time."""
    columns = []
    for column in rows.unbind(1):
        mean = sum(column) / len(column)
        variance = sum((value - mean) ** 2 for value in column) / len(column)
        columns.append((column - mean) / math.sqrt(float(variance) + 1e-5))
    return torch.stack(columns, dim=1)


def slow_barlow_twins(first: Tensor, second: Tensor, off_diagonal: float) -> float:
    """The formula of the docstring, entry by entry."""
    first, second = standardized(first), standardized(second)
    num, dim = first.shape
    loss = 0.0
    for d, e in itertools.product(range(dim), repeat=2):
        entry = sum(float(first[n, d] * second[n, e]) for n in range(num)) / num
        loss += (1 - entry) ** 2 if d == e else off_diagonal * entry**2
    return loss


def slow_vicreg(first: Tensor, second: Tensor) -> tuple[list[float], float, float]:
    """Invariance of each row, variance and covariance with the published weights."""
    num, dim = first.shape
    rows = [25 * sum(float(d) ** 2 for d in first[n] - second[n]) / dim for n in range(num)]
    variance = covariance = 0.0
    for view in (first, second):
        means = [sum(map(float, column)) / num for column in view.unbind(1)]
        for d, e in itertools.product(range(dim), repeat=2):
            products = ((float(row[d]) - means[d]) * (float(row[e]) - means[e]) for row in view)
            entry = sum(products) / (num - 1)
            if d == e:
                variance += 25 * 0.5 * max(0.0, 1 - math.sqrt(entry + 1e-4)) / dim
            else:
                covariance += entry**2 / dim
    return rows, variance, covariance


@pytest.mark.parametrize("name", LOSSES)
def test_equal_whitened_views_cost_nothing(name: str) -> None:
    # VICReg's variance divides by N - 1: 4 / 3 > 1, so the hinge is satisfied.
    loss = LOSSES[name](WHITE, WHITE)
    torch.testing.assert_close(loss, torch.zeros(4), rtol=0, atol=1e-6)


def test_barlow_twins_by_hand() -> None:
    # Constants: C = 0, (1 - 0)^2 for each of D = 2 features.
    torch.testing.assert_close(
        barlow_twins(torch.ones(4, 2), torch.ones(4, 2)), torch.full((4,), 2.0)
    )
    # (z, -z): C = -1 on the diagonal, (1 + 1)^2 * 2 = 4 D.
    opposite = barlow_twins(WHITE, -WHITE)
    torch.testing.assert_close(opposite, torch.full((4,), 8.0), rtol=1e-4, atol=0)
    # A duplicated feature: 2 entries off the diagonal are 1; 2 * 0.005.
    twice = WHITE[:, :1].expand(4, 2)
    loss = barlow_twins(twice, twice, off_diagonal=0.005)
    torch.testing.assert_close(loss, torch.full((4,), 0.01), rtol=1e-4, atol=0)


def test_vicreg_by_hand() -> None:
    # Constants: only 25 * 0.5 * 2 * (1 - sqrt(1e-4)).
    constant = torch.full((4, 3), 5.0)
    assert vicreg_sum(constant, constant).tolist() == pytest.approx([24.75] * 4)
    # A duplicated feature of +-1, N = 4: cov = 4 / 3 twice; 2 views * 2 * (4 / 3)^2 / 2 = 3.5556.
    twice = WHITE[:, :1].expand(4, 2)
    terms = vicreg(twice, twice)
    assert terms["covariance"].tolist() == pytest.approx([32 / 9] * 4)
    assert not terms["invariance"].any() and not terms["variance"].any()
    # Rows that are 2 apart in one of two features: 25 * 2^2 / 2.
    moved = vicreg(WHITE, WHITE + torch.tensor([2.0, 0.0]))
    assert moved["invariance"].tolist() == pytest.approx([50.0] * 4)


def test_both_equal_their_slow_references() -> None:
    first, second = random_views()
    found = barlow_twins(first, second, off_diagonal=0.1)
    assert found.tolist() == pytest.approx([slow_barlow_twins(first, second, 0.1)] * 6, rel=1e-4)
    rows, variance, covariance = slow_vicreg(first, second)
    terms = vicreg(first, second)
    assert terms["invariance"].tolist() == pytest.approx(rows)
    assert terms["variance"].tolist() == pytest.approx([variance] * 6, rel=1e-5)
    assert terms["covariance"].tolist() == pytest.approx([covariance] * 6, rel=1e-5)


def test_weights_scale_their_terms_only() -> None:
    first, second = random_views()
    base, found = vicreg(first, second), vicreg(first, second, invariance=5.0, covariance=0.0)
    torch.testing.assert_close(found["invariance"], base["invariance"] / 5)
    assert torch.equal(found["variance"], base["variance"]) and not found["covariance"].any()


@pytest.mark.parametrize("name", LOSSES)
def test_mean_over_the_rows_has_the_whole_gradient(name: str) -> None:
    first, second = (view.requires_grad_() for view in random_views())
    losses = LOSSES[name](first, second)
    by_mean = torch.autograd.grad(losses.mean(), [first, second], retain_graph=True)
    # One row alone has the gradient of the number, for the terms that are one number.
    if name == "barlow_twins":
        for mean, one in zip(by_mean, torch.autograd.grad(losses[2], [first, second]), strict=True):
            torch.testing.assert_close(mean, one)
    assert all(bool(gradient.any()) for gradient in by_mean)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant_embeddings_have_finite_gradients(name: str, value: float) -> None:
    first, second = (torch.full((4, 3), value, requires_grad=True) for _ in range(2))
    LOSSES[name](first, second).mean().backward()
    for view in (first, second):
        assert view.grad is not None and view.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_order_of_rows_and_of_views_does_not_matter(name: str) -> None:
    first, second = random_views()
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    expected = LOSSES[name](first, second)
    torch.testing.assert_close(LOSSES[name](first[order], second[order]), expected[order])
    torch.testing.assert_close(LOSSES[name](second, first), expected)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("num", [0, 1])
def test_fewer_than_two_rows_are_refused(name: str, num: int) -> None:
    with pytest.raises(ValueError, match=f"{name} needs N >= 2: {num} rows have no variance"):
        LOSSES[name](torch.zeros(num, 3), torch.zeros(num, 3))


@pytest.mark.parametrize(
    "loss, options, message",
    [
        (barlow_twins, {"off_diagonal": -1.0}, "off_diagonal must be >= 0; got -1.0"),
        (vicreg, {"invariance": -1.0}, "invariance must be >= 0; got -1.0"),
        (vicreg, {"covariance": float("nan")}, "covariance must be >= 0; got nan"),
    ],
)
def test_bad_weights_are_refused(loss: Any, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss(WHITE, WHITE, **options)


@pytest.mark.parametrize("name", LOSSES)
def test_views_of_different_shapes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"must be \[N, D\], with the same N and D"):
        LOSSES[name](WHITE, WHITE[:, :1])
