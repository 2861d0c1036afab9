"""A slow, obvious replay: lists of episodes, searched from the beginning each time."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode


@dataclass
class Row:
    """A frame and, where there is one, the step taken from it."""

    serial: int
    t: int
    frame: np.ndarray
    action: Any = None
    reward: float = 0.0
    bonus: float = 0.0
    terminated: bool = False
    truncated: bool = False
    # A step that may be drawn, where its stack is there.
    is_step: bool = False


@dataclass
class Story:
    """Consecutive rows of one episode, as far as they arrived."""

    rows: list[Row] = field(default_factory=list)
    ended: bool = False


class ReferenceReplay:
    def __init__(self, capacity: int, frame_stack: int, axis: int) -> None:
        self.capacity, self.frame_stack, self.axis = capacity, frame_stack, axis
        self.num_rows = 0
        self.stories: list[Story] = []
        self.open: dict[str, Story] = {}

    def add(self, episode: SingleAgentEpisode, bonuses: np.ndarray) -> None:
        length, t = len(episode), episode.t_started
        frames = list(episode.observations.data)
        frames, before = frames[episode.observations.lookback :], frames[: -length - 1]
        story = self.open.pop(str(episode.id_), None)
        # Of a chunk that is longer than the ring, as much is added at once as leaves room for the
        # frames of a stack.
        at_once = min(length, self.capacity - self.frame_stack)
        follows = story is not None and story.rows[-1].t == t
        if story is None or not follows or not self._survives(story.rows[-1], at_once):
            story = Story()
            self.stories.append(story)
            known = min(t, self.frame_stack - 1, len(before))
            for i in range(known, 0, -1):
                self._append(story, t - i, before[len(before) - i])
            self._append(story, t, frames[0])
        for i in range(length):
            row = story.rows[-1]
            row.is_step = True
            row.action = episode.actions.data[episode.actions.lookback + i]
            row.reward = float(np.float32(episode.rewards.data[episode.rewards.lookback + i]))
            row.bonus = float(np.float32(bonuses[i]))
            last = i == length - 1
            row.terminated = episode.is_terminated and last
            row.truncated = episode.is_truncated and last
            self._append(story, t + i + 1, frames[i + 1])
        if not (episode.is_terminated or episode.is_truncated):
            self.open[str(episode.id_)] = story

    def steps(self) -> dict[int, tuple[Story, int]]:
        """Serial -> where the step is, of every step that can be drawn."""
        return {
            row.serial: (story, i)
            for story in self.stories
            for i, row in enumerate(story.rows)
            if row.is_step and self._stack_is_here(story, i)
        }

    def observation(self, story: Story, i: int) -> np.ndarray:
        """The stacked observation; before the start, the first frame."""
        rows = [story.rows[max(i - j, 0)] for j in range(self.frame_stack - 1, -1, -1)]
        if self.frame_stack == 1:
            return rows[0].frame
        return np.concatenate([row.frame for row in rows], self.axis)

    def transition(self, story: Story, i: int, n_step: int, gamma: float) -> dict[str, Any]:
        reward = bonus = 0.0
        k = 0
        row = story.rows[i]
        while k < n_step and row.is_step:
            reward += gamma**k * row.reward
            bonus += gamma**k * row.bonus
            k += 1
            done = row
            row = story.rows[i + k]
        return {
            "obs": self.observation(story, i),
            "new_obs": self.observation(story, i + k),
            "actions": story.rows[i].action,
            "rewards": reward,
            "intrinsic_rewards": bonus,
            "n_step": k,
            "terminateds": done.terminated,
            "truncateds": done.truncated,
            "discounts": 0.0 if done.terminated else gamma**k,
        }

    def _append(self, story: Story, t: int, frame: np.ndarray) -> None:
        story.rows.append(Row(self.num_rows, t, frame))
        self.num_rows += 1

    def _alive(self, row: Row) -> bool:
        return row.serial >= self.num_rows - self.capacity

    def _survives(self, row: Row, new_rows: int) -> bool:
        return row.serial >= self.num_rows + new_rows - self.capacity

    def _stack_is_here(self, story: Story, i: int) -> bool:
        needed = min(story.rows[i].t, self.frame_stack - 1)
        return i >= needed and all(self._alive(row) for row in story.rows[i - needed : i + 1])
