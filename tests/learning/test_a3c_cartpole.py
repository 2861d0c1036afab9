"""A3C and A2C with their defaults and two workers solve CartPole."""

import pytest

import rlssl
from tests.learning.training import best_return

# Each takes minutes; on a busy machine, up to half an hour is fine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.usefixtures("own_ray")]


def config_of(seed: int, synchronous: bool) -> rlssl.A3CConfig:
    return (
        rlssl.A3CConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=2)
        .training(synchronous=synchronous)
        .debugging(seed=seed)
    )


# Measured: see docs/results/algorithms.md.
@pytest.mark.parametrize("synchronous", [False, True])
def test_cartpole_is_solved_within_500_000_env_steps(synchronous: bool) -> None:
    scores = [
        best_return(config_of(seed, synchronous), env_steps=500_000, enough=475)
        for seed in range(3)
    ]
    assert sum(score >= 475 for score in scores) >= 2
    assert min(scores) > 400
