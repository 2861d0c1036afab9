"""Rainbow with its defaults solves CartPole."""

import pytest

import rlssl
from tests.learning.training import best_return

# Each takes minutes; on a busy machine, up to a third of an hour is fine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


# Measured: see docs/results/algorithms.md.
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cartpole_is_solved_within_100_000_env_steps(seed: int) -> None:
    config = rlssl.RainbowConfig().environment("CartPole-v1").debugging(seed=seed)
    assert best_return(config, env_steps=100_000, enough=475) >= 475
