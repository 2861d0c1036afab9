"""What the numbers of a policy's actions mean: for the environment, and as vectors for networks."""

import functools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tree
from gymnasium import spaces
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space
from torch import Tensor

from rlssl.errors import SpecError
from rlssl.networks.encoders import flat_dim, one_hot

#: Share of the distance of two bounds by which rounding may put an action beyond them.
_ROUNDING = 1e-5

#: Neighbors of a rounded inverse that are tried, in steps of the policy's resolution.
_NEIGHBORS = (0, 1, -1, 2, -2, 3, -3)


def bounded_sides(space: gym.spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Which elements of a Box have a lower bound, and which have an upper bound: two bool arrays.

    The largest finite number of float32 or of the space's dtype counts as no bound.

    Example:
        >>> largest = np.finfo(np.float32).max
        >>> low, high = np.array([0.0, -largest]), np.array([np.inf, 1.0])
        >>> [side.tolist() for side in bounded_sides(spaces.Box(low, high, dtype=np.float32))]
        [[True, False], [False, True]]
    """
    largest = float(np.finfo(np.float32).max)
    if np.issubdtype(space.dtype, np.floating):
        largest = min(largest, float(np.finfo(space.dtype).max))
    return space.low > -largest, space.high < largest


def scaled_elements(space: gym.spaces.Box) -> np.ndarray:
    """Which elements of a Box are scaled from [-1, 1] to their bounds: those with two bounds.

    Returns:
        Bool array of the shape of the space; False everywhere for a Box of integers.

    Example:
        >>> scaled_elements(spaces.Box(np.array([0.0, 0.0]), np.array([np.inf, 4.0])))
        array([False,  True])
    """
    if not np.issubdtype(space.dtype, np.floating):
        return np.zeros(space.shape, bool)
    has_low, has_high = bounded_sides(space)
    # The distance of two huge bounds can overflow.
    with np.errstate(over="ignore"):
        is_finite = np.isfinite(space.high - space.low)
    both: np.ndarray = has_low & has_high & is_finite
    return both


def to_env_actions(space: gym.Space, *, normalize: bool, clip: bool) -> Callable[[Any], Any]:
    """Returns a function that maps the policy's actions to a space.

    Elements of a Box with two bounds are scaled from [-1, 1] to their bounds if ``normalize``.
    Other elements are not scaled. Every element is clipped at the bounds that exist. RLlib's
    NormalizeAndClipActions differs: it neither scales nor clips a Box that has an element without
    a bound.

    Args:
        space: Action space of one environment.
        normalize: Whether the policy's actions in [-1, 1] are scaled to the bounds of a Box.
        clip: Whether actions outside the bounds are clipped, if they are not normalized.

    Returns:
        Maps [..., *shape] to the same shape. Actions of a Box get its dtype.

    Example:
        >>> steering = gym.spaces.Box(-10.0, 10.0, (1,), np.float32)
        >>> to_env_actions(steering, normalize=True, clip=True)(np.array([[0.5]], np.float32))
        array([[5.]], dtype=float32)
        >>> force = gym.spaces.Box(0.0, np.inf, (1,), np.float32)
        >>> to_env_actions(force, normalize=True, clip=True)(np.array([[0.5], [-3.0]], np.float32))
        array([[0.5],
               [0. ]], dtype=float32)
    """
    if not (normalize or clip):
        return lambda actions: actions
    if isinstance(space, spaces.Box):
        return _to_box(space, normalize)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = tree.map_structure(
            lambda part: to_env_actions(part, normalize=normalize, clip=clip),
            get_base_struct_from_space(space),
        )
        return lambda actions: tree.map_structure_up_to(
            parts, lambda part, action: part(action), parts, actions
        )
    return lambda actions: actions


def _to_box(space: gym.spaces.Box, normalize: bool) -> Callable[[Any], np.ndarray]:
    low, high, dtype = space.low, space.high, space.low.dtype
    if normalize and np.issubdtype(dtype, np.integer) and space.is_bounded():
        # RLlib's convention: the policy chooses one of the numbers, counted from 0.
        return lambda actions: np.clip(low + actions, low, high).astype(dtype, copy=False)
    scaled = scaled_elements(space) if normalize else np.zeros(space.shape, bool)
    if not scaled.any():
        return lambda actions: np.clip(actions, low, high).astype(dtype, copy=False)
    # Elements that are not scaled get other bounds here, because inf - inf is nan.
    start = np.where(scaled, low, -1).astype(dtype)
    span = np.where(scaled, high, 1).astype(dtype) - start
    every = bool(scaled.all())

    def to_box(actions: Any) -> np.ndarray:
        within = start + (actions + 1.0) * span / 2.0
        mixed = within if every else np.where(scaled, within, actions)
        return np.clip(mixed, low, high).astype(dtype, copy=False)

    return to_box


def to_module_actions(
    space: gym.Space, *, normalize: bool = True, clip: bool = False
) -> Callable[[Any], Any]:
    """Returns the inverse of ``to_env_actions``: from recorded actions to the policy's.

    If a policy gave an action to the environment, the inverse gives the environment the same action
    again, bit for bit. It need not be the policy's own action: several can give the same one. For
    every other action, the result is the nearest one. Elements beyond a bound by rounding only are
    set to it.

    Args:
        space: Action space of one environment.
        normalize: Whether elements of a Box with two bounds are scaled from their bounds to
            [-1, 1].
        clip: Whether elements of a Box beyond a bound are set to it, as some environments do,
            instead of refused.

    Returns:
        Maps arrays [N, *shape] to the same shape and dtype. It raises a SpecError for actions out
        of range.

    Example:
        >>> steering = gym.spaces.Box(-10.0, 10.0, (1,), np.float32)
        >>> to_module_actions(steering)(np.array([[5.0]], np.float32))
        array([[0.5]], dtype=float32)
        >>> to_module_actions(gym.spaces.Discrete(2))(np.array([0, 2]))
        Traceback (most recent call last):
        rlssl.errors.SpecError: action 2 of row 1 is not in Discrete(2). Record the data in \
this environment, with the same options.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = tree.map_structure(
            lambda part: to_module_actions(part, normalize=normalize, clip=clip),
            get_base_struct_from_space(space),
        )
        return lambda actions: tree.map_structure_up_to(
            parts, lambda part, action: part(action), parts, actions
        )
    if not isinstance(space, spaces.Box):
        return functools.partial(_checked_choices, space)
    inverse = _from_box(space) if normalize else lambda within: within

    def from_box(actions: Any) -> np.ndarray:
        low: Any = space.low
        high: Any = space.high
        if not clip:
            with np.errstate(over="ignore", invalid="ignore"):
                room = _ROUNDING * np.where(scaled_elements(space), high - low, 1.0)
            _check_range(space, actions, low - room, high + room)
        return inverse(np.clip(actions, low, high).astype(low.dtype, copy=False))

    return from_box


def _from_box(space: spaces.Box) -> Callable[[np.ndarray], np.ndarray]:
    """The inverse of `_to_box` with ``normalize``, for actions within the bounds."""
    dtype, scaled = np.dtype(space.low.dtype), scaled_elements(space)
    if np.issubdtype(dtype, np.integer):
        return lambda actions: actions - space.low if space.is_bounded() else actions
    if not scaled.any():
        return lambda actions: actions
    forward = _to_box(space, True)
    low = np.where(scaled, space.low, 0).astype(np.longdouble)
    span = np.where(scaled, space.high, 1).astype(np.longdouble) - low
    span[span == 0] = 1
    precision = np.finfo(dtype)

    def from_box(actions: np.ndarray) -> np.ndarray:
        distance = (actions.astype(np.longdouble) - low) * 2 / span
        # `_to_box` adds 1 first: it cannot tell actions within such a step apart.
        step = np.where(distance < 1, precision.epsneg, precision.eps)
        nearest = np.round(distance / step) * step
        best = actions
        for neighbor in _NEIGHBORS:
            other = np.clip(nearest + neighbor * step - 1, -1, 1).astype(dtype)
            other = np.where(scaled, other, actions)
            if neighbor == 0:
                best = other
            wrong = forward(best) != actions
            if not wrong.any():
                break
            best = np.where(wrong & (forward(other) == actions), other, best)
        return best

    return from_box


def _checked_choices(space: gym.Space, actions: np.ndarray) -> np.ndarray:
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        _check_range(space, actions, start, start + int(space.n) - 1)
    elif isinstance(space, spaces.MultiDiscrete):
        first: Any = space.start
        choices: Any = space.nvec
        _check_range(space, actions, first, first + choices - 1)
    elif isinstance(space, spaces.MultiBinary):
        _check_range(space, actions, 0, 1)
    return actions


def _check_range(space: gym.Space, actions: np.ndarray, low: Any, high: Any) -> None:
    inside = (actions >= low) & (actions <= high)  # false for NaN
    if inside.all():
        return
    row = int(np.argmin(inside.reshape(len(actions), -1).all(axis=1)))
    raise SpecError(
        f"action {actions[row]} of row {row} is not in {space}. Record the data in this "
        "environment, with the same options."
    )


def action_dim(action_space: gym.Space) -> int:
    """Number of features of an encoded action: A of ``encode_action``.

    Raises:
        SpecError: If the space is not Discrete, MultiDiscrete, MultiBinary or a floating Box.
    """
    check_action_space(action_space)
    return flat_dim(action_space)


def encode_action(action: Tensor, action_space: gym.Space) -> Tensor:
    """Encodes actions as input of forward models.

    Discrete: one-hot. MultiDiscrete: one-hot blocks side by side. MultiBinary: 0 or 1. Box:
    clamped, because an action outside the bounds has the same effect as the bound. An element with
    two bounds is clamped to [-1, 1]: policies give normalized actions, which `to_env_actions`
    scales. An element with one bound is clamped at this bound.

    Args:
        action: [N] for a Discrete (``start`` included), else [N, ...].
        action_space: Space of one action.

    Returns:
        [N, A], float.

    Raises:
        SpecError: If the space is not Discrete, MultiDiscrete, MultiBinary or a floating Box.

    Example:
        >>> encode_action(torch.tensor([2, 4]), spaces.Discrete(3, start=2)).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
        >>> encode_action(torch.tensor([[3.0, -0.5]]), spaces.Box(-2, 2, (2,))).tolist()
        [[1.0, -0.5]]
    """
    check_action_space(action_space)
    if isinstance(action_space, spaces.Discrete | spaces.MultiDiscrete):
        return one_hot(action, action_space)
    return _flat_action(action, action_space)


def check_action_space(space: gym.Space) -> None:
    """Raises a SpecError for a space whose actions cannot be encoded."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return
    raise SpecError(
        f"actions of {space} cannot be encoded; wrap the environment so that it has Discrete, "
        "MultiDiscrete, MultiBinary or a Box of floats (for a Box of integers: MultiDiscrete)."
    )


def _flat_action(action: Tensor, space: gym.Space) -> Tensor:
    flat = action.reshape(action.shape[0], -1).float()
    if not isinstance(space, spaces.Box):
        return flat
    scaled = scaled_elements(space).reshape(-1)
    if scaled.all():
        return flat.clamp(-1.0, 1.0)
    low = np.where(scaled, -1.0, space.low.reshape(-1))
    high = np.where(scaled, 1.0, space.high.reshape(-1))
    return flat.clamp(torch.as_tensor(low).to(flat), torch.as_tensor(high).to(flat))


def likeliest_actions(prediction: Tensor | list[Tensor], action_space: gym.Space) -> Tensor:
    """The actions that an InverseModel predicts, in the numbers of the policy.

    Args:
        prediction: Its output: logits [N, n], a list of logits [N, n_j], or means [N, A].
        action_space: Space of one action.

    Returns:
        [N, *shape]: the actions with the largest logits, or the means, clamped at the bounds.

    Example:
        >>> likeliest_actions(torch.tensor([[0.1, 0.9], [2.0, 1.0]]), spaces.Discrete(2, start=3))
        tensor([4, 3])
        >>> likeliest_actions(torch.tensor([[0.5], [-4.0]]), spaces.Box(-2, 2, (1,))).tolist()
        [[0.5], [-1.0]]
    """
    if isinstance(action_space, spaces.Discrete):
        assert isinstance(prediction, Tensor)  # for mypy
        return prediction.argmax(dim=-1) + int(action_space.start)
    shape = action_space.shape or ()
    if isinstance(prediction, Tensor):
        return _flat_action(prediction, action_space).reshape(-1, *shape)
    chosen = torch.stack([part.argmax(dim=-1) for part in prediction], dim=-1)
    if isinstance(action_space, spaces.MultiDiscrete):
        chosen = chosen + torch.as_tensor(action_space.start.reshape(-1), device=chosen.device)
    return chosen.reshape(-1, *shape)


def inverse_target(action: Tensor, action_space: gym.Space) -> Tensor:
    """Target of an InverseModel, for ``rlssl.losses.inverse_dynamics_loss``.

    Args:
        action: [N] for a Discrete (``start`` included), else [N, ...].
        action_space: Space of one action.

    Returns:
        Discrete: [N] int64, counted from 0. MultiDiscrete and MultiBinary: [N, k] int64. Box:
        [N, A] float, as from ``encode_action``.

    Raises:
        SpecError: If the space is not Discrete, MultiDiscrete, MultiBinary or a floating Box.

    Example:
        >>> inverse_target(torch.tensor([2, 4]), spaces.Discrete(3, start=2)).tolist()
        [0, 2]
    """
    check_action_space(action_space)
    if isinstance(action_space, spaces.Discrete):
        return action.long().reshape(-1) - int(action_space.start)
    if isinstance(action_space, spaces.MultiDiscrete):
        start = torch.as_tensor(action_space.start.reshape(-1), device=action.device)
        return action.long().reshape(action.shape[0], -1) - start
    flat = _flat_action(action, action_space)
    return flat.long() if isinstance(action_space, spaces.MultiBinary) else flat
