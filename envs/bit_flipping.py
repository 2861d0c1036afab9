"""Bit flipping, as ``goals/bit-flipping`` (Andrychowicz et al. 2017, arXiv:1707.01495).

A state is n bits, and action i flips bit i. The goal is another state, drawn for each episode. A
step pays 0 if it reaches the goal, and else -1. An episode is truncated after n steps. Random
exploration does not find the goal of 15 bits, so that plain Q-learning learns nothing, and
hindsight (docs/goals.md) learns it in minutes.

Observations: a dict of float32 [n], 0 or 1: ``observation`` and ``achieved_goal``, both the state,
and ``desired_goal``. ``info["is_success"]`` of every step says whether the goal is reached.

Options: `rlssl_envs.options.BitFlipping`.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from rlssl_envs import options

from rlssl.environments import env_options

ID = "goals/bit-flipping"


def make(config: Mapping[str, Any]) -> gym.Env:
    """Builds the environment.

    Raises:
        SpecError: An option is unknown or has a wrong value.
    """
    return BitFlipping(**vars(options.BitFlipping(**env_options(config))))


class BitFlipping(gym.Env):
    """The environment of this module, with the methods of gymnasium-robotics' ``GoalEnv``."""

    def __init__(self, *, num_bits: int, terminates: bool) -> None:
        """Builds the environment; see the module for the options."""
        self._num_bits, self._terminates = num_bits, terminates
        bits = Box(0, 1, (num_bits,), np.float32)
        names = ("observation", "achieved_goal", "desired_goal")
        self.observation_space = Dict(dict.fromkeys(names, bits))
        self.action_space = Discrete(num_bits)
        self._state = self._goal = np.zeros(num_bits, np.float32)
        self._time = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Draws a state and a goal that differs from it."""
        super().reset(seed=seed)
        self._state, self._goal, self._time = self._draw(), self._draw(), 0
        while np.array_equal(self._state, self._goal):
            self._goal = self._draw()
        return self._observation(), {}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Flips a bit."""
        self._state = self._state.copy()
        self._state[action] = 1.0 - self._state[action]
        self._time += 1
        reward = float(self.compute_reward(self._state, self._goal, {}))
        terminated = bool(self.compute_terminated(self._state, self._goal, {}))
        truncated = self._time >= self._num_bits and not terminated
        return self._observation(), reward, terminated, truncated, {"is_success": reward == 0.0}

    def compute_reward(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> np.ndarray:
        """Rewards [...] of states [..., n] after a step: 0 at the goal, else -1."""
        del info
        is_reached = np.all(achieved_goal == desired_goal, axis=-1)
        return np.asarray(is_reached, np.float32) - np.float32(1)

    def compute_terminated(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> np.ndarray:
        """Whether [...] the episode ends at states [..., n]."""
        del info
        return np.all(achieved_goal == desired_goal, axis=-1) & self._terminates

    def compute_truncated(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> bool:
        """Never: only the number of steps truncates an episode."""
        del achieved_goal, desired_goal, info
        return False

    def _draw(self) -> np.ndarray:
        return self.np_random.integers(2, size=self._num_bits).astype(np.float32)

    def _observation(self) -> dict[str, np.ndarray]:
        return {
            "observation": self._state.copy(),
            "achieved_goal": self._state.copy(),
            "desired_goal": self._goal.copy(),
        }
