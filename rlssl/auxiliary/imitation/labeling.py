"""Labels episodes without actions with those that an inverse model predicts."""

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns

from rlssl.auxiliary.imitation.demonstrations import Demonstrations
from rlssl.auxiliary.predictive.inverse_dynamics import InverseDynamics
from rlssl.data import Episode
from rlssl.networks.action_encoding import to_env_actions

#: Steps that are encoded at once.
_ROWS = 256


def labeled(episode: Episode, loss: InverseDynamics, device: torch.device) -> Episode:
    """The episode with the actions that the inverse model of a loss predicts.

    The action of step t is predicted from the observations before and after it, which belong to the
    same episode: no pair spans a reset.

    Args:
        episode: An episode of the environment, with or without actions.
        loss: The trained loss, with its encoder.
        device: Where the encoder is.

    Returns:
        The same episode with other actions, in the environment's units.

    Source:
        Torabi et al. 2018, Behavioral Cloning from Observation, arXiv:1805.01954.
    """
    bare = dataclasses.replace(episode, actions=None)
    steps = Demonstrations(
        [bare], loss.observation_space, loss.action_space, frame_stack=loss.frame_stack
    )
    parts = []
    for start in range(0, len(steps), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(steps)))
        columns = steps.rows(rows, [Columns.OBS, Columns.NEXT_OBS], device)
        predicted = loss.predicted_actions(columns[Columns.OBS], columns[Columns.NEXT_OBS])
        parts.append(predicted.cpu().numpy())
    space = loss.action_space
    taken = to_env_actions(space, normalize=True, clip=True)(np.concatenate(parts))
    return dataclasses.replace(episode, actions=np.asarray(taken).astype(space.dtype))


class Agreement:
    """How well labels agree with true actions, over episodes.

    Args:
        space: The space of one action.

    Example:
        >>> agreement = Agreement(gym.spaces.Discrete(3))
        >>> agreement.add(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 1]))
        >>> agreement.measure
        {'accuracy': 0.75}
    """

    def __init__(self, space: gym.Space) -> None:
        self._is_box = isinstance(space, gym.spaces.Box)
        self._labels: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []

    def add(self, labels: Any, actions: Any) -> None:
        """Adds the labels [T, ...] and the true actions of an episode."""
        self._labels.append(np.asarray(labels))
        self._actions.append(np.asarray(actions))

    @property
    def measure(self) -> dict[str, float]:
        """``accuracy``, or ``explained_variance`` of continuous actions; empty without actions.

        ``accuracy``: share of equal actions, averaged over the parts of an action.
        ``explained_variance``: 1 - squared error / variance; 1 if labels are perfect, 0 if they are
        as good as the mean action.
        """
        if not self._actions:
            return {}
        labels, actions = np.concatenate(self._labels), np.concatenate(self._actions)
        if not self._is_box:
            return {"accuracy": float(np.mean(labels == actions))}
        actions = actions.astype(np.float64)
        spread = np.square(actions - actions.mean(axis=0)).sum()
        error = np.square(labels - actions).sum()
        return {"explained_variance": float(1.0 - error / max(spread, 1e-12))}
