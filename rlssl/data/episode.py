"""One recorded episode."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space

from rlssl.ray_internals.env_runner import lookback_buffer, numpy_episode


@dataclass(frozen=True, eq=False)
class Episode:
    """T steps of one episode, and the T + 1 observations around them.

    Attributes:
        observations: Struct of [T + 1, ...], nested like the observation space: single frames,
            never stacks. The last one is the observation after the last step.
        actions: Struct of [T, ...], nested like the action space: what the environment took, in its
            units. None: the actions are unknown, as in a video.
        rewards: [T], converted to float32; zeros if there are none.
        terminated: Whether the last step ended the episode.
        truncated: Whether the episode was cut off after the last step, for example by a time limit.
            If neither is true, the recording stopped in the middle of the episode.

    Raises:
        ValueError: If there is no step, or the lengths do not fit.

    Example:
        >>> episode = Episode(
        ...     observations=np.zeros((4, 2), np.float32),
        ...     actions=np.array([0, 1, 0]),
        ...     rewards=np.array([0.0, 0.0, 1.0]),
        ...     terminated=True,
        ... )
        >>> len(episode), episode.rewards.dtype
        (3, dtype('float32'))
    """

    observations: Any
    actions: Any
    rewards: np.ndarray
    terminated: bool = False
    truncated: bool = False

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):
            rewards = np.asarray(self.rewards).astype(np.float32)
        if rewards.ndim != 1 or not len(rewards):
            raise ValueError(f"rewards must be [T] with T >= 1; got shape {rewards.shape}.")
        object.__setattr__(self, "rewards", rewards)
        object.__setattr__(self, "terminated", bool(self.terminated))
        object.__setattr__(self, "truncated", bool(self.truncated))
        _check_lengths(self.observations, "observations", len(rewards), len(rewards) + 1)
        if self.actions is not None:
            _check_lengths(self.actions, "actions", len(rewards), len(rewards))

    def __len__(self) -> int:
        """T, the number of steps."""
        return len(self.rewards)

    def to_single_agent_episode(
        self,
        episode_id: str,
        observation_space: gym.Space | None = None,
        action_space: gym.Space | None = None,
    ) -> SingleAgentEpisode:
        """The episode as RLlib's numpy-backed class, which shares the arrays.

        Args:
            episode_id: Its ``id_``. Ids ``COPY.NUMBER`` tell losses which episodes follow each
                other in one copy of an environment; see `rlssl.batches.copy_and_count`.
            observation_space: The space of one frame. RLlib needs it only to pad episodes.
            action_space: The action space; likewise.

        Raises:
            ValueError: If the actions are unknown.

        Example:
            >>> rewards = np.array([1.0, 2.0])
            >>> episode = Episode(np.zeros((3, 1), np.float32), np.array([0, 1]), rewards)
            >>> float(episode.to_single_agent_episode("a.0").get_return())
            3.0
        """
        if self.actions is None:
            raise ValueError(f"episode {episode_id} has no actions; RLlib's class needs them.")
        rewards = gym.spaces.Box(-np.inf, np.inf, (), np.float32)
        return numpy_episode(
            episode_id,
            observations=_buffer(self.observations, observation_space),
            infos=_buffer([{} for _ in range(len(self) + 1)], None),
            actions=_buffer(self.actions, action_space),
            rewards=_buffer(self.rewards, rewards),
            extra_model_outputs={},
            num_steps=len(self),
            t_started=0,
            terminated=self.terminated,
            truncated=self.truncated,
        )


def _buffer(data: Any, space: gym.Space | None) -> Any:
    struct = None if space is None else get_base_struct_from_space(space)
    return lookback_buffer(data, 0, space, struct)


def _check_lengths(struct: Any, what: str, num_steps: int, wanted: int) -> None:
    for leaf in tree.flatten(struct):
        if not isinstance(leaf, np.ndarray) or leaf.ndim < 1:
            raise ValueError(
                f"{what} must be numpy arrays, with one row a step; got {type(leaf).__name__}."
            )
        if len(leaf) != wanted:
            raise ValueError(
                f"an episode of {num_steps} rewards needs {wanted} {what}; got {len(leaf)}."
            )
