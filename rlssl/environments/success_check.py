"""Tries whether an environment says if an episode was a success."""

import time
from collections.abc import Mapping
from typing import Any

from rlssl.environments.building import make_env
from rlssl.environments.vector_infos import SUCCESS_KEYS
from rlssl.system.random_state import undisturbed_generators

#: An episode that is longer in agent steps or seconds shows nothing.
_MAX_STEPS = 2_000
_MAX_S = 5.0


@undisturbed_generators()
def tells_success(env: Mapping[str, Any]) -> bool | None:
    """Plays an episode with random actions, and looks for the success in its infos.

    Args:
        env: ``{"id": ..., **options}``.

    Returns:
        None if the episode did not end within 2,000 agent steps and 5 s.

    Example:
        >>> tells_success({"id": "CartPole-v1"})
        False
    """
    instance = make_env(env, seed=0)
    deadline = time.monotonic() + _MAX_S
    try:
        instance.action_space.seed(0)
        instance.reset(seed=0)
        for _ in range(_MAX_STEPS):
            _, _, terminated, truncated, info = instance.step(instance.action_space.sample())
            if any(info.get(key) is not None for key in SUCCESS_KEYS):
                return True
            if terminated or truncated:
                return False
            if time.monotonic() > deadline:
                break
        return None
    finally:
        instance.close()
