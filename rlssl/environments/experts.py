"""Experts: policies that are written, not trained, for demonstrations; see `register_expert`."""

from typing import Any, Protocol

import gymnasium as gym

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
    expert: Expert = EXPERTS[known](env)
    for method in ("reset", "act"):
        if not callable(getattr(expert, method, None)):
            raise SpecError(
                f"{name} has no method {method}(); an expert has reset(observation) and "
                "act(observation, previous_action)."
            )
    return expert
