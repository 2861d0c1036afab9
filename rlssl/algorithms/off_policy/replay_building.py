"""Builds an empty replay buffer for a config."""

from typing import Any

import gymnasium as gym

from rlssl.environments.goals import goal_functions
from rlssl.image_spaces import with_layout
from rlssl.replay import PrioritizedReplayBuffer, ReplayBuffer
from rlssl.system.seeding import Role, integer, stream


def make_replay(
    config: Any,
    observation_space: gym.Space,
    action_space: gym.Space,
    *,
    capacity: int | None = None,
    role: Role = "replay",
) -> ReplayBuffer:
    """An empty replay buffer for an off-policy config.

    Args:
        config: A config that is adapted to the environment.
        observation_space: The space of one environment and one frame.
        action_space: The space of one environment.
        capacity: Number of rows; None: ``training.replay_capacity``.
        role: The stream of random numbers that the draws come from.
    """
    settings = config.replay_settings
    observation_space = with_layout(observation_space, config.network["encoder_config"])
    options: dict[str, Any] = {
        "frame_stack": config.frame_stack,
        "seed": None if config.seed is None else integer(stream(config.seed, role)),
        "storage_path": settings.storage_path,
        "identity": config.reads_identity,
    }
    if config.relabel_settings is not None:
        options["relabel"] = config.relabel_settings
        options["goal_functions"] = goal_functions(config.env_settings)
    capacity = config.replay_capacity if capacity is None else capacity
    if settings.prioritized:
        return PrioritizedReplayBuffer(
            capacity, observation_space, action_space, alpha=settings.alpha, **options
        )
    return ReplayBuffer(capacity, observation_space, action_space, **options)
