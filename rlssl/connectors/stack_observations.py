"""Connectors that stack frames: in the Learner from chunks, and for the stock EnvRunner."""

import operator
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.spaces.space_utils import batch as batch_items

from rlssl.connectors.frame_stack import stack_windows, stacked_space, stacking_axis
from rlssl.ray_internals.env_runner import PHANTOM_ROW_KEY


class _StackingConnector(ConnectorV2):
    """A connector piece whose output space is the stacked input space."""

    def __init__(
        self,
        input_observation_space: gym.Space | None = None,
        input_action_space: gym.Space | None = None,
        *,
        frame_stack: int = 1,
        **kwargs: Any,
    ) -> None:
        # Before the base's __init__, which computes the output space.
        self.frame_stack = frame_stack
        super().__init__(input_observation_space, input_action_space, **kwargs)

    def recompute_output_observation_space(
        self, input_observation_space: gym.Space, input_action_space: gym.Space
    ) -> gym.Space:
        """Returns the space of ``frame_stack`` joined frames."""
        return stacked_space(input_observation_space, self.frame_stack)


class AddStackedObservations(_StackingConnector):
    """Learner piece: adds OBS, and NEXT_OBS if asked, stacked from the episodes' single frames.

    Insert it before AddObservationsFromEpisodesToBatch, which then adds nothing. Columns that are
    in the batch already stay as they are.
    """

    def __init__(
        self,
        input_observation_space: gym.Space | None = None,
        input_action_space: gym.Space | None = None,
        *,
        frame_stack: int = 1,
        next_obs: bool = False,
        **kwargs: Any,
    ) -> None:
        """Creates the piece.

        Args:
            input_observation_space: Of one environment and one frame; set by the pipeline.
            input_action_space: Set by the pipeline.
            frame_stack: Frames a stacked observation holds; >= 1. With 1, any observation works.
            next_obs: Whether to add NEXT_OBS. In a phantom row, it repeats OBS.
            **kwargs: As for every ConnectorV2.
        """
        super().__init__(
            input_observation_space, input_action_space, frame_stack=frame_stack, **kwargs
        )
        self.next_obs = next_obs

    def __call__(
        self,
        *,
        batch: dict[str, Any],
        episodes: list[Any],
        shared_data: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Adds the columns, one row an agent step of each episode (chunk).

        Raises:
            ValueError: If a chunk does not carry the frames before it that its stacks need.
        """
        wanted = [Columns.OBS, Columns.NEXT_OBS] if self.next_obs else [Columns.OBS]
        columns = [column for column in wanted if column not in batch]
        phantom = bool((shared_data or {}).get(PHANTOM_ROW_KEY))
        for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
            length = len(episode)
            observations = self._stacked(episode, phantom)
            for column in columns:
                first = 0 if column == Columns.OBS else 1
                wanted_rows = operator.itemgetter(slice(first, first + length))
                rows = tree.map_structure(wanted_rows, observations)
                self.add_n_batch_items(batch, column, rows, length, episode)
        return batch

    def _stacked(self, episode: SingleAgentEpisode, phantom: bool) -> Any:
        """Returns the observations before and after every step: a struct of [len + 1, ...]."""
        frames = _frames(episode, self.frame_stack - 1)
        if self.frame_stack == 1:
            return frames
        # Learners build their pipeline without spaces; episodes carry their own.
        axis = stacking_axis(episode.observation_space or self.input_observation_space)
        windows = stack_windows(frames, self.frame_stack, axis)
        # Behind the phantom row, RLlib repeated the last frame: the whole stack shall repeat.
        return np.concatenate([windows[:-1], windows[-2:-1]]) if phantom else windows


class StackObservationsEnvToModule(_StackingConnector):
    """Env-to-module piece for the stock runner: adds OBS, stacked from the ongoing episodes."""

    def __call__(
        self, *, batch: dict[str, Any], episodes: list[Any], **kwargs: Any
    ) -> dict[str, Any]:
        """Adds the newest stacked observation of every episode; its first frame is repeated."""
        if Columns.OBS in batch:
            return batch
        axis = stacking_axis(self.input_observation_space)
        for episode in self.single_agent_episode_iterator(episodes):
            frames = episode.get_observations(slice(-self.frame_stack, None))
            missing = self.frame_stack - len(frames)
            stacked = np.concatenate([frames[0]] * missing + list(frames), axis)
            self.add_batch_item(batch, Columns.OBS, stacked, episode)
        return batch


def _frames(episode: SingleAgentEpisode, num_before: int) -> Any:
    """Returns ``num_before`` frames of lookback and all others: a struct of [.. + len + 1, ...].

    The first frame of the episode is repeated where the episode is younger than that.
    """
    available = min(num_before, episode.observations.lookback)
    if available < num_before and episode.t_started > available:
        raise ValueError(
            f"a chunk that starts at step {episode.t_started} carries {available} frames of "
            f"lookback; stacking needs {num_before}. Set episode_lookback_horizon >= {num_before}."
        )
    frames = episode.get_observations(
        slice(-available, len(episode) + 1), neg_index_as_lookback=True
    )
    if isinstance(frames, list):
        frames = batch_items(frames)
    if available < num_before:
        frames = np.concatenate([frames[:1].repeat(num_before - available, 0), frames])
    return frames
