"""Keeps a bounded number of steps of evaluation episodes."""

from typing import Any, NamedTuple

import numpy as np
import torch
import tree

#: The most rows that diagnostics use.
NUM_ROWS = 1000


class Rows(NamedTuple):
    """Steps of several episodes."""

    # A struct of [N, ...]: what the module read, with stacked frames.
    observations: Any
    # [N, P], parts of the actions; integers if the actions are discrete.
    actions: np.ndarray
    # [N].
    rewards: np.ndarray
    # [N], number of the episode, from 0, in the order of the seeds.
    episodes: np.ndarray


class StepRecorder:
    """Keeps steps of each episode, evenly spread over it, and at most ``num_rows`` in all.

    It keeps every k-th step of an episode. When the episode has its share of rows, every second row
    is dropped, and k doubles. So at least half of the share is used if the episode is long enough,
    and nothing depends on random numbers. Where there are more episodes than pairs of rows, the
    last episodes are left out.

    Args:
        num_episodes: Number of episodes that will be recorded.
        num_rows: The most rows that are kept.

    Example:
        Two rows of each episode. Of 5 steps, it keeps those at 0 and 4.

        >>> recorder = StepRecorder(num_episodes=1, num_rows=2)
        >>> for step in range(5):
        ...     if recorder.wants(7, step):
        ...         recorder.add(7, torch.tensor([[float(step)]]), np.int64(1), reward=step)
        >>> recorder.rows().rewards.tolist()
        [0.0, 4.0]
    """

    def __init__(self, num_episodes: int, num_rows: int = NUM_ROWS) -> None:
        self._num_rows = num_rows
        # Even, so that the step that comes when all rows are used is kept with the doubled k.
        self._most = max(2, num_rows // num_episodes // 2 * 2)
        self._strides: dict[int, int] = {}
        self._kept: dict[int, list[tuple[Any, np.ndarray, float]]] = {}

    def wants(self, seed: int, step: int) -> bool:
        """Whether `add` should be called for a step of the episode with this seed."""
        if seed not in self._kept and len(self._kept) * self._most + 2 > self._num_rows:
            return False
        return step % self._strides.get(seed, 1) == 0

    def add(self, seed: int, seen: Any, action: Any, reward: float) -> None:
        """Adds a step that `wants` asked for.

        Args:
            seed: Seed of the episode.
            seen: The module's input, in tensors: a struct of [1, ...].
            action: The action of the environment.
            reward: The reward that followed.
        """
        kept = self._kept.setdefault(seed, [])
        if len(kept) == self._most:
            kept[:] = kept[::2]
            self._strides[seed] = 2 * self._strides.get(seed, 1)
        copied = tree.map_structure(lambda leaf: leaf.detach().clone(), seen)
        kept.append((copied, np.array(action).reshape(-1), float(reward)))

    def rows(self) -> Rows:
        """All rows, by the seeds of their episodes.

        Raises:
            ValueError: If nothing was added.
        """
        if not self._kept:
            raise ValueError("no episode was recorded.")
        steps = [
            (number, *step)
            for number, seed in enumerate(sorted(self._kept))
            for step in self._kept[seed]
        ]
        episodes, observations, actions, rewards = zip(*steps, strict=True)
        return Rows(
            observations=tree.map_structure(lambda *leaves: torch.cat(leaves), *observations),
            actions=np.stack(actions),
            rewards=np.array(rewards),
            episodes=np.array(episodes),
        )
