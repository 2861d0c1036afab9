"""Encodes actions as vectors for networks."""

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlssl.errors import SpecError
from rlssl.networks.encoders import flat_dim, one_hot


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
    unchanged, but clamped to [-1, 1] if the space is bounded. The clamp assumes normalized actions:
    RLlib's policies give actions in [-1, 1], and RLlib rescales them to the bounds of the space. An
    action outside [-1, 1] has the same effect as the bound.

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
    # As RLlib's unsquash_action, which rescales and clips only if every dimension is bounded.
    return flat.clamp(-1.0, 1.0) if isinstance(space, spaces.Box) and space.is_bounded() else flat


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
