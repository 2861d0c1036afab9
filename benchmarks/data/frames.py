"""Writing and reading frames: an rlssl data set against a compressed npz file.

1,000 frames or more of Atari Breakout, 84 x 84, of random actions, in whole episodes. rlssl also
writes checksums and `dataset.json`, and compares the checksums when it reads. The npz file has the
same arrays.
"""

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.contests import Comparison, Contestant, Play, Row, repeat

NUM_FRAMES = 1_000


def _episodes() -> tuple[Any, list[Any]]:
    """The environment, and episodes of random actions."""
    from rlssl.data import Episode
    from rlssl.environments.by_id import make_env

    env = make_env("atari/Breakout")
    env.action_space.seed(0)
    env.reset(seed=0)
    found: list[Any] = []
    while sum(len(episode) + 1 for episode in found) < NUM_FRAMES:
        frames, steps, over = [env.reset()[0]], [], False
        while not over:
            action = env.action_space.sample()
            frame, reward, terminated, truncated, _ = env.step(action)
            frames.append(frame)
            steps.append((action, reward))
            over = terminated or truncated
        actions, rewards = map(np.array, zip(*steps, strict=True))
        found.append(Episode(np.stack(frames), actions, rewards, terminated, truncated))
    return env, found


def rlssl(seconds: float, *, reads: bool) -> Play:
    """`DatasetWriter`, or `EpisodeDataset`."""
    from rlssl.data import DatasetWriter, Description, EpisodeDataset

    env, episodes = _episodes()
    description = Description(env.observation_space, env.action_space)
    rows = sum(len(episode) + 1 for episode in episodes)
    # In memory, so that the disk is not measured.
    folder = tempfile.TemporaryDirectory(dir="/dev/shm")

    def write(path: Path) -> None:
        with DatasetWriter(path, description) as writer:
            for episode in episodes:
                writer.add(episode)

    def play_write() -> int:
        with tempfile.TemporaryDirectory(dir=folder.name) as path:
            write(Path(path))
        return rows

    def play_read() -> int:
        return sum(len(episode) + 1 for episode in EpisodeDataset(Path(folder.name) / "data"))

    write(Path(folder.name) / "data")
    return repeat(play_read if reads else play_write, seconds)


def npz(seconds: float, *, reads: bool) -> Play:
    """`numpy.savez_compressed`, or `numpy.load`."""
    _, episodes = _episodes()
    arrays = {
        "frames": np.concatenate([episode.observations for episode in episodes]),
        "actions": np.concatenate([episode.actions for episode in episodes]),
        "rewards": np.concatenate([episode.rewards for episode in episodes]),
    }
    folder = tempfile.TemporaryDirectory(dir="/dev/shm")

    def write() -> int:
        np.savez_compressed(f"{folder.name}/data.npz", **arrays)
        return len(arrays["frames"])

    def read() -> int:
        with np.load(f"{folder.name}/data.npz") as saved:
            return max(len(saved[name]) for name in arrays)

    write()
    return repeat(read if reads else write, seconds)


def _row(name: str, title: str, *, reads: bool) -> Row:
    contestants = tuple(
        Contestant(each.__name__, functools.partial(each, reads=reads)) for each in (rlssl, npz)
    )
    return Row(name, title, "rows/s", contestants, (Comparison(("rlssl",), ("npz",)),))


ROWS = (
    _row("data_write", "Episodes of Atari frames to a data set", reads=False),
    _row("data_read", "Episodes of Atari frames from a data set", reads=True),
)
