"""Ranks of latents, by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlssl.diagnostics.ranks import ranks


def test_the_identity_uses_every_direction() -> None:
    found = ranks(torch.eye(100))
    # 99 of 100 equal values are 99 %, up to rounding.
    assert found["srank"] == 99
    assert found["stable_rank"] == pytest.approx(100)
    assert found["effective_rank"] == pytest.approx(100)


def test_one_direction_is_rank_one() -> None:
    rows, columns = torch.linspace(1, 2, 50), torch.linspace(-1, 3, 20)
    found = ranks(rows[:, None] * columns)
    assert found["srank"] == 1
    assert found["stable_rank"] == pytest.approx(1, abs=1e-6)
    # Rounding to float32 gives other directions a share of about 1e-7.
    assert found["effective_rank"] == pytest.approx(1, abs=1e-4)


def test_singular_values_four_two_and_one() -> None:
    found = ranks(torch.diag(torch.tensor([1.0, 4.0, 2.0])), delta=0.15)
    # Sums of shares: 4/7 = 0.571, 6/7 = 0.857 >= 0.85.
    assert found["srank"] == 2
    # (16 + 4 + 1) / 16
    assert found["stable_rank"] == pytest.approx(21 / 16)
    entropy = -sum(p * math.log(p) for p in (4 / 7, 2 / 7, 1 / 7))
    assert found["effective_rank"] == pytest.approx(math.exp(entropy))


def test_the_mean_counts_as_a_direction() -> None:
    spread = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert ranks(spread)["srank"] == 1
    assert ranks(spread + torch.tensor([0.0, 1.0]))["srank"] == 2


def test_zeros_and_missing_rows_have_no_nan_by_accident() -> None:
    assert set(ranks(torch.zeros(5, 3)).values()) == {1.0}
    for unknown in (torch.zeros(0, 3), torch.tensor([[1.0, math.inf]])):
        assert all(math.isnan(value) for value in ranks(unknown).values())


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12))
def test_ranks_have_their_order_and_ignore_scale_and_rotation(
    seed: int, num_rows: int, num_features: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(num_rows, num_features, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(
        torch.randn(num_features, num_features, generator=generator, dtype=torch.float64)
    ).Q
    found = ranks(latents)
    rotated = ranks(3.0 * latents @ rotation)
    for key in ("stable_rank", "effective_rank"):
        assert rotated[key] == pytest.approx(found[key])
    most = min(num_rows, num_features) + 1e-9
    # sum(s^2) / s1^2 <= sum(s) / s1, and the entropy is at least log(1 / p1).
    assert 1 - 1e-9 <= found["stable_rank"] <= found["effective_rank"] + 1e-9 <= most + 1e-9
