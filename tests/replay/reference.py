"""A slow and simple replay: lists of episodes, searched from the beginning each time."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode


@dataclass
class Row:
    """A frame and, unless it is the last one, the step taken from it."""

    serial: int
    t: int
    frame: np.ndarray
    action: Any = None
    reward: float = 0.0
    bonus: float = 0.0
    terminated: bool = False
    truncated: bool = False
    # Whether the row has a step. It can be drawn if its stack is complete.
    is_step: bool = False


@dataclass
class Part:
    """Consecutive rows of one episode, without gaps."""

    rows: list[Row] = field(default_factory=list)
    ended: bool = False


class ReferenceReplay:
    def __init__(self, capacity: int, frame_stack: int, axis: int) -> None:
        self.capacity, self.frame_stack, self.axis = capacity, frame_stack, axis
        self.num_rows = 0
        self.parts: list[Part] = []
        self.open: dict[str, Part] = {}

    def add(self, episode: SingleAgentEpisode, bonuses: np.ndarray) -> None:
        length, t = len(episode), episode.t_started
        frames = list(episode.observations.data)
        frames, before = frames[episode.observations.lookback :], frames[: -length - 1]
        part = self.open.pop(str(episode.id_), None)
        # A chunk longer than the ring is added in pieces that leave room for the frames of a stack.
        at_once = min(length, self.capacity - self.frame_stack)
        follows = part is not None and part.rows[-1].t == t
        if part is None or not follows or not self._survives(part.rows[-1], at_once):
            part = Part()
            self.parts.append(part)
            known = min(t, self.frame_stack - 1, len(before))
            for i in range(known, 0, -1):
                self._append(part, t - i, before[len(before) - i])
            self._append(part, t, frames[0])
        for i in range(length):
            row = part.rows[-1]
            row.is_step = True
            row.action = episode.actions.data[episode.actions.lookback + i]
            row.reward = float(np.float32(episode.rewards.data[episode.rewards.lookback + i]))
            row.bonus = float(np.float32(bonuses[i]))
            last = i == length - 1
            row.terminated = episode.is_terminated and last
            row.truncated = episode.is_truncated and last
            self._append(part, t + i + 1, frames[i + 1])
        if not (episode.is_terminated or episode.is_truncated):
            self.open[str(episode.id_)] = part

    def steps(self) -> dict[int, tuple[Part, int]]:
        """Serial of every drawable step -> its part and its position there."""
        return {
            row.serial: (part, i)
            for part in self.parts
            for i, row in enumerate(part.rows)
            if row.is_step and self._stack_is_here(part, i)
        }

    def observation(self, part: Part, i: int) -> np.ndarray:
        """The stacked observation; before the start, the first frame."""
        rows = [part.rows[max(i - j, 0)] for j in range(self.frame_stack - 1, -1, -1)]
        if self.frame_stack == 1:
            return rows[0].frame
        return np.concatenate([row.frame for row in rows], self.axis)

    def transition(self, part: Part, i: int, n_step: int, gamma: float) -> dict[str, Any]:
        reward = bonus = 0.0
        k = 0
        row = part.rows[i]
        while k < n_step and row.is_step:
            reward += gamma**k * row.reward
            bonus += gamma**k * row.bonus
            k += 1
            done = row
            row = part.rows[i + k]
        return {
            "obs": self.observation(part, i),
            "new_obs": self.observation(part, i + k),
            "actions": part.rows[i].action,
            "rewards": reward,
            "intrinsic_rewards": bonus,
            "n_step": k,
            "terminateds": done.terminated,
            "truncateds": done.truncated,
            "discounts": 0.0 if done.terminated else gamma**k,
        }

    def _append(self, part: Part, t: int, frame: np.ndarray) -> None:
        part.rows.append(Row(self.num_rows, t, frame))
        self.num_rows += 1

    def _alive(self, row: Row) -> bool:
        return row.serial >= self.num_rows - self.capacity

    def _survives(self, row: Row, new_rows: int) -> bool:
        return row.serial >= self.num_rows + new_rows - self.capacity

    def _stack_is_here(self, part: Part, i: int) -> bool:
        needed = min(part.rows[i].t, self.frame_stack - 1)
        return i >= needed and all(self._alive(row) for row in part.rows[i - needed : i + 1])
