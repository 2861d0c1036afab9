"""A3C and A2C with their defaults and two workers solve CartPole."""

import pytest
import ray

import rlssl

# Minutes each: half an hour on a busy machine is no failure.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def best_return(seed: int, synchronous: bool) -> float:
    """The best mean of 20 episodes within 500,000 env steps; ends at 475."""
    config = (
        rlssl.A3CConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=2)
        .training(synchronous=synchronous)
        .debugging(seed=seed)
    )
    algorithm = config.build_algo()
    best = 0.0
    try:
        result = algorithm.train()
        while result["env_steps"] < 500_000 and best < 475:
            result = algorithm.train()
            best = max(best, result["episode_return_mean"])
    finally:
        algorithm.stop()
    return best


# Measured: see docs/a3c.md.
@pytest.mark.parametrize("synchronous", [False, True])
def test_cartpole_is_solved_within_500_000_env_steps(synchronous: bool) -> None:
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    try:
        scores = [best_return(seed, synchronous) for seed in range(3)]
    finally:
        ray.shutdown()
    assert sum(score >= 475 for score in scores) >= 2
    assert min(scores) > 400
