"""Actions as vectors that networks can read."""

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlssl.errors import SpecError
from rlssl.networks.encoders import flat_dim, one_hot


def action_dim(action_space: gym.Space) -> int:
    """Number of features of a coded action: A of ``encode_action``.

    Raises:
        SpecError: If the space is not Discrete, MultiDiscrete, MultiBinary or a floating Box.
    """
    check_action_space(action_space)
    return flat_dim(action_space)


def encode_action(action: Tensor, action_space: gym.Space) -> Tensor:
    """Codes actions as the forward models read them.

    Discrete: one-hot. MultiDiscrete: one-hot blocks side by side. MultiBinary: 0 or 1. Box: as it
    is, clamped to [-1, 1] where the space is bounded. The clamp assumes normalized actions, as
    RLlib's policies give them before they are stretched to the bounds of the space: what lies
    outside had the effect of the bound.

    Args:
        action: [N] of a Discrete (``start`` included), else [N, ...].
        action_space: Of one action.

    Returns:
        [N, A], float.

    Raises:
        SpecError: If the space is not Discrete, MultiDiscrete, MultiBinary or a floating Box.
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
        f"actions of {space} cannot be coded; use Discrete, MultiDiscrete, MultiBinary or a Box of "
        "floats (wrap the environment; MultiDiscrete in place of a Box of integers)."
    )


def _flat_action(action: Tensor, space: gym.Space) -> Tensor:
    flat = action.reshape(action.shape[0], -1).float()
    # As RLlib's unsquash_action: stretched, and clipped, only if every dimension is bounded.
    return flat.clamp(-1.0, 1.0) if isinstance(space, spaces.Box) and space.is_bounded() else flat


def inverse_target(action: Tensor, action_space: gym.Space) -> Tensor:
    """The action as ``rlssl.losses.inverse_dynamics_loss`` compares it with an InverseModel.

    Args:
        action: [N] of a Discrete (``start`` included), else [N, ...].
        action_space: Of one action.

    Returns:
        [N] int64 counted from 0 for Discrete, [N, k] for MultiDiscrete and MultiBinary; for Box
        [N, A] float, as ``encode_action`` gives it.

    Raises:
        SpecError: If the space is not Discrete, MultiDiscrete, MultiBinary or a floating Box.
    """
    check_action_space(action_space)
    if isinstance(action_space, spaces.Discrete):
        return action.long().reshape(-1) - int(action_space.start)
    if isinstance(action_space, spaces.MultiDiscrete):
        start = torch.as_tensor(action_space.start.reshape(-1), device=action.device)
        return action.long().reshape(action.shape[0], -1) - start
    flat = _flat_action(action, action_space)
    return flat.long() if isinstance(action_space, spaces.MultiBinary) else flat
