"""From RLlib's episodes to recorded ones."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tree
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.data.episode import Episode


def from_chunks(
    chunks: Sequence[SingleAgentEpisode], to_env_actions: Callable[[Any], Any] | None = None
) -> Episode:
    """Joins the chunks of one episode, from its first step on.

    Args:
        chunks: Consecutive numpy-backed chunks, as EnvRunners give them; single frames, no stacks.
        to_env_actions: From the policy's actions to the environment's; see
            `rlssl.networks.action_encoding.to_env_actions`. None: they are the same.

    Returns:
        The episode, which owns its arrays.

    Raises:
        ValueError: If a chunk is missing or the chunks are of different episodes.

    Example:
        >>> frames, actions = np.arange(4, dtype=np.float32)[:, None], np.array([0, 1, 0])
        >>> whole = Episode(frames, actions, np.ones(3), terminated=True)
        >>> from_chunks([whole.to_single_agent_episode("a.0")]).observations.tolist()
        [[0.0], [1.0], [2.0], [3.0]]
    """
    step = 0
    for chunk in chunks:
        if chunk.id_ != chunks[0].id_ or chunk.t_started != step:
            raise ValueError(
                f"the chunk of episode {chunk.id_} begins at step {chunk.t_started}; expected: "
                f"step {step} of episode {chunks[0].id_}."
            )
        step += len(chunk)
    frames = [
        # The last observation of a chunk is the first one of the next chunk.
        _steps(chunk.observations, 0 if last else 1)
        for last, chunk in zip([False] * (len(chunks) - 1) + [True], chunks, strict=True)
    ]
    actions = _joined([_steps(chunk.actions, 0) for chunk in chunks])
    return Episode(
        _joined(frames),
        actions if to_env_actions is None else to_env_actions(actions),
        _joined([_steps(chunk.rewards, 0) for chunk in chunks]),
        chunks[-1].is_terminated,
        chunks[-1].is_truncated,
    )


def _steps(buffer: Any, without: int) -> Any:
    """The rows after the lookback, but for the last ones."""
    return tree.map_structure(
        lambda leaf: np.asarray(leaf)[buffer.lookback : len(leaf) - without], buffer.data
    )


def _joined(parts: Sequence[Any]) -> Any:
    return tree.map_structure(lambda *leaves: np.concatenate(leaves), *parts)
