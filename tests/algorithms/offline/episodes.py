"""Small data sets, whose observations say which episode and step they are of."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.data import DatasetWriter, Description, Episode

FRAME = gym.spaces.Box(-1e4, 1e4, (3,), np.float32)
ACTIONS: gym.Space = gym.spaces.Discrete(2)


def numbered(number: int, length: int, *, with_actions: bool = True, shape: Any = (3,)) -> Episode:
    """An episode whose frame t is ``100 * number + t`` everywhere."""
    steps = np.arange(length + 1, dtype=np.float32) + 100 * number
    frames = np.broadcast_to(steps.reshape(-1, *[1] * len(shape)), (length + 1, *shape)).copy()
    actions = np.arange(length) % 2 if with_actions else None
    return Episode(frames, actions, steps[1:], terminated=True)


def write_episodes(
    folder: Path,
    lengths: Sequence[int] = (5, 1, 9, 4, 7, 6, 8, 3, 5, 6),
    *,
    env: str = "no/such-environment",
    with_actions: bool = True,
    frame: gym.Space = FRAME,
    actions: gym.Space = ACTIONS,
) -> str:
    """Writes a data set of `numbered` episodes; returns its folder."""
    described = Description(frame, actions if with_actions else None, env={"id": env})
    with DatasetWriter(folder, described) as writer:
        for number, length in enumerate(lengths):
            one = numbered(number, length, with_actions=with_actions, shape=frame.shape)
            if isinstance(actions, gym.spaces.Box):
                one = replace(one, actions=one.actions[:, None].astype(np.float32))
            writer.add(one)
    return str(folder)
