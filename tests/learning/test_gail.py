"""GAIL swings a pendulum up without its reward, from 20 demonstrations."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlssl
from tests.auxiliary.imitation.recorded import record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

#: Returns of finished episodes, which the policy does not learn from.
RETURNS: list[float] = []


class Unrewarded(gym.Wrapper):
    """An environment whose reward is 0."""

    def reset(self, **options: Any) -> Any:
        self._total = 0.0
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, infos = self.env.step(action)
        self._total += float(reward)
        if terminated or truncated:
            RETURNS.append(self._total)
        return observation, 0.0, terminated, truncated, infos


rlssl.register_env("test/unrewarded", lambda config: Unrewarded(gym.make("Pendulum-v1")))


# Measured: see docs/results/losses.md. A random policy has about -1,200, the expert about -150.
def test_pendulum_is_swung_up_without_its_reward(tmp_path: Path) -> None:
    experts: list[Any] = ["expert/pendulum"] * 20
    path = record(tmp_path / "pendulum", {"id": "Pendulum-v1"}, experts, seed=1000)
    RETURNS.clear()
    # With a constant rate, the policy becomes worse again; see docs/results/losses.md.
    decayed = [[0, 1e-3], [200_000, 0.0]]
    config = (
        rlssl.PPOConfig()
        .environment("test/unrewarded")
        .env_runners(num_envs_per_env_runner=16)
        .training(gamma=0.95, lr=decayed, train_batch_size_per_learner=3200)
        .auxiliary(gail={"demonstrations": path})
        .debugging(seed=0)
    )
    algorithm = config.build_algo()
    try:
        while algorithm.train()["env_steps"] < 200_000:
            pass
    finally:
        algorithm.stop()
    assert np.mean(RETURNS[-100:]) > -500
