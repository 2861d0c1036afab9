"""A Learner and a replay buffer of rlssl without the Algorithm; parts of plain loops."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from torch import nn

#: Steps of an episode.
EPISODE = 500


def learner_of(config: Any, frame: gym.Space[Any], actions: gym.Space[Any]) -> Any:
    """The built Learner of an off-policy config.

    Args:
        config: Everything but the spaces is set.
        frame: Observation space of one environment, before stacking.
        actions: Action space of one environment.
    """
    from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES

    config.observation_space, config.action_space = frame, actions
    config.validate()
    stack = stacked(frame, config.frame_stack)
    spaces = {key: (stack, actions) for key in (INPUT_ENV_SPACES, "default_policy")}
    spaces[INPUT_ENV_SINGLE_SPACES] = (frame, actions)
    learner = config.build_learner(spaces=spaces)
    learner.build()
    return learner


def stacked(frame: gym.Space[Any], num_frames: int) -> gym.Space[Any]:
    """The space of ``num_frames`` stacked frames: [num_frames * C, H, W]."""
    if num_frames == 1:
        return frame
    assert isinstance(frame, gym.spaces.Box)
    channels, *size = frame.shape
    return gym.spaces.Box(0, 255, (channels * num_frames, *size), np.uint8)


def filled_replay(
    config: Any, frame: gym.Space[Any], actions: gym.Space[Any], num_steps: int
) -> Any:
    """The replay buffer of a config, filled with random steps."""
    from rlssl.algorithms.off_policy.replay_building import make_replay

    replay = make_replay(config, frame, actions)
    for episode in random_episodes(frame, actions, num_steps):
        replay.add([episode])
    return replay


def random_episodes(
    frame: gym.Space[Any], actions: gym.Space[Any], num_steps: int
) -> Iterator[Any]:
    """Whole episodes of `EPISODE` steps, as numpy; observations are bytes or normal numbers."""
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    rng = np.random.default_rng(0)
    actions.seed(0)
    for index in range(num_steps // (EPISODE + 1)):
        shape = (EPISODE + 1, *frame.shape)  # type: ignore[misc]
        if frame.dtype == np.uint8:
            observations = rng.integers(256, size=shape, dtype=np.uint8)
        else:
            observations = rng.standard_normal(shape).astype(np.float32)
        episode = SingleAgentEpisode(
            id_=str(index),
            observations=list(observations),
            actions=[actions.sample() for _ in range(EPISODE)],
            rewards=list(rng.standard_normal(EPISODE)),
            terminated=True,
            len_lookback_buffer=0,
        )
        yield episode.to_numpy()


def relu_mlp(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    """Two hidden layers with ReLU."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )


def follow(online: nn.Module, target: nn.Module, tau: float) -> None:
    """``target = tau * online + (1 - tau) * target``, one tensor after the other."""
    for one, copied in zip(online.parameters(), target.parameters(), strict=True):
        copied.data.copy_(tau * one.data + (1 - tau) * copied.data)
