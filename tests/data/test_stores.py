"""Data sets on a disk and on a real S3 server; recorders that are killed."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from gymnasium import spaces

from rlssl.data import DamagedShardError, DatasetWriter, Description, Episode, EpisodeDataset
from rlssl.environments.by_id import make_env
from rlssl.errors import ResourceError, SpecError
from rlssl.experiment.commands.data.writing import only_writer
from tests.data.recorded import assert_same_episodes, random_episode
from tests.experiment.remote.store_server import StoreServer, server, set_keys

__all__ = ["server"]

VECTOR = spaces.Box(-1, 1, (3,))
ACTIONS: spaces.Discrete = spaces.Discrete(4)

#: Writes episodes of 9 steps into shards of 50 rows until it is killed.
RECORDER = """
import sys
import numpy as np
from gymnasium import spaces
from rlssl.data import DatasetWriter, Description, Episode

description = Description(spaces.Box(-1, 1, (3,)), spaces.Discrete(4))
with DatasetWriter(sys.argv[1], description, rows_per_shard=50) as writer:
    for number in range(10**9):
        frames = np.full((10, 3), number % 1000, np.float32)
        writer.add(Episode(frames, np.arange(9) % 4, np.full(9, number), terminated=True))
        print(number, flush=True)
"""


def test_a_killed_recorder_leaves_readable_shards(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RECORDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 43:
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    loaded = EpisodeDataset(tmp_path)
    episodes = list(loaded)
    # Of 44 episodes or more, at most the 5 of the last shard are lost.
    assert len(episodes) >= 39 and not loaded.is_complete
    assert [episode.rewards[0] for episode in episodes] == list(range(len(episodes)))
    rows = sum(pq.read_table(tmp_path / shard.file).num_rows for shard in loaded.shards)
    assert rows == loaded.num_rows == sum(len(episode) + 1 for episode in episodes)
    _continue(tmp_path, len(episodes))


def _continue(path: Path, found: int) -> None:
    """A recorder that resumes the data set adds to it."""
    added = random_episode(VECTOR, ACTIONS, 4)
    with DatasetWriter(path, Description(VECTOR, ACTIONS), resume=True) as writer:
        assert writer.num_episodes == found
        writer.add(added)
    loaded = EpisodeDataset(path)
    assert loaded.is_complete and len(loaded) == found + 1
    assert_same_episodes(list(loaded)[-1:], [added])


def test_a_shard_without_an_entry_is_written_again(tmp_path: Path) -> None:
    # As after a kill between a shard and the entry in dataset.json.
    description, episode = Description(VECTOR, ACTIONS), random_episode(VECTOR, ACTIONS, 4)
    DatasetWriter(tmp_path, description)
    (tmp_path / "episodes-00000.parquet").write_bytes(b"half a file")
    with DatasetWriter(tmp_path, description, resume=True) as writer:
        writer.add(episode)
    assert_same_episodes(list(EpisodeDataset(tmp_path)), [episode])


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        DatasetWriter(tmp_path / "file" / "data", Description(VECTOR))


@pytest.mark.slow
@pytest.mark.ci
def test_a_data_set_on_an_object_store(
    server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch)
    uri = server.uri("demos/pendulum")
    episodes = [random_episode(VECTOR, ACTIONS, length, seed=length) for length in (1, 5, 3)]
    with pytest.raises(SpecError, match="is no data set"):
        EpisodeDataset(uri)
    with DatasetWriter(uri, Description(VECTOR, ACTIONS), rows_per_shard=2) as writer:
        for episode in episodes:
            writer.add(episode)
    assert server.names("demos/pendulum") == [
        "demos/pendulum/dataset.json",
        *(f"demos/pendulum/episodes-{number:05d}.parquet" for number in range(3)),
    ]
    assert_same_episodes(list(EpisodeDataset(uri)), episodes)
    server.write("demos/pendulum/episodes-00001.parquet", b"damaged")
    with pytest.raises(DamagedShardError, match=r"rows 2 to 7, episodes 1 to 1"):
        list(EpisodeDataset(uri))
    server.delete("demos/pendulum/episodes-00001.parquet")
    found = list(EpisodeDataset(uri).episodes(skip_damaged=True))
    assert_same_episodes(found, [episodes[0], episodes[2]])
    with pytest.raises(ResourceError, match="there is no bucket 'nowhere'"):
        EpisodeDataset(uri.replace("lab/", "nowhere/"))


@pytest.mark.slow
def test_a_data_set_on_an_object_store_has_one_writer(
    server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys(monkeypatch)
    uri = server.uri("demos/locked")
    with only_writer(uri):
        with pytest.raises(ResourceError, match="locked is being written: "), only_writer(uri):
            pass
        with (
            pytest.raises(KeyError),
            DatasetWriter(uri, Description(VECTOR), keep_partial=False, rows_per_shard=1) as writer,
        ):
            for seed in range(3):
                writer.add(random_episode(VECTOR, None, 2, seed=seed))
            assert "demos/locked/episodes-00001.parquet" in server.names("demos/locked")
            raise KeyError("a bug of the source")
    assert server.names("demos/locked") == []
    nowhere, words = uri.replace("lab/", "nowhere/"), "there is no bucket 'nowhere'"
    with pytest.raises(ResourceError, match=words), only_writer(nowhere):
        pass


@pytest.mark.slow
def test_frames_of_atari_take_at_most_100_bytes(tmp_path: Path) -> None:
    env = make_env("atari/Breakout")
    frames, episodes = [env.reset(seed=0)[0]], list[Episode]()
    actions: list[int] = []
    rewards: list[float] = []
    env.action_space.seed(0)
    while sum(map(len, episodes)) < 2000:
        actions.append(env.action_space.sample())
        frame, reward, terminated, truncated, _ = env.step(actions[-1])
        frames.append(frame)
        rewards.append(float(reward))
        if terminated or truncated:
            episodes.append(
                Episode(
                    np.stack(frames), np.array(actions), np.array(rewards), terminated, truncated
                )
            )
            frames, actions, rewards = [env.reset()[0]], [], []
    with DatasetWriter(tmp_path, Description(env.observation_space, env.action_space)) as writer:
        for episode in episodes:
            writer.add(episode)
    loaded = EpisodeDataset(tmp_path)
    assert_same_episodes(list(loaded), episodes)
    # Random actions: 26 bytes a frame when this was written.
    assert sum(shard.bytes for shard in loaded.shards) <= 100 * loaded.num_rows
