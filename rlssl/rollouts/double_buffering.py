"""One vector environment made of two halves, which step asynchronously."""

import logging
from collections.abc import Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
import tree
from gymnasium.vector import AsyncVectorEnv
from gymnasium.vector.utils import batch_space

from rlssl.environments.vector_conventions import AsyncSteps

logger = logging.getLogger(__name__)


def half_sizes(num_envs: int) -> tuple[int, int]:
    """Environments in the first and in the second half.

    Example:
        >>> half_sizes(5)
        (3, 2)
    """
    return num_envs - num_envs // 2, num_envs // 2


class DoubleBufferedVectorEnv(gym.vector.VectorEnv):
    """N environments in two halves.

    One half steps while the policy runs on the observations of the other half. Environment i is
    seeded as environment i of N.
    """

    def __init__(self, first: gym.vector.VectorEnv, second: gym.vector.VectorEnv) -> None:
        """Joins two vector environments, which have the `AsyncSteps` methods and equal spaces."""
        self.halves = (first, second)
        num_envs = self.num_envs = first.num_envs + second.num_envs
        self.slots = (slice(0, first.num_envs), slice(first.num_envs, num_envs))
        self._is_busy = [False, False]
        self.metadata = first.metadata
        self.single_observation_space = first.single_observation_space
        self.single_action_space = first.single_action_space
        self.observation_space = batch_space(first.single_observation_space, num_envs)
        self.action_space = batch_space(first.single_action_space, num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Resets all environments, also in the middle of a step; the infos are empty."""
        for index, is_busy in enumerate(self._is_busy):
            if is_busy:
                self.finish_step(index)
        observations = []
        for half, slots in zip(self.halves, self.slots, strict=True):
            own = seed[slots] if isinstance(seed, Sequence) else seed
            if isinstance(seed, int):
                own = seed + slots.start
            observations.append(half.reset(seed=cast(Any, own), options=options)[0])
        return tree.map_structure(lambda *parts: np.concatenate(parts), *observations), {}

    def begin_step(self, half: int, actions: Any) -> None:
        """Begins a step of one half, with actions [n, ...]."""
        cast(AsyncSteps, self.halves[half]).step_async(actions)
        self._is_busy[half] = True

    def finish_step(self, half: int) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Waits for the step of one half to finish and returns what its ``step`` would."""
        self._is_busy[half] = False
        return cast(AsyncSteps, self.halves[half]).step_wait()

    def close_extras(self, **kwargs: Any) -> None:
        """Closes both halves. Errors of a half that is in the middle of a step are ignored."""
        for half, is_busy in zip(self.halves, self._is_busy, strict=True):
            if is_busy:
                force_close(half)
            else:
                half.close(**kwargs)


def is_double_buffered(runner: Any) -> bool:
    """Whether an EnvRunner's environments are in two halves."""
    return isinstance(getattr(runner.env, "unwrapped", None), DoubleBufferedVectorEnv)


def force_close(vector: gym.vector.VectorEnv) -> None:
    """Closes a vector environment that may no longer answer."""
    unwrapped = vector.unwrapped
    if isinstance(unwrapped, DoubleBufferedVectorEnv):
        for half in unwrapped.halves:
            force_close(half)
    elif isinstance(unwrapped, AsyncVectorEnv):
        try:
            unwrapped.close(terminate=True)
        except Exception as error:
            # The error of the pending step. After it, closing can continue.
            logger.info(
                "error of a step that was pending during close(): %s: %s",
                type(error).__name__,
                error,
            )
            unwrapped.close(terminate=True)
    else:
        vector.close()
