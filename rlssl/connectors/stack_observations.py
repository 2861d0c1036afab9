"""Connectors that stack frames: in the Learner, and in RLlib's stock EnvRunner."""

import operator
from collections.abc import Mapping
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
        encoder_config: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # Set before the base's __init__, which computes the output space.
        self.frame_stack, self.encoder_config = frame_stack, encoder_config
        super().__init__(input_observation_space, input_action_space, **kwargs)

    def recompute_output_observation_space(
        self, input_observation_space: gym.Space, input_action_space: gym.Space
    ) -> gym.Space:
        """Returns the space of ``frame_stack`` joined frames."""
        return stacked_space(input_observation_space, self.frame_stack, self.encoder_config)

    def _axis(self, space: gym.Space) -> int:
        return stacking_axis(space, self.encoder_config)


class AddStackedObservations(_StackingConnector):
    """Learner piece: adds OBS, and NEXT_OBS on request, stacked from the frames of the episodes.

    Insert it before AddObservationsFromEpisodesToBatch, which then adds nothing. It does not change
    columns that are already in the batch.
    """

    def __init__(
        self,
        input_observation_space: gym.Space | None = None,
        input_action_space: gym.Space | None = None,
        *,
        frame_stack: int = 1,
        encoder_config: Mapping[str, Any] | None = None,
        next_obs: bool = False,
        **kwargs: Any,
    ) -> None:
        """Creates the piece.

        Args:
            input_observation_space: The space of one frame of one environment; set by the pipeline.
            input_action_space: Set by the pipeline.
            frame_stack: Frames per stacked observation; >= 1. With 1, any observation works.
            encoder_config: ``model.encoder_config``, whose ``layout`` is the user's word.
            next_obs: Whether to add NEXT_OBS. In a phantom row, it repeats OBS.
            **kwargs: See ConnectorV2.
        """
        super().__init__(
            input_observation_space,
            input_action_space,
            frame_stack=frame_stack,
            encoder_config=encoder_config,
            **kwargs,
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
        """Adds the columns, with one row per agent step of each chunk.

        Raises:
            ValueError: If a chunk lacks earlier frames that its stacks need.
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
        """Struct of [len + 1, ...], the observations before and after every step."""
        frames = _frames(episode, self.frame_stack - 1)
        if self.frame_stack == 1:
            return frames
        # Learners build their pipeline without spaces, but episodes carry theirs.
        axis = self._axis(episode.observation_space or self.input_observation_space)
        windows = stack_windows(frames, self.frame_stack, axis)
        # After the phantom row, RLlib repeats the last frame. Repeat the whole last stack instead.
        return np.concatenate([windows[:-1], windows[-2:-1]]) if phantom else windows


class StackObservationsEnvToModule(_StackingConnector):
    """Env-to-module piece for the stock runner: adds OBS, stacked from the ongoing episodes."""

    def __call__(
        self, *, batch: dict[str, Any], episodes: list[Any], **kwargs: Any
    ) -> dict[str, Any]:
        """Adds the newest stack of every episode; young episodes repeat their first frame."""
        if Columns.OBS in batch:
            return batch
        axis = self._axis(self.input_observation_space)
        for episode in self.single_agent_episode_iterator(episodes):
            frames = episode.get_observations(slice(-self.frame_stack, None))
            missing = self.frame_stack - len(frames)
            stacked = np.concatenate([frames[0]] * missing + list(frames), axis)
            self.add_batch_item(batch, Columns.OBS, stacked, episode)
        return batch


def _frames(episode: SingleAgentEpisode, num_before: int) -> Any:
    """Struct of [num_before + len + 1, ...], the frames of a chunk and those before it.

    If the episode has fewer than ``num_before`` earlier frames, its first frame is repeated.
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
