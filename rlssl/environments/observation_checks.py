"""Checks whether one observation has the structure of its space."""

from collections.abc import Callable
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np


class BadObservationError(ValueError):
    """An observation does not fit its space, or is not finite."""


def observation_check(space: gym.Space) -> Callable[[Any], bool]:
    """Returns a function that tells whether an observation has the structure of its space.

    The function checks shapes and dtypes, and the values of discrete parts. `BatchCheck` checks
    whether floats are finite, for all environments at once. The preflight checks bounds.

    Example:
        >>> fits = observation_check(gym.spaces.Box(0.0, 1.0, (2,), np.float32))
        >>> fits(np.zeros(2, np.float32)), fits(np.zeros(3, np.float32))
        (True, False)
    """
    if isinstance(space, gym.spaces.Box):
        shape, dtype = space.shape, space.dtype
        array = (np.ndarray, np.generic) if shape == () else np.ndarray
        return lambda value: (
            isinstance(value, array) and value.shape == shape and value.dtype == dtype
        )
    if isinstance(space, gym.spaces.Dict):
        checks = {key: observation_check(part) for key, part in space.items()}
        return lambda value: (
            isinstance(value, dict)
            and value.keys() == checks.keys()
            and all(check(value[key]) for key, check in checks.items())
        )
    if isinstance(space, gym.spaces.Tuple):
        parts = [observation_check(part) for part in space]
        return lambda value: (
            isinstance(value, tuple)
            and len(value) == len(parts)
            and all(check(part) for check, part in zip(parts, value, strict=True))
        )
    return space.contains


def misfit(observation: Any, space: gym.Space) -> BadObservationError:
    """Returns the error for an observation that failed its check."""
    if isinstance(observation, np.ndarray | np.generic):
        got = f"an observation of shape {observation.shape} and dtype {observation.dtype}"
    else:
        got = f"an observation that is the {type(observation).__name__} {observation!r}"
    return BadObservationError(f"{got}, which does not fit {space}")


class CheckedEnv(gym.Wrapper):
    """Raises for observations that do not fit their space.

    For environments that run in separate processes: gymnasium casts their observations to the
    right dtype before the main process can check them.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._fits = observation_check(env.observation_space)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets and checks."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._checked(observation), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Steps and checks."""
        observation, *rest = self.env.step(action)
        return self._checked(observation), *rest

    def _checked(self, observation: Any) -> Any:
        if not self._fits(observation):
            raise misfit(observation, self.observation_space)
        return observation
