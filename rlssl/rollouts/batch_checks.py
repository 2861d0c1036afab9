"""Checks of what environments return while sampling: fast where all is well."""

from typing import Any

import gymnasium as gym
import numpy as np
import tree

from rlssl.environments.observation_checks import BadObservationError, observation_check

#: Larger rewards, in absolute value, are no rewards: their squares overflow float32.
MAX_REWARD = 1e20
_MAX_SQUARE = MAX_REWARD**2


class BadRewardError(ValueError):
    """A reward is not finite, or absurdly large."""


class BatchCheck:
    """Finds the environments whose observation or reward is no number to learn from."""

    def __init__(self, space: gym.Space, batch_space: gym.Space | None = None) -> None:
        """Chooses what to look at.

        Args:
            space: Of one environment's observations; integers are always finite.
            batch_space: Of all environments' together, for `fits`; None: that is never asked.
        """
        #: Whether all observations together have the structure of their space.
        self.fits = observation_check(batch_space or space)
        leaves = tree.flatten(_nested(space))
        self._floats = [
            index
            for index, leaf in enumerate(leaves)
            if isinstance(leaf, gym.spaces.Box) and np.issubdtype(leaf.dtype, np.floating)
        ]
        self._is_single = not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple)

    def is_healthy(self, observations: Any, rewards: np.ndarray) -> bool:
        """Whether all is well; cheap, and wrong only by saying no to large, finite numbers.

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
        """Says for each environment what is wrong, if anything.

        Args:
            observations: Struct of [N, ...].
            rewards: [N].

        Returns:
            Slot -> `BadObservationError` or `BadRewardError`.
        """
        with np.errstate(invalid="ignore"):
            bad = np.flatnonzero(~(np.abs(rewards) <= MAX_REWARD)).tolist()
        found: dict[int, ValueError] = {
            slot: BadRewardError(f"a reward of {rewards[slot]:g}") for slot in bad
        }
        for leaf in self._leaves(observations):
            finite = np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1)
            for slot in np.flatnonzero(~finite).tolist():
                words = f"an observation that is not finite: {leaf[slot]}"
                found[slot] = BadObservationError(words)
        return found

    def _leaves(self, observations: Any) -> list[np.ndarray]:
        if not self._floats:
            return []
        if self._is_single:
            return [observations]
        leaves = tree.flatten(observations)
        return [leaves[index] for index in self._floats]


def _is_finite(values: np.ndarray) -> bool:
    # A sum of squares is as finite as its terms, until it overflows.
    flat = values.ravel()
    return bool(flat.dot(flat) < np.inf)


def _nested(space: gym.Space) -> Any:
    """Space as plain dicts and tuples, in the order in which observations are flattened."""
    if isinstance(space, gym.spaces.Dict):
        return {key: _nested(part) for key, part in space.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(_nested(part) for part in space)
    return space
