"""PPO+CURL on small rendered frames: CURL matches views, and latents do not collapse."""

from typing import Any

import numpy as np
import pytest

import rlssl

# Each takes minutes; on a busy machine, up to a third of an hour is fine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ENV = {"id": "dmc-pixels/cheetah-run", "size": 42}
MINIBATCH = 64


def train(seed: int, iterations: int, **curl: Any) -> list[dict[str, float]]:
    """CURL's metrics of the last minibatch of each update of 1,024 agent steps."""
    config = (
        rlssl.PPOConfig()
        .environment(ENV)
        .auxiliary(curl=curl)
        .training(minibatch_size=MINIBATCH)
        .debugging(seed=seed)
    )
    algorithm = config.build_algo()
    try:
        return [dict(algorithm.train()["aux"]["curl"]) for _ in range(iterations)]
    finally:
        algorithm.stop()


def mean(metrics: list[dict[str, float]], key: str) -> float:
    return float(np.mean([float(row[key]) for row in metrics]))


# Measured: see docs/results/losses.md.
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_accuracy_rises_above_a_half_and_the_rank_does_not_collapse(seed: int) -> None:
    metrics = train(seed, iterations=32)
    # By chance 1/64 = 0.016.
    assert mean(metrics[:1], "accuracy") < 0.1
    assert mean(metrics[-5:], "accuracy") > 0.5
    assert mean(metrics[-5:], "effective_rank") > mean(metrics[:1], "effective_rank")


def test_accuracy_stays_at_chance_with_shuffled_positives() -> None:
    metrics = train(0, iterations=32, shuffled_positives=True)
    # Ten minibatches: the standard error of their mean is sqrt(1/64 * 63/64 / 640) = 0.005.
    assert mean(metrics[-10:], "accuracy") < 1 / MINIBATCH + 4 * 0.005
