"""DDPG, TD3 and SAC swing a pendulum up, each within minutes."""

import pytest

from tests.learning.training import final_score

# Each takes minutes; on a busy machine, up to an hour is fine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEEDS = (0, 1, 2)


# Measured: see docs/results/algorithms.md. A random policy scores about -1,200.
@pytest.mark.parametrize(
    "algorithm",
    [{"algorithm": "ddpg"}, {"algorithm": "ddpg", "preset": "td3"}, {"algorithm": "sac"}],
    ids=lambda algorithm: algorithm.get("preset", algorithm["algorithm"]),
)
def test_pendulum_is_swung_up(algorithm: dict[str, str]) -> None:
    document = {**algorithm, "env": "Pendulum-v1"}
    scores = sorted(final_score(document, seed, env_steps=15_000, episodes=20) for seed in SEEDS)
    assert scores[0] > -400 and scores[1] > -200, scores
