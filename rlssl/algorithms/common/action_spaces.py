"""Which actions an algorithm can choose, and what to do about others."""

from typing import Literal

import gymnasium as gym
import numpy as np

from rlssl.errors import SpecError
from rlssl.networks.action_encoding import scaled_elements

#: Kinds of actions: "any" is Discrete, MultiDiscrete or Box.
ActionKind = Literal["any", "discrete", "continuous"]

_NEEDS: dict[ActionKind, str] = {
    "any": "Discrete or MultiDiscrete actions that count from 0, or a floating Box of one "
    "dimension",
    "discrete": "Discrete actions that count from 0",
    "continuous": "continuous actions, a floating Box of one dimension",
}


def check_actions(space: gym.Space, algorithm: str, kind: ActionKind) -> None:
    """Refuses actions that an algorithm cannot choose.

    Args:
        space: The space of one action of the environment.
        algorithm: Name of the algorithm.
        kind: What the algorithm can choose.

    Raises:
        SpecError: Names the algorithm, what it needs, the space and the fix.

    Example:
        >>> check_actions(gym.spaces.MultiBinary(2), "ppo", "any")
        Traceback (most recent call last):
        rlssl.errors.SpecError: algorithm 'ppo' needs Discrete or MultiDiscrete actions that count \
from 0, or a floating Box of one dimension; got MultiBinary(2). Declare \
MultiDiscrete([2] * 2) in the environment instead, which has the same actions.
    """
    if not _fits(space, kind):
        raise SpecError(
            f"algorithm '{algorithm}' needs {_NEEDS[kind]}; got {space}. {_fix(space, kind)}"
        )
    if kind == "continuous" and not scaled_elements(_as_box(space)).all():
        raise SpecError(
            f"algorithm '{algorithm}' needs actions with finite bounds, because it scales actions "
            f"to them; got {space}. Set the bounds in a wrapper (gymnasium's RescaleAction)."
        )


def kind_of_any(space: gym.Space) -> ActionKind:
    """What an algorithm for any actions needs that scales a Box to its bounds.

    Example:
        >>> kind_of_any(gym.spaces.Discrete(2)), kind_of_any(gym.spaces.Box(-1, 1, (2,)))
        ('any', 'continuous')
    """
    return "continuous" if isinstance(space, gym.spaces.Box) else "any"


def _fits(space: gym.Space, kind: ActionKind) -> bool:
    if isinstance(space, gym.spaces.Box):
        is_vector = len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)
        return is_vector and kind != "discrete"
    if isinstance(space, gym.spaces.Discrete):
        return space.start == 0 and kind != "continuous"
    if isinstance(space, gym.spaces.MultiDiscrete):
        return kind == "any" and space.nvec.ndim == 1 and not np.any(space.start)
    return False


def _fix(space: gym.Space, kind: ActionKind) -> str:
    if isinstance(space, gym.spaces.MultiBinary) and kind == "any":
        size = int(np.prod(space.shape))
        return (
            f"Declare MultiDiscrete([2] * {size}) in the environment instead, which has the same "
            "actions."
        )
    if isinstance(space, gym.spaces.Discrete) and kind == "continuous":
        return "Choose an algorithm for discrete actions (rainbow, ppo)."
    if isinstance(space, gym.spaces.Discrete):
        return "Shift them in a wrapper of the environment."
    if isinstance(space, gym.spaces.Box) and kind == "discrete":
        return "Choose an algorithm for continuous actions (sac, ddpg, ppo)."
    if isinstance(space, gym.spaces.MultiDiscrete | gym.spaces.MultiBinary) and kind != "any":
        return "Choose ppo or a3c, which take MultiDiscrete actions."
    if isinstance(space, gym.spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return "Shift them in a wrapper of the environment."
    return "Flatten them in a wrapper of the environment."


def _as_box(space: gym.Space) -> gym.spaces.Box:
    assert isinstance(space, gym.spaces.Box)  # for mypy: `_fits` has checked it
    return space
