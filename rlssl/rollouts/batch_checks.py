"""Checks of the values that environments return while sampling; fast if they are valid."""

from typing import Any

import gymnasium as gym
import numpy as np
import tree

from rlssl.environments.observation_checks import BadObservationError, observation_check
from rlssl.environments.vector_conventions import VectorConventions

#: Largest absolute value of a reward. The squares of larger rewards overflow float32.
MAX_REWARD = 1e20
_MAX_SQUARE = MAX_REWARD**2


class BadRewardError(ValueError):
    """A reward is not finite, or its absolute value is above `MAX_REWARD`."""


class BatchCheck:
    """Finds the environments whose observation or reward is not finite, or is too large.

    Example:
        >>> check = BatchCheck(gym.spaces.Box(-1.0, 1.0, (1,), np.float32))
        >>> observations = np.zeros((2, 1), np.float32)
        >>> check.errors(observations, rewards=np.array([1.0, np.nan]))
        {1: BadRewardError('a reward of nan')}
    """

    def __init__(
        self,
        space: gym.Space,
        batch_space: gym.Space | None = None,
        conventions: VectorConventions | None = None,
    ) -> None:
        """Prepares the checks of a space.

        Args:
            space: Observation space of one environment. Its integers need no check.
            batch_space: Observation space of all environments, for `fits`; None if `fits` is not
                used.
            conventions: Checks the form of the results; None: they have gymnasium's form.
        """
        self.conventions = conventions
        #: Whether the batch of observations has the structure of its space.
        self.fits = observation_check(batch_space or space)
        leaves = tree.flatten(_nested(space))
        self._floats = [
            index
            for index, leaf in enumerate(leaves)
            if isinstance(leaf, gym.spaces.Box) and np.issubdtype(leaf.dtype, np.floating)
        ]
        self._is_single = not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple)

    def is_healthy(self, observations: Any, rewards: np.ndarray) -> bool:
        """Whether all values are valid; fast, but it may refuse large finite numbers.

        Args:
            observations: Struct of [N, ...].
            rewards: [N].
        """
        if not rewards.dot(rewards) <= _MAX_SQUARE:
            return False
        if self._is_single:
            return not self._floats or _is_finite(observations)
        return all(map(_is_finite, self._leaves(observations)))

    def errors(self, observations: Any, rewards: np.ndarray) -> dict[int, ValueError]:
        """Finds the error of each environment that has one.

        Args:
            observations: Struct of [N, ...].
            rewards: [N].

        Returns:
            Slot -> `BadObservationError` or `BadRewardError`; valid slots are missing.
        """
        with np.errstate(invalid="ignore"):
            bad = np.flatnonzero(~(np.abs(rewards) <= MAX_REWARD)).tolist()
        found: dict[int, ValueError] = {
            slot: BadRewardError(f"a reward of {rewards[slot]:g}") for slot in bad
        }
        for leaf in self._leaves(observations):
            finite = np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)
            for slot in np.flatnonzero(~finite).tolist():
                message = f"an observation that is not finite: {leaf[slot]}"
                found[slot] = BadObservationError(message)
        return found

    def _leaves(self, observations: Any) -> list[np.ndarray]:
        if not self._floats:
            return []
        if self._is_single:
            return [observations]
        leaves = tree.flatten(observations)
        return [leaves[index] for index in self._floats]


def _is_finite(values: np.ndarray) -> bool:
    # A sum of squares is finite if its terms are, unless it overflows.
    flat = values.ravel()
    return bool(flat.dot(flat) < np.inf)


def _nested(space: gym.Space) -> Any:
    """A space as plain dicts and tuples, in the order in which observations are flattened."""
    if isinstance(space, gym.spaces.Dict):
        return {key: _nested(part) for key, part in space.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(_nested(part) for part in space)
    return space
