"""C51: projection and loss by hand, slow loops, both ends of the support."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlssl.losses import c51_loss, c51_project, expected_values


def reference_projection(
    probs: Tensor, rewards: Tensor, discounts: Tensor, support: Tensor
) -> Tensor:
    """Algorithm 1 of the paper, one atom at a time, in double precision."""
    projected = torch.zeros_like(probs, dtype=torch.float64)
    low, high = support[0].item(), support[-1].item()
    step = (high - low) / (len(support) - 1)
    for n in range(len(probs)):
        for j, atom in enumerate(support.tolist()):
            moved = min(max(rewards[n].item() + discounts[n].item() * atom, low), high)
            place = (moved - low) / step
            below, above = math.floor(place), math.ceil(place)
            mass = probs[n, j].item()
            if below == above:
                projected[n, below] += mass
            else:
                projected[n, below] += mass * (above - place)
                projected[n, above] += mass * (place - below)
    return projected


def random_case(rows: int, atoms: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(rows, atoms, generator=generator).softmax(dim=-1)
    rewards = 4 * torch.randn(rows, generator=generator)
    discounts = 0.99 * (torch.rand(rows, generator=generator) > 0.3).float()
    return probs, rewards, discounts, torch.linspace(-5.0, 5.0, atoms)


def test_projection_between_two_atoms_by_hand() -> None:
    # Atoms 0, 1, 2, 3 have 0.1, 0.2, 0.3, 0.4; reward 0.25, discount 0.5: they move to 0.25, 0.75,
    # 1.25, 1.75. Atom 0: 0.1 * 0.75 + 0.2 * 0.25 = 0.125. Atom 1: 0.1 * 0.25 + 0.2 * 0.75
    # + 0.3 * 0.75 + 0.4 * 0.25 = 0.5. Atom 2: 0.3 * 0.25 + 0.4 * 0.75 = 0.375.
    projected = c51_project(
        torch.tensor([[0.1, 0.2, 0.3, 0.4]]),
        torch.tensor([0.25]),
        torch.tensor([0.5]),
        torch.arange(4.0),
    )
    torch.testing.assert_close(projected, torch.tensor([[0.125, 0.5, 0.375, 0.0]]))


def test_a_place_that_is_exactly_an_atom_gives_it_all_probability() -> None:
    # Reward 1, discount 1: every atom moves by one step; the last two are both at the upper end.
    probs = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    one = torch.ones(1)
    projected = c51_project(probs, one, one, torch.arange(4.0))
    torch.testing.assert_close(projected, torch.tensor([[0.0, 0.1, 0.2, 0.7]]))
    unmoved = c51_project(probs, 0 * one, one, torch.arange(4.0))
    torch.testing.assert_close(unmoved, probs)


@pytest.mark.parametrize("reward, end", [(99.0, 3), (3.0, 3), (0.0, 0), (-99.0, 0)])
def test_terminal_rewards_at_both_ends_and_outside(reward: float, end: int) -> None:
    projected = c51_project(
        torch.full((1, 4), 0.25), torch.tensor([reward]), torch.zeros(1), torch.arange(4.0)
    )
    assert projected.argmax().item() == end
    torch.testing.assert_close(projected[0, end], torch.tensor(1.0))


@given(rows=st.integers(0, 5), atoms=st.integers(2, 51), seed=st.integers(0, 1000))
def test_projection_equals_the_slow_reference(rows: int, atoms: int, seed: int) -> None:
    case = random_case(rows, atoms, seed)
    actual, expected = c51_project(*case), reference_projection(*case)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=2e-6)


def test_projection_keeps_the_mean_if_nothing_is_clipped() -> None:
    # The mean moves to 0.5 + 0.5 * mean, which is within the support.
    probs, _, _, support = random_case(8, 51, 0)
    half = torch.full((8,), 0.5)
    projected = c51_project(probs, half, half, support)
    expected = 0.5 + 0.5 * expected_values(probs, support)
    torch.testing.assert_close(expected_values(projected, support), expected)
    torch.testing.assert_close(projected.sum(dim=1), torch.ones(8))


def test_nan_reward_gives_nan() -> None:
    probs, rewards, discounts, support = random_case(3, 5, 0)
    rewards[1] = math.nan
    projected = c51_project(probs, rewards, discounts, support)
    assert projected.isnan().any(dim=1).tolist() == [False, True, False]


def test_expected_values_by_hand() -> None:
    probs = torch.tensor([[[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]])
    # -1 * 0.5; 0.75 * 1.
    values = expected_values(probs, torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(values, torch.tensor([[-0.5, 0.75]]))


def test_loss_by_hand_uses_the_taken_action() -> None:
    # Action 1: probabilities 0.25, 0.75. -(0.5 log 0.25 + 0.5 log 0.75) = 0.8369882.
    logits = torch.tensor([[[9.0, -9.0], [0.0, math.log(3.0)]]])
    loss = c51_loss(logits, torch.tensor([1]), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(loss, torch.tensor([0.8369882]))


def test_loss_equals_the_slow_loop_and_is_log_atoms_at_the_start() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, 5, generator=generator)
    target = torch.randn(6, 5, generator=generator).softmax(dim=-1)
    actions = torch.tensor([0, 1, 2, 2, 1, 0])
    expected = []
    for n, action in enumerate(actions.tolist()):
        log_probs = logits[n, action] - logits[n, action].logsumexp(dim=0)
        expected.append(-sum(target[n, i].item() * log_probs[i].item() for i in range(5)))
    torch.testing.assert_close(c51_loss(logits, actions, target), torch.tensor(expected))
    uniform = c51_loss(torch.zeros(6, 3, 5), actions, target)
    torch.testing.assert_close(uniform, torch.full((6,), math.log(5.0)))


@pytest.mark.parametrize(
    "shapes, match",
    [
        (((2, 4), (2,), (2,), (5,)), "support must be"),
        (((2, 1), (2,), (2,), (1,)), "2 atoms or more"),
        (((2, 4), (2, 1), (2,), (4,)), r"'rewards': \(2, 1\)"),
        (((2, 4), (3,), (3,), (4,)), r"got \(2, 4\) and \(3,\)"),
        (((2, 3, 4), (2,), (2,), (4,)), r"got \(2, 3, 4\) and \(2,\)"),
    ],
)
def test_projection_refuses_wrong_shapes(shapes: tuple[tuple[int, ...], ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        c51_project(*(torch.zeros(shape) for shape in shapes))


def test_loss_refuses_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 3, 4\) and \(2, 5\)"):
        c51_loss(torch.zeros(2, 3, 4), torch.zeros(2).long(), torch.zeros(2, 5))
    with pytest.raises(ValueError, match="support must be"):
        expected_values(torch.zeros(2, 4), torch.zeros(5))
