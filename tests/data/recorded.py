"""Random episodes of any space, and their exact comparison."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from gymnasium.vector.utils import concatenate, create_empty_array

from rlssl.data import Episode


def samples(space: gym.Space, count: int, seed: int) -> Any:
    """Struct of [count, ...]."""
    space.seed(seed)
    rows = [space.sample() for _ in range(count)]
    return concatenate(space, rows, create_empty_array(space, count))


def random_episode(
    observation_space: gym.Space,
    action_space: gym.Space | None,
    num_steps: int,
    *,
    seed: int = 0,
    terminated: bool = True,
    truncated: bool = False,
) -> Episode:
    rewards = np.random.default_rng(seed).normal(size=num_steps).astype(np.float32)
    return Episode(
        samples(observation_space, num_steps + 1, seed),
        None if action_space is None else samples(action_space, num_steps, seed),
        rewards,
        terminated,
        truncated,
    )


def assert_same_struct(found: Any, wanted: Any) -> None:
    """The same nesting, keys, dtypes and bits."""
    if isinstance(wanted, dict):
        assert set(found) == set(wanted)
        for key in wanted:
            assert_same_struct(found[key], wanted[key])
    elif isinstance(wanted, tuple):
        assert isinstance(found, tuple) and len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_same_struct(one, other)
    else:
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        assert found.tobytes() == wanted.tobytes()


def assert_same_episodes(found: Sequence[Episode], wanted: Sequence[Episode]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert_same_struct(one.observations, tree.map_structure(np.asarray, other.observations))
        if other.actions is None:
            assert one.actions is None
        else:
            assert_same_struct(one.actions, other.actions)
        assert_same_struct(one.rewards, other.rewards)
        assert (one.terminated, one.truncated) == (other.terminated, other.truncated)
