"""Collects the steps of one episode."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tree

from rlssl.data import Episode
from rlssl.environments.vector_infos import as_number


class Tape:
    """The steps of an episode so far, as recorded episodes.

    An environment may say that a step ends the episode for learning only (``soft_terminated``, a
    lost life): the recorded episode ends there, and the next one begins with the same observation.

    Args:
        observation: The first observation.
        keeps_actions: Whether actions and rewards are recorded; else rewards are 0.

    Example:
        >>> tape = Tape(np.zeros(1), keeps_actions=True)
        >>> tape.add(0, 1.0, {}, np.ones(1), terminated=True, truncated=False)
        >>> [len(episode) for episode in tape.episodes]
        [1]
    """

    def __init__(self, observation: Any, *, keeps_actions: bool) -> None:
        self.episodes: list[Episode] = []
        self._keeps_actions = keeps_actions
        self._begin(_copied(observation))

    def _begin(self, observation: Any) -> None:
        self._observations = [observation]
        self._actions: list[Any] = []
        self._rewards: list[float] = []

    def add(
        self,
        action: Any,
        reward: float,
        info: Mapping[str, Any],
        observation: Any,
        *,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Adds a step, and the observation after it.

        Args:
            action: What the environment took.
            reward: Its reward, which ``info["learning_reward"]`` replaces.
            info: The environment's info.
            observation: The observation after the step.
            terminated: Whether the step ended the episode.
            truncated: Whether the episode was cut off after the step.
        """
        if self._keeps_actions:
            self._actions.append(_copied(action))
            given = info.get("learning_reward")
            reward = reward if given is None else as_number(given, "learning_reward")
        self._rewards.append(float(reward) if self._keeps_actions else 0.0)
        self._observations.append(_copied(observation))
        soft = not (terminated or truncated) and bool(info.get("soft_terminated", False))
        if terminated or truncated or soft:
            self._end(terminated=terminated or soft, truncated=truncated)

    def _end(self, *, terminated: bool, truncated: bool) -> None:
        self.episodes.append(
            Episode(
                observations=_stacked(self._observations),
                actions=_stacked(self._actions) if self._keeps_actions else None,
                rewards=np.array(self._rewards, np.float32),
                terminated=terminated,
                truncated=truncated,
            )
        )
        self._begin(self._observations[-1])


def _copied(struct: Any) -> Any:
    """A copy, because environments may write into an array again."""
    return tree.map_structure(np.array, struct)


def _stacked(structs: list[Any]) -> Any:
    return tree.map_structure(lambda *leaves: np.stack(leaves), *structs)
