"""Plays the episodes of policies side by side, and writes them into a video."""

import contextlib
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.evaluation import (
    MAX_EPISODE_STEPS,
    NUM_SLOTS,
    EpisodeRecord,
    evaluation_env,
    play_episode,
)
from rlssl.policy import Policy
from rlssl.system.random_state import OwnGenerators, undisturbed_generators
from rlssl.video.encoder import video_file
from rlssl.video.frames import Frame, Layout, Panel
from rlssl.video.rendering import frame_of, with_rendering

#: Seconds for which the last frame of an episode is shown.
HOLD_S = 0.5


@dataclass(frozen=True)
class Video:
    """A recorded video.

    Attributes:
        fps: Frames a second.
        num_frames: Number of its frames.
        size: Height and width, in pixels.
        episodes: The episodes of each player, in the order of the seeds.
    """

    fps: float
    num_frames: int
    size: tuple[int, int]
    episodes: list[list[EpisodeRecord]]


class Player:
    """Plays the episodes of one policy step by step, as `rlssl.evaluation.evaluate_policy` does.

    Its random generators are its own, so players may take turns.

    Args:
        policy: The policy.
        env: ``{"id": ..., **options}`` of its environment.
        title: What is written above its frames.
        seeds: Seeds of the episodes.
        explore: Whether the policy samples its actions.
        max_steps: Agent steps after which an episode is cut off.

    Attributes:
        fps: Frames a second, as the environment's metadata say.
        records: The episodes that have ended.

    Raises:
        SpecError: If the environment does not render.
    """

    def __init__(
        self,
        policy: Policy,
        env: Mapping[str, Any],
        title: str,
        *,
        seeds: Sequence[int],
        explore: bool,
        max_steps: int = MAX_EPISODE_STEPS,
    ) -> None:
        self._policy, self._title, self._seeds = policy, title, list(seeds)
        self._explore, self._max_steps = explore, max_steps
        self._options, self.fps = with_rendering(env)
        self.records: list[EpisodeRecord] = []
        self._envs: dict[int, gym.Env] = {}
        self._generators = OwnGenerators(np.random.SeedSequence(0))
        self._episode: Generator[float, None, EpisodeRecord] | None = None
        self._seed, self._score, self._step = 0, 0.0, 0
        self._frame: Frame = np.zeros((1, 1, 3), np.uint8)

    @property
    def has_ended(self) -> bool:
        """Whether the present episode has ended."""
        return self._episode is None

    def begin(self, number: int) -> None:
        """Begins the episode with this number."""
        self._seed, self._step = self._seeds[number], -1
        with self._generators.in_place():
            env = self._env_of(number)
        episode = play_episode(
            self._policy, env, self._seed, explore=self._explore, max_steps=self._max_steps
        )
        self._episode, self._number = episode, number
        self.advance()

    def advance(self) -> None:
        """Takes a step of the episode, and renders it."""
        assert self._episode is not None
        env = self._envs[self._number % NUM_SLOTS]
        with self._generators.in_place():
            try:
                self._score = next(self._episode)
                self._step += 1
            except StopIteration as end:
                record: EpisodeRecord = end.value
                self._score, self._step = record.score, record.length
                self.records.append(record)
                self._episode = None
            self._frame = frame_of(env)
        if self._episode is None and self._number + NUM_SLOTS >= len(self._seeds):
            self._envs.pop(self._number % NUM_SLOTS).close()

    def panel(self) -> Panel:
        """The present frame, with the return so far."""
        words = f"return {_shown(self._score)}   step {self._step:,}   episode seed {self._seed}"
        return Panel(self._frame, self._title, words, has_ended=self.has_ended)

    def close(self) -> None:
        """Closes the environments."""
        while self._envs:
            self._envs.popitem()[1].close()

    def _env_of(self, number: int) -> gym.Env:
        """The environment of an episode: they are dealt as in evaluations."""
        slot = number % NUM_SLOTS
        if slot not in self._envs:
            self._envs[slot] = evaluation_env(self._options, self._seeds[slot])
        return self._envs[slot]


def _shown(score: float) -> str:
    """A return in few letters: 12, 12.5, 0.25.

    Example:
        >>> _shown(12.0), _shown(1234.5), _shown(0.123456)
        ('12', '1,234.5', '0.1235')
    """
    if not math.isfinite(score):
        return str(score)
    return f"{score:,.1f}".removesuffix(".0") if abs(score) >= 10 else f"{score:.4g}"


@undisturbed_generators()
def record(players: Sequence[Player], num_episodes: int, paths: Sequence[Path]) -> Video:
    """Plays episodes of several players at the same time, and writes them into videos.

    Each episode ends in its own time, and stays on its last frame until all have ended. Frames go
    to the encoder at once, so that the length of an episode needs no memory.

    Args:
        players: The players; their first one says how many frames a second there are.
        num_episodes: Number of episodes; at most the players' seeds.
        paths: The files, .mp4 or .gif, with the same frames.

    Raises:
        SpecError: If an environment stops rendering, or a file is no video.
        ResourceError: If ffmpeg cannot write. No file is left.
    """
    fps, count, layout = players[0].fps, 0, None
    with contextlib.ExitStack() as stack:
        for player in players:
            stack.callback(player.close)
        videos = [stack.enter_context(video_file(path, fps)) for path in paths]
        for number in range(num_episodes):
            for frame_panels in _episode(players, number, round(HOLD_S * fps)):
                layout = layout or Layout(frame_panels)
                drawn = layout.draw(frame_panels)
                for video in videos:
                    video.append(drawn)
                count += 1
        height, width = drawn.shape[:2]
        return Video(fps, count, (height, width), [player.records for player in players])


def _episode(
    players: Sequence[Player], number: int, num_held: int
) -> Generator[list[Panel], None, None]:
    """The frames of an episode of all players, and the last one again."""
    for player in players:
        player.begin(number)
    yield [player.panel() for player in players]
    while any(not player.has_ended for player in players):
        for player in players:
            if not player.has_ended:
                player.advance()
        yield [player.panel() for player in players]
    for _ in range(num_held):
        yield [player.panel() for player in players]
