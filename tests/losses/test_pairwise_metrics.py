"""MICo's and SimSR's distances: by hand, gradients at parallel vectors, the tabular operator."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlssl.losses import cosine_distance, mico_distance, mico_operator, pairwise_metric_loss
from rlssl.losses.pairwise_metrics import unit_vectors


def draws(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_mico_distance_by_hand() -> None:
    # (3, 4) with itself: 0.5 (25 + 25). Perpendicular units: 1 + 0.1 pi / 2 = 1.15708. Opposite
    # units: 1 + 0.1 pi = 1.31416. (3, 4) with a unit at 90 degrees: 0.5 (25 + 1) + 0.15708.
    x = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    y = torch.tensor([[3.0, 4.0], [0.0, 1.0], [-1.0, 0.0], [-0.8, 0.6]])
    found = mico_distance(x, y)
    assert found.shape == (2, 4)
    assert float(found[0, 0]) == pytest.approx(25.0, abs=1e-4)
    assert float(found[1, 1]) == pytest.approx(1.15708, abs=1e-5)
    assert float(found[1, 2]) == pytest.approx(1.31416, abs=1e-4)
    assert float(found[0, 3]) == pytest.approx(13.15708, abs=1e-4)


def test_mico_distance_equals_a_loop_over_pairs() -> None:
    x, y = draws(9, 3).split([4, 5])
    for i, first in enumerate(x):
        for j, second in enumerate(y):
            cosine = float(first @ second / (first.norm() * second.norm()))
            expected = 0.5 * float(first @ first + second @ second) + 0.3 * math.acos(cosine)
            found = float(mico_distance(x, y, beta=0.3)[i, j])
            assert found == pytest.approx(expected, abs=1e-4)


def test_distances_are_symmetric() -> None:
    x = draws(6, 4)
    for distance in (mico_distance(x, x), cosine_distance(x, x)):
        torch.testing.assert_close(distance, distance.T)


def test_equal_directions_have_no_cosine_distance() -> None:
    x = draws(6, 4)
    zeros = torch.zeros(6)
    torch.testing.assert_close(cosine_distance(x, 3.0 * x).diagonal(), zeros, atol=1e-6, rtol=0)
    torch.testing.assert_close(cosine_distance(x, -x).diagonal(), zeros + 2, atol=1e-6, rtol=0)


@pytest.mark.parametrize("distance", [mico_distance, cosine_distance])
@pytest.mark.parametrize("factor", [1.0, -1.0, 0.0])
def test_gradients_are_finite_at_parallel_opposite_and_zero_vectors(
    distance: Any, factor: float
) -> None:
    # cos = 1, -1, and undefined.
    x = torch.cat([torch.eye(3), draws(4, 3), torch.full((1, 3), 1e-9)]).requires_grad_()
    y = (factor * x.detach()).requires_grad_()
    distance(x, y).sum().backward()
    for tensor in (x, y):
        assert tensor.grad is not None and tensor.grad.isfinite().all()
    assert distance(x, y).isfinite().all()


def test_unit_vectors_of_tiny_and_huge_vectors_are_finite() -> None:
    vectors = torch.tensor([[0.0, 0.0], [1e-20, 0.0], [3e10, 4e10]], requires_grad=True)
    found = unit_vectors(vectors)
    torch.testing.assert_close(found[2].detach(), torch.tensor([0.6, 0.8]))
    found.sum().backward()
    assert found.isfinite().all() and vectors.grad is not None and vectors.grad.isfinite().all()


def test_loss_by_hand_and_its_target_has_no_gradient() -> None:
    # Targets |r_i - r_j| + 0.5 d': 0 + 0.5 = 0.5 and 2 + 0 = 2 for row 0; 2 + 1 = 3 and 0 for row
    # 1. Errors 0.5, -1; 1, 4. Huber: 0.125, 0.5; 0.5, 3.5. Means 0.3125 and 2.
    distance = torch.tensor([[1.0, 1.0], [4.0, 4.0]], requires_grad=True)
    following = torch.tensor([[1.0, 0.0], [2.0, 0.0]], requires_grad=True)
    rewards = torch.tensor([1.0, 3.0], requires_grad=True)
    found = pairwise_metric_loss(distance, following, rewards, rewards, gamma=0.5)
    torch.testing.assert_close(found, torch.tensor([0.3125, 2.0]))
    gradients = torch.autograd.grad(found.sum(), [distance, following, rewards], allow_unused=True)
    # Huber's slope is the error, at most 1; each row has the mean of two pairs.
    torch.testing.assert_close(gradients[0], torch.tensor([[0.25, -0.5], [0.5, 0.5]]))
    assert gradients[1] is None and gradients[2] is None


def fixed_point(rewards: Tensor, transitions: Tensor, gamma: float) -> Tensor:
    distances = torch.zeros_like(transitions)
    for _ in range(2000):
        distances = mico_operator(distances, rewards, transitions, gamma=gamma)
    return distances


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99])
def test_two_absorbing_states_are_the_reward_over_1_minus_gamma_apart(gamma: float) -> None:
    found = fixed_point(torch.tensor([0.0, 1.0]), torch.eye(2), gamma)
    apart = 1.0 / (1.0 - gamma)
    torch.testing.assert_close(found, torch.tensor([[0.0, apart], [apart, 0.0]]), rtol=1e-4, atol=0)


def test_random_futures_give_a_distance_to_oneself() -> None:
    # State 0 leads to the absorbing states 1 and 2 (rewards 0 and 1), with 1/2 each. Their
    # distance is 2 for gamma = 0.5. U(0, 0) = 0.5 * E[U(x', y')] = 0.5 * (1/2 * 2) = 0.5.
    # U(0, 1) = |0 - 0| + 0.5 * (1/2 * 2) = 0.5, and U(0, 2) = 1 + 0.5 * (1/2 * 2) = 1.5.
    transitions = torch.tensor([[0.0, 0.5, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = fixed_point(torch.tensor([0.0, 0.0, 1.0]), transitions, 0.5)
    expected = torch.tensor([[0.5, 0.5, 1.5], [0.5, 0.0, 2.0], [1.5, 2.0, 0.0]])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: mico_distance(torch.zeros(2, 3), torch.zeros(2, 4)), "x must be [N, D] and y"),
        (lambda: cosine_distance(torch.zeros(3), torch.zeros(3)), "x must be [N, D] and y [M, D]"),
        (
            lambda: pairwise_metric_loss(
                torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(2), torch.zeros(2), gamma=1.5
            ),
            "gamma must be in [0, 1]; got 1.5",
        ),
        (
            lambda: pairwise_metric_loss(
                torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(3), torch.zeros(2), gamma=1.0
            ),
            "next_distance must be [N, M] = [3, 2]",
        ),
        (
            lambda: pairwise_metric_loss(
                torch.zeros(2), torch.zeros(2, 2), torch.zeros(2), torch.zeros(2), gamma=1.0
            ),
            "distance must be [N, M], like next_distance (2, 2); got (2,)",
        ),
        (
            lambda: mico_operator(torch.zeros(2, 2), torch.zeros(2), torch.eye(3), gamma=0.5),
            "distances and transitions must both be [S, S]",
        ),
        (
            lambda: mico_operator(torch.zeros(2, 2), torch.zeros(2), torch.eye(2), gamma=-0.5),
            "gamma must be in [0, 1]; got -0.5",
        ),
    ],
)
def test_wrong_arguments_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
