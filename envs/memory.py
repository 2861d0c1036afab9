"""A task that only a memory solves, as ``memory/cue``.

The first observation shows a cue; ``delay`` steps later a signal asks for it, and the action taken
then, a number in [0, num_cues), is right if it names the cue. A right one is worth 1, everything
else 0, and the episode ends. Earlier actions do nothing. Without a memory, chance: 1 / num_cues.

Observations: float32 [num_cues + 1 + num_distractors]: the cue one-hot, in the first step alone;
the signal, 1 in the last step alone; distractors, drawn from a standard normal distribution in
every step. ``info["success"]`` of the last step says whether the choice was right.

Options, ``env: {id: memory/cue, delay: 20}``:

- ``num_cues``: >= 2; default 4.
- ``delay``: agent steps between the cue and the signal; >= 1; default 10. An episode has
  ``delay + 1`` steps.
- ``num_distractors``: >= 0; default 0.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlssl.environments import known_env_options, require_whole_numbers
from rlssl.errors import unknown_name

#: Option -> default, and the least that it may be.
OPTIONS = {"num_cues": 4, "delay": 10, "num_distractors": 0}
_LEAST = {"num_cues": 2, "delay": 1, "num_distractors": 0}


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
    options = known_env_options(config, OPTIONS)
    require_whole_numbers(options, _LEAST)
    return CueEnv(**options)


class CueEnv(gym.Env):
    """See the module."""

    def __init__(self, *, num_cues: int, delay: int, num_distractors: int) -> None:
        """Creates the task; see the module for the options."""
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
        """Waits, or judges the choice where the signal has been shown."""
        if self._time == self._delay:
            right = int(action) == self._cue
            self._time += 1
            return self._observation(), float(right), True, False, {"success": right}
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
