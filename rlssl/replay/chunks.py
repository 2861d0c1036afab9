"""Reads and checks the parts of an episode chunk that a replay stores."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rlssl.replay.frames import Frames
from rlssl.space_layout import Layout


@dataclass(frozen=True, slots=True)
class Chunk:
    """T consecutive steps of an episode, and the frames directly before them."""

    episode_id: str
    # Step of the episode at which the chunk starts.
    t_started: int
    # Number of frames before the chunk's first observation; all are from this episode.
    before: int
    # Leaves [before + T + 1, ...] in storage format.
    observations: list[np.ndarray]
    # Leaves [T, ...].
    actions: list[np.ndarray]
    # [T], float32.
    rewards: np.ndarray
    # [T], float32, or None.
    intrinsic_rewards: np.ndarray | None
    terminated: bool
    truncated: bool

    def __len__(self) -> int:
        return len(self.rewards)

    def pieces(self, max_steps: int) -> Iterator["Chunk"]:
        """Cuts the chunk into consecutive chunks of at most ``max_steps`` steps."""
        if len(self) <= max_steps:
            yield self
            return
        for start in range(0, len(self), max_steps):
            stop = min(start + max_steps, len(self))
            last = stop == len(self)
            first_frame = self.before + start if start else 0
            intrinsic = self.intrinsic_rewards
            yield Chunk(
                self.episode_id,
                self.t_started + start,
                0 if start else self.before,
                [leaf[first_frame : self.before + stop + 1] for leaf in self.observations],
                [leaf[start:stop] for leaf in self.actions],
                self.rewards[start:stop],
                None if intrinsic is None else intrinsic[start:stop],
                terminated=self.terminated and last,
                truncated=self.truncated and last,
            )


def read_chunk(
    episode: SingleAgentEpisode, frames: Frames, actions: Layout, intrinsic_rewards: Any = None
) -> Chunk:
    """Reads a numpy-backed chunk.

    Args:
        episode: A chunk with single frames, not stacks.
        frames: The frame format of the observation space.
        actions: The layout of the action space.
        intrinsic_rewards: [T], or None.

    Returns:
        The chunk; its arrays are views of the episode's arrays if their dtypes allow.

    Raises:
        ValueError: If shapes, dtypes or lengths do not fit, or a reward is not finite.
    """
    name, length = str(episode.id_), len(episode)
    stored = episode.observations
    # At an episode's start, lookback may hold copies of the first frame. Do not count them.
    before = min(stored.lookback, episode.t_started, frames.frame_stack - 1)
    first = stored.lookback - before
    observations = frames.layout.flatten(stored.data, f"observations of episode {name}")
    taken = actions.flatten(episode.actions.data, f"actions of episode {name}")
    steps = [leaf[episode.actions.lookback :] for leaf in taken]
    for leaf in observations:
        if len(leaf) != stored.lookback + length + 1:
            raise ValueError(
                f"episode {name} has {length} steps and {len(leaf) - stored.lookback} "
                f"observations; it needs {length + 1}."
            )
    for leaf in steps:
        if len(leaf) != length:
            raise ValueError(f"episode {name} has {length} steps and {len(leaf)} actions.")
    rewards = np.asarray(episode.rewards.data)[episode.rewards.lookback :]
    return Chunk(
        episode_id=name,
        t_started=episode.t_started,
        before=before,
        observations=frames.to_storage([leaf[first:] for leaf in observations]),
        actions=steps,
        rewards=_rewards(rewards, length, f"rewards of episode {name}"),
        intrinsic_rewards=None
        if intrinsic_rewards is None
        else _rewards(intrinsic_rewards, length, f"intrinsic_rewards of episode {name}"),
        terminated=bool(episode.is_terminated),
        truncated=bool(episode.is_truncated),
    )


def _rewards(values: Any, length: int, what: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        rewards = np.asarray(values).astype(np.float32)
    if rewards.shape != (length,):
        raise ValueError(f"{what} must have shape ({length},); got {rewards.shape}.")
    if not np.isfinite(rewards).all():
        index = int(np.flatnonzero(~np.isfinite(rewards))[0])
        raise ValueError(
            f"{what} must be finite as float32; got {np.asarray(values)[index]} at index {index}."
        )
    return rewards
