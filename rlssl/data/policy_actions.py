"""From actions of an environment to the actions of a policy that would give them."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from gymnasium import spaces
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space

from rlssl.networks.action_encoding import scaled_elements, to_env_actions

#: Rounding that is no action outside the bounds, as a share of their distance.
_ROUNDING = 1e-6

#: Neighbors of an inverse that are tried, in steps of the policy's resolution.
_NEIGHBORS = (0, 1, -1, 2, -2, 3, -3)


def to_policy_actions(
    space: gym.Space, *, normalize: bool = True, clip: bool = False
) -> Callable[[Any], Any]:
    """Returns the inverse of `rlssl.networks.action_encoding.to_env_actions`.

    For an action that a policy with actions in [-1, 1] has given to the environment, the inverse
    gives the environment the same action again, bit for bit. It need not be the policy's own
    action: several can give the same one. For every other action, the result is the nearest one.

    Args:
        space: Action space of one environment.
        normalize: Whether the policy acts in [-1, 1], scaled to the bounds of a Box.
        clip: Whether actions outside the space are clipped, as some environments do, instead of
            refused.

    Returns:
        Maps a struct of [T, ...], in the environment's units, to the same nesting, shapes and
        dtypes. It raises a ValueError that names the step and the action if one is outside the
        space.

    Example:
        >>> steering = spaces.Box(-10.0, 10.0, (1,), np.float32)
        >>> to_policy_actions(steering)(np.array([[5.0], [-10.0]], np.float32))
        array([[ 0.5],
               [-1. ]], dtype=float32)
        >>> to_policy_actions(steering)(np.array([[12.0]], np.float32))
        Traceback (most recent call last):
        ValueError: the action 12.0 at step 0 (element 0) is outside the action space, [-10, 10]
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = tree.map_structure(
            lambda part: to_policy_actions(part, normalize=normalize, clip=clip),
            get_base_struct_from_space(space),
        )
        return lambda actions: tree.map_structure_up_to(
            parts, lambda part, action: part(action), parts, actions
        )
    low, high = _bounds(space)
    inverse = _inverse(space) if normalize and isinstance(space, spaces.Box) else None

    def to_policy(actions: Any) -> np.ndarray:
        within = np.asarray(actions)
        if not clip:
            _refuse_outside(within, low, high)
        within = np.clip(within, low, high).astype(within.dtype, copy=False)
        return within if inverse is None else inverse(within)

    return to_policy


def _bounds(space: gym.Space) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest element."""
    match space:
        case spaces.Box():
            return space.low, space.high
        case spaces.Discrete():
            start = int(space.start)
            return np.asarray(start), np.asarray(start + int(space.n) - 1)
        case spaces.MultiDiscrete():
            first = np.asarray(space.start, np.int64)
            return first, first + np.asarray(space.nvec, np.int64) - 1
        case spaces.MultiBinary():
            return np.asarray(0), np.asarray(1)
    raise ValueError(f"actions of {space} cannot be checked; see rlssl.space_layout.")


def _refuse_outside(actions: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        span = np.where(np.isfinite(high - low), high - low, 0.0)
        # Written so that nan is outside, too.
        inside = (actions >= low - _ROUNDING * span) & (actions <= high + _ROUNDING * span)
    if inside.all():
        return
    index = tuple(np.argwhere(~inside)[0])
    step, element = int(index[0]), tuple(map(int, index[1:]))
    at = f" (element {', '.join(map(str, element))})" if element else ""
    lower, upper = (np.broadcast_to(side, actions.shape[1:])[element] for side in (low, high))
    raise ValueError(
        f"the action {actions[index]} at step {step}{at} is outside the action space, "
        f"[{lower:g}, {upper:g}]"
    )


def _inverse(space: spaces.Box) -> Callable[[np.ndarray], np.ndarray]:
    if np.issubdtype(space.dtype, np.integer):
        # The policy chooses one of the numbers, counted from 0; see to_env_actions.
        return (
            (lambda actions: actions - space.low) if space.is_bounded() else lambda actions: actions
        )
    scaled = scaled_elements(space)
    if not scaled.any():
        return lambda actions: actions
    forward = to_env_actions(space, normalize=True, clip=True)
    low = np.where(scaled, space.low, 0).astype(np.longdouble)
    span = np.where(scaled, space.high, 1).astype(np.longdouble) - low

    def inverse(actions: np.ndarray) -> np.ndarray:
        dtype = actions.dtype
        distance = (actions.astype(np.longdouble) - low) * 2 / span
        # `to_env_actions` adds 1 first: it cannot tell actions within this step apart.
        step = np.where(distance < 1, np.finfo(dtype).epsneg, np.finfo(dtype).eps)
        nearest = np.round(distance / step) * step
        best = np.clip(nearest - 1, -1, 1).astype(dtype)
        for neighbor in _NEIGHBORS[1:]:
            wrong = forward(np.where(scaled, best, actions)) != actions
            if not wrong.any():
                break
            other = np.clip(nearest + neighbor * step - 1, -1, 1).astype(dtype)
            is_right = forward(np.where(scaled, other, actions)) == actions
            best = np.where(wrong & is_right, other, best)
        return np.where(scaled, best, actions)

    return inverse
