"""Environments get actions of their space, also where a Box has bounds on some sides only."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlssl.algorithms.a3c.a3c import A3CConfig
from rlssl.algorithms.ppo.ppo import PPOConfig
from rlssl.registry import register_env
from rlssl.rollouts import StockEnvRunner, VectorEnvRunner

LARGEST = float(np.finfo(np.float32).max)
SPACES: dict[str, gym.Space] = {
    # [0, inf) x (-inf, inf).
    "one side": gym.spaces.Box(np.array([0, -np.inf]), np.array([np.inf] * 2), dtype=np.float32),
    "largest": gym.spaces.Box(-LARGEST, LARGEST, (2,), np.float32),
    "mixed": gym.spaces.Box(np.array([-np.inf, 3]), np.array([0.1, 5]), dtype=np.float64),
}
SEEN: list[np.ndarray] = []


class Records(gym.Env):
    """Keeps every action that it gets."""

    def __init__(self, space: gym.Space) -> None:
        self.observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        SEEN.append(action)
        return np.zeros(2, np.float32), 0.0, False, False, {}


register_env("test/records", lambda options, **_: Records(SPACES[options["space"]]))


@pytest.mark.parametrize("runner_class", [VectorEnvRunner, StockEnvRunner])
@pytest.mark.parametrize("config_class", [PPOConfig, A3CConfig])
@pytest.mark.parametrize("name", SPACES)
def test_every_action_is_in_the_space(name: str, config_class: Any, runner_class: Any) -> None:
    config = config_class().environment("test/records", env_config={"space": name})
    config = config.env_runners(num_envs_per_env_runner=2).debugging(seed=0)
    runner = runner_class(config=config, worker_index=0, num_workers=0)
    SEEN.clear()
    (first, *_) = runner.sample(num_timesteps=100, random_actions=False, explore=True)
    actions = np.array(SEEN)
    assert len(actions) >= 100 and all(SPACES[name].contains(action) for action in actions)
    drawn = np.asarray(first.get_actions())
    # Of 50 draws from a standard normal, about 25 are below 0: 0 in the space [0, inf), while the
    # Learner gets the drawn actions.
    assert (drawn < 0).any(axis=0).all()
    if name == "one side":
        assert (actions[:, 0] == 0).any() and (actions[:, 0] > 0).any()
        assert (actions[:, 1] < 0).any()
    if name == "largest":
        np.testing.assert_array_equal(actions[::2][: len(drawn)], drawn)
