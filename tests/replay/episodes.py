"""Chunks of episodes with known numbers, in the format of `rlssl.rollouts.fragment`."""

from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

from rlssl.replay import ReplayBuffer

VECTOR = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
ACTIONS: gym.spaces.Discrete = gym.spaces.Discrete(100)


def _with_lookback(data: Any, lookback: int) -> InfiniteLookbackBuffer:
    buffer = InfiniteLookbackBuffer(data)
    buffer.lookback = lookback  # the constructor would limit it to len() of a dict
    return buffer


def chunk(
    observations: Any,
    rewards: Iterable[float],
    *,
    actions: Any = None,
    id_: str = "episode",
    t_started: int = 0,
    lookback: int = 0,
    padding: int = 0,
    terminated: bool = False,
    truncated: bool = False,
) -> SingleAgentEpisode:
    """A numpy-backed chunk.

    ``observations``: struct of [padding + lookback + T + 1, ...]; ``rewards`` and ``actions``:
    [lookback + T]; actions count from 0 unless given.
    """
    rewards = np.asarray(list(rewards), np.float64)
    if actions is None:
        actions = np.arange(len(rewards), dtype=np.int32)
    return SingleAgentEpisode(
        id_=id_,
        observations=_with_lookback(observations, padding + lookback),
        infos=_with_lookback([{}] * (len(rewards) - lookback + 1), 0),
        actions=_with_lookback(actions, lookback),
        rewards=_with_lookback(rewards, lookback),
        terminated=terminated,
        truncated=truncated,
        t_started=t_started,
    )


def numbers(first: float, count: int) -> np.ndarray:
    """``count`` observations of `VECTOR`: first, first + 1, ..."""
    return np.arange(first, first + count, dtype=np.float32)[:, None]


def vector_chunk(first: float, rewards: Iterable[float], **options: Any) -> SingleAgentEpisode:
    """A chunk with the observations first, first + 1, ..."""
    rewards = list(rewards)
    return chunk(numbers(first, len(rewards) + 1), rewards, **options)


def all_steps(buffer: ReplayBuffer, **options: Any) -> dict[int, dict[str, Any]]:
    """Index -> the sampled row of every drawable step; draws until all steps have been drawn."""
    rows: dict[int, dict[str, Any]] = {}
    while len(rows) < len(buffer):
        batch = buffer.sample(4 * len(buffer), **options)
        for i, index in enumerate(batch["indices"].tolist()):
            rows[index] = tree.map_structure(lambda leaf, i=i: leaf[i], batch)
    return rows


def assert_same_batch(one: Any, other: Any) -> None:
    """Equal in names, shapes, dtypes and every bit."""
    tree.assert_same_structure(one, other)
    for a, b in zip(tree.flatten(one), tree.flatten(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
