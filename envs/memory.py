"""A task that needs memory, as ``memory/cue``.

The first observation shows a cue. ``delay`` steps later a signal asks for it: the action of this
step, a number in [0, num_cues), is correct if it equals the cue. The reward of a correct action is
1, all other rewards are 0, and the episode ends. Earlier actions have no effect. The mean return
without memory is 1 / num_cues.

Observations: float32 [num_cues + 1 + num_distractors]: the one-hot cue, in the first step only; the
signal, 1 in the last step only; distractors, from a standard normal distribution in every step.
``info["success"]`` of the last step says whether the action was correct.

Options: `rlssl_envs.options.Memory`. An episode has ``delay + 1`` steps.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from rlssl_envs.options import Memory

from rlssl.environments import env_options
from rlssl.errors import unknown_name


def ids() -> list[str]:
    """Lists the one id."""
    return ["memory/cue"]


def make(config: Mapping[str, Any]) -> gym.Env:
    """Builds the task.

    Raises:
        UnknownNameError: There is no such task.
        SpecError: An option is unknown or out of range.
    """
    if config["id"] not in ids():
        raise unknown_name("environment", config["id"], ids())
    return CueEnv(**vars(Memory(**env_options(config))))


class CueEnv(gym.Env):
    """The task of this module."""

    def __init__(self, *, num_cues: int, delay: int, num_distractors: int) -> None:
        """Builds the task; see the module for the options."""
        self._num_cues, self._delay, self._num_distractors = num_cues, delay, num_distractors
        self._cue = self._time = 0
        low = np.zeros(num_cues + 1 + num_distractors, np.float32)
        high = np.ones_like(low)
        low[num_cues + 1 :], high[num_cues + 1 :] = -np.inf, np.inf
        self.observation_space = Box(low, high)
        self.action_space = Discrete(num_cues)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draws a cue and shows it."""
        super().reset(seed=seed)
        self._cue, self._time = int(self.np_random.integers(self._num_cues)), 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes a step; if the signal is shown, checks the action and ends the episode."""
        if self._time == self._delay:
            is_correct = int(action) == self._cue
            self._time += 1
            return self._observation(), float(is_correct), True, False, {"success": is_correct}
        self._time += 1
        return self._observation(), 0.0, False, False, {}

    def _observation(self) -> np.ndarray:
        observation = np.zeros(self.observation_space.shape or (), np.float32)
        if self._time == 0:
            observation[self._cue] = 1.0
        observation[self._num_cues] = float(self._time == self._delay)
        noise = self.np_random.standard_normal(self._num_distractors, np.float32)
        observation[self._num_cues + 1 :] = noise
        return observation
