"""Experts: policies that are written, not trained, for demonstrations; see `register_expert`."""

from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from rlssl.errors import SpecError, unknown_name
from rlssl.plugins import load_plugins
from rlssl.registry import EXPERTS

#: What the name of an expert begins with where other policies may stand: ``--policy expert/NAME``.
PREFIX = "expert/"


class Expert(Protocol):
    """Acts in the environment for which it was made; the environment is given to its maker."""

    def reset(self, observation: Any) -> None:
        """Begins an episode, whose first observation is this one."""

    def act(self, observation: Any, previous_action: Any) -> Any:
        """The action for the present state of the environment, in the environment's units.

        Call it once for each step of an episode, also where another policy's action is taken.

        Args:
            observation: The present observation.
            previous_action: The action that was taken in the step before, whoever chose it; None at
                the first step.
        """


def is_expert(policy: str) -> bool:
    """Whether a name is that of an expert.

    Example:
        >>> is_expert("expert/cartpole"), is_expert("random")
        (True, False)
    """
    return policy.startswith(PREFIX)


def make_expert(name: str, env: gym.Env) -> Expert:
    """Makes an expert for one environment.

    Args:
        name: ``expert/NAME``; `register_expert` registers a name.
        env: The environment, as `make_env` builds it.

    Raises:
        UnknownNameError: There is no such expert.
        SpecError: The expert is for other environments, or lacks a method.
        PluginError: The module of the expert cannot be imported.

    Example:
        >>> from rlssl.environments import make_env
        >>> env = make_env({"id": "CartPole-v1"})
        >>> expert = make_expert("expert/cartpole", env)
        >>> observation, _ = env.reset(seed=0)
        >>> expert.reset(observation)
        >>> expert.act(observation, None) in env.action_space
        True
    """
    load_plugins()
    known = name.removeprefix(PREFIX)
    if not is_expert(name) or known not in EXPERTS:
        raise unknown_name("expert", name, [f"{PREFIX}{other}" for other in EXPERTS])
    expert = EXPERTS[known](env)
    for method in ("reset", "act"):
        if not callable(getattr(expert, method, None)):
            raise SpecError(
                f"{name} has no method {method}(); an expert has reset(observation) and "
                "act(observation, previous_action)."
            )
    return CheckedExpert(name, expert, env.action_space)


class CheckedExpert:
    """An expert whose actions are checked, because anyone may have written it.

    Numbers of a wider dtype, as float64, become those of the action space.

    Args:
        name: Of the expert, for messages.
        expert: What the plug-in made.
        space: The action space of its environment.
    """

    def __init__(self, name: str, expert: Expert, space: gym.Space) -> None:
        self._name, self._expert, self._space = name, expert, space

    def reset(self, observation: Any) -> None:
        """Begins an episode."""
        self._expert.reset(observation)

    def act(self, observation: Any, previous_action: Any) -> Any:
        """The expert's action.

        Raises:
            SpecError: It is not in the action space.
        """
        action = _in_dtype_of(self._space, self._expert.act(observation, previous_action))
        if action not in self._space:
            raise SpecError(
                f"{self._name} gave the action {action!r}, which is not in {self._space}; "
                "an expert returns actions of env.action_space."
            )
        return action


def _in_dtype_of(space: gym.Space, action: Any) -> Any:
    """The action, whose numbers are converted where that changes no more than their precision."""
    match space, action:
        case gym.spaces.Dict(), dict():
            parts = space.spaces
            return {k: _in_dtype_of(parts[k], v) if k in parts else v for k, v in action.items()}
        case gym.spaces.Tuple(), tuple() if len(action) == len(space):
            return tuple(map(_in_dtype_of, space, action))
        case gym.spaces.Box(), np.ndarray():
            wanted = np.dtype(space.dtype)
            return (
                action.astype(wanted) if np.can_cast(action.dtype, wanted, "same_kind") else action
            )
    return action
