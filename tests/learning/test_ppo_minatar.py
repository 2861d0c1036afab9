"""PPO learns a MinAtar game from its planes."""

import pytest

import rlssl

# Each takes minutes; on a busy machine, up to a third of an hour is fine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


# Measured: see docs/results/algorithms.md. A random policy scores 0.4 to 0.5.
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_breakout_is_played_five_times_better_than_at_random(seed: int) -> None:
    config = (
        rlssl.PPOConfig()
        .environment("minatar/Breakout")
        .training(entropy_coeff=0.01)
        .debugging(seed=seed)
    )
    algorithm = config.build_algo()
    try:
        result = algorithm.train()
        while result["env_steps"] < 300_000:
            result = algorithm.train()
    finally:
        algorithm.stop()
    assert result["episode_return_mean"] > 2.5
