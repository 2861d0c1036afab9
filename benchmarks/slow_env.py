"""A plug-in: steps of ``bench/slow`` cost a processor, steps of ``bench/waiting`` only wait."""

import time
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

import rlssl


class _CountingEnv(gym.Env):
    """Counts the steps of an episode, which is cut off after ``episode_length``."""

    def __init__(self, episode_length: int) -> None:
        self.episode_length, self.steps = episode_length, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode; neither works nor waits."""
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def _end_step(self, reward: float) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._observe(), reward, False, self.steps >= self.episode_length, {}

    def _observe(self) -> np.ndarray:
        raise NotImplementedError


class SlowEnv(_CountingEnv):
    """Pays 1 a step; an episode has ``episode_length`` steps, each of ``cpu_ms`` processor time.

    The time is the processor time of the thread that steps, so waiting for a busy core does not
    count as work.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Reads ``env: {id: bench/slow, cpu_ms: 1.0, episode_length: 200}``."""
        super().__init__(config.get("episode_length", 200))
        self.cpu_s = config.get("cpu_ms", 1.0) / 1000
        self.observation_space = Box(0.0, 1.0, (4,), np.float32)
        self.action_space = Discrete(2)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Uses processor time, then pays 1."""
        until = time.thread_time() + self.cpu_s
        while time.thread_time() < until:
            pass
        return self._end_step(1.0)

    def _observe(self) -> np.ndarray:
        return np.full(4, self.steps / self.episode_length, np.float32)


class WaitingEnv(_CountingEnv):
    """A simulator elsewhere: a step waits ``wait_ms`` and costs nothing here.

    17 numbers, and 6 numbers or one of 6 choices as an action (``discrete``).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Reads ``env: {id: bench/waiting, wait_ms: 10, discrete: false, episode_length: 500}``."""
        super().__init__(config.get("episode_length", 500))
        self.wait_s = config.get("wait_ms", 10) / 1000
        self.observation_space = Box(-np.inf, np.inf, (17,), np.float32)
        is_discrete = config.get("discrete", False)
        self.action_space = Discrete(6) if is_discrete else Box(-1.0, 1.0, (6,), np.float32)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Waits, then pays the mean of the action."""
        time.sleep(self.wait_s)
        return self._end_step(float(np.mean(action)))

    def _observe(self) -> np.ndarray:
        return self.np_random.standard_normal(17).astype(np.float32)


rlssl.register_env("bench/slow", SlowEnv)
rlssl.register_env("bench/waiting", WaitingEnv)
