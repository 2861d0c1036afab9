"""The random bonus: its mean, and draws that repeat."""

from typing import Any

import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.auxiliary.bonuses.random_bonus import RandomBonus
from tests.auxiliary.latents import ACTIONS, VECTOR, Half, Meeting


def make(mean: float = 1.0) -> Any:
    torch.manual_seed(0)
    return RandomBonus(
        RandomBonus.Config(mean=mean),
        encoder=torch.nn.Identity(),
        observation_space=VECTOR,
        action_space=ACTIONS["discrete"],
    )


def batch(n: int) -> dict[str, Any]:
    return {Columns.ACTIONS: torch.zeros(n, dtype=torch.int64)}


def test_mean_is_what_the_user_gives() -> None:
    drawn = make(mean=0.3).intrinsic_reward(batch(100_000))
    # The std of U[0, 0.6) is 0.6 / sqrt(12) = 0.173; that of the mean is 0.00055.
    assert drawn.mean().item() == pytest.approx(0.3, abs=0.003)
    assert drawn.min() >= 0.0 and drawn.max() < 0.6


def test_every_batch_has_new_draws_and_a_restored_run_continues_them() -> None:
    loss, restored = make(), make()
    first = loss.intrinsic_reward(batch(8))
    restored.load_state_dict(loss.state_dict())
    second = loss.intrinsic_reward(batch(8))
    assert not torch.equal(first, second)
    assert torch.equal(restored.intrinsic_reward(batch(8)), second)


def test_the_second_of_two_learners_takes_the_later_draws() -> None:
    whole = make().intrinsic_reward(batch(8))
    half = make()
    half.peers = Half(1, 8, Meeting())
    assert torch.equal(half.intrinsic_reward(batch(4)), whole[4:])


def test_global_generator_is_not_drawn_from() -> None:
    loss = make()
    before = torch.random.get_rng_state()
    loss.intrinsic_reward(batch(8))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_mean_must_be_positive() -> None:
    with pytest.raises(ValueError, match="mean must be > 0 and finite; got 0"):
        RandomBonus.Config(mean=0.0)
