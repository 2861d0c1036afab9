"""An environment with a sparse reward: only the far end of a corridor pays."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete


class Corridor(gym.Env):
    """A walk from cell 0 to the last cell; action 1 goes right, 0 goes left; the end pays 1."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Reads ``env: {id: example/Corridor, length: 8, max_steps: 50}``."""
        self.length = config.get("length", 8)
        self.max_steps = config.get("max_steps", 50)
        self.observation_space = Box(0, 1, (self.length,), np.float32)
        self.action_space = Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts at cell 0."""
        super().reset(seed=seed)
        self.cell, self.steps = 0, 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Walks one cell; rlssl's success rate counts ``info["success"]``."""
        self.cell = max(0, self.cell + (1 if action == 1 else -1))
        self.steps += 1
        solved = self.cell == self.length - 1
        truncated = not solved and self.steps >= self.max_steps
        return self._observe(), float(solved), solved, truncated, {"success": solved}

    def _observe(self) -> np.ndarray:
        return np.eye(self.length, dtype=np.float32)[self.cell]
