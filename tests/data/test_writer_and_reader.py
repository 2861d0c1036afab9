"""What was recorded is loaded bit for bit."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow.parquet as pq
import pytest
from gymnasium import spaces

from rlssl.data import (
    DamagedShardError,
    DatasetWriter,
    Description,
    Episode,
    EpisodeDataset,
)
from rlssl.errors import SpecError
from tests.data.recorded import assert_same_episodes, random_episode

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)

OBSERVATIONS = {
    "vector": VECTOR,
    "float64": spaces.Box(-1, 1, (2, 2), np.float64),
    "float16": spaces.Box(-1, 1, (2,), np.float16),
    "number": spaces.Box(-1, 1, (), np.float32),
    "int8": spaces.Box(-9, 9, (5,), np.int8),
    "uint16": spaces.Box(0, 65535, (2,), np.uint16),
    "chw": spaces.Box(0, 255, (1, 9, 8), np.uint8),
    "hwc": spaces.Box(0, 255, (9, 8, 3), np.uint8),
    "hw": spaces.Box(0, 255, (9, 8), np.uint8),
    "one byte": spaces.Box(0, 255, (1,), np.uint8),
    "discrete": spaces.Discrete(5, start=-2),
    "small discrete": spaces.Discrete(200, dtype=np.uint8),
    "multi discrete": spaces.MultiDiscrete([3, 4]),
    "multi binary": spaces.MultiBinary(9),
    "nothing in a leaf": spaces.Dict(a=spaces.Box(0, 1, (0,)), b=VECTOR),
    "dict": spaces.Dict(
        OrderedDict(
            z=VECTOR,
            camera=spaces.Box(0, 255, (4, 4, 3), np.uint8),
            a=spaces.Tuple([spaces.Discrete(3), spaces.Dict({"b/c%": VECTOR})]),
        )
    ),
    "tuple": spaces.Tuple([VECTOR, spaces.Box(0, 255, (2, 4, 4), np.uint8)]),
}
ACTIONS: dict[str, gym.Space | None] = {
    "discrete": spaces.Discrete(4),
    "multi discrete": spaces.MultiDiscrete([2, 5], start=np.array([1, -3])),
    "multi binary": spaces.MultiBinary([2, 2]),
    "box": spaces.Box(-2.0, 2.0, (2,), np.float32),
    "bytes": spaces.Box(0, 255, (2,), np.uint8),
    "dict": spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(-1, 1, (1,))),
    "unknown": None,
}


def some_episodes(observations: gym.Space, actions: gym.Space | None) -> list[Episode]:
    """Four episodes: of one step, terminated, truncated, both, and not finished."""
    ends = [(True, False), (False, True), (True, True), (False, False)]
    return [
        random_episode(
            observations, actions, length, seed=length, terminated=terminated, truncated=truncated
        )
        for length, (terminated, truncated) in zip((1, 4, 2, 3), ends, strict=True)
    ]


def write(path: Path, episodes: list[Episode], description: Description, rows: int = 1) -> None:
    with DatasetWriter(path, description, rows_per_shard=rows) as writer:
        for episode in episodes:
            writer.add(episode)


@pytest.mark.parametrize("name", OBSERVATIONS)
@pytest.mark.parametrize("rows_per_shard", [6, 100])
def test_observations_of_every_kind_are_bit_equal(
    tmp_path: Path, name: str, rows_per_shard: int
) -> None:
    space = OBSERVATIONS[name]
    actions: gym.Space = spaces.Discrete(4)
    episodes = some_episodes(space, actions)
    write(tmp_path, episodes, Description(space, actions), rows_per_shard)
    loaded = EpisodeDataset(tmp_path)
    assert_same_episodes(list(loaded.episodes()), episodes)
    assert loaded.description.observation_space == space
    assert (len(loaded), loaded.num_steps, loaded.num_rows) == (4, 10, 14)


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_of_every_kind_are_bit_equal(tmp_path: Path, name: str) -> None:
    actions = ACTIONS[name]
    episodes = some_episodes(VECTOR, actions)
    write(tmp_path, episodes, Description(VECTOR, actions), 7)
    loaded = EpisodeDataset(tmp_path)
    assert_same_episodes(list(loaded), episodes)
    assert loaded.description.action_space == actions


def test_the_keys_of_a_dict_keep_their_order(tmp_path: Path) -> None:
    write(tmp_path, some_episodes(OBSERVATIONS["dict"], None), Description(OBSERVATIONS["dict"]))
    loaded = EpisodeDataset(tmp_path)
    (first, *_) = loaded
    assert list(first.observations) == ["z", "camera", "a"]
    assert isinstance(loaded.description.observation_space, spaces.Dict)
    assert list(loaded.description.observation_space.spaces) == ["z", "camera", "a"]


def test_a_row_is_a_frame_and_the_last_row_has_no_step(tmp_path: Path) -> None:
    episodes = some_episodes(OBSERVATIONS["tuple"], ACTIONS["box"])
    write(tmp_path, episodes, Description(OBSERVATIONS["tuple"], ACTIONS["box"]), 100)
    table = pq.read_table(tmp_path / "episodes-00000.parquet")
    assert table.column_names == [
        *("episode", "t", "obs/0", "obs/1", "action", "reward", "terminated", "truncated")
    ]
    # T + 1 rows an episode: lengths 1, 4, 2, 3.
    assert table["episode"].to_pylist() == [0] * 2 + [1] * 5 + [2] * 3 + [3] * 4
    assert table["t"].to_pylist() == [0, 1, 0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3]
    last = [1, 6, 9, 13]
    for name in ("action", "reward", "terminated", "truncated"):
        assert np.flatnonzero(~np.array(table[name].is_valid())).tolist() == last
    assert table["terminated"].to_pylist()[2:7] == [False] * 4 + [None]
    assert table["truncated"].to_pylist()[2:7] == [False] * 3 + [True, None]


def test_a_shard_has_whole_episodes(tmp_path: Path) -> None:
    episodes = some_episodes(VECTOR, None)
    write(tmp_path, episodes, Description(VECTOR), 6)
    found = [(shard.first_episode, shard.num_rows) for shard in EpisodeDataset(tmp_path).shards]
    # Episodes have 2, 5, 3 and 4 rows; 2 + 5 > 6, 5 + 3 > 6, 3 + 4 > 6.
    assert found == [(0, 2), (1, 5), (2, 3), (3, 4)]


def test_a_shard_is_bounded_in_bytes(tmp_path: Path) -> None:
    episode = random_episode(VECTOR, None, 9)  # 10 rows of 12 bytes
    with DatasetWriter(tmp_path, Description(VECTOR), bytes_per_shard=250) as writer:
        for _ in range(5):
            writer.add(episode)
    assert [shard.num_episodes for shard in EpisodeDataset(tmp_path).shards] == [2, 2, 1]


def test_loaded_arrays_are_the_episode_s_own(tmp_path: Path) -> None:
    space = OBSERVATIONS["chw"]
    write(tmp_path, some_episodes(space, None), Description(space), 100)
    first, *_ = EpisodeDataset(tmp_path)
    first.observations[:] = 7
    assert first.observations.flags.owndata


@pytest.mark.parametrize("damage", ["missing", "changed", "cut"])
def test_a_damaged_shard_is_named_and_the_rest_is_readable(tmp_path: Path, damage: str) -> None:
    episodes = some_episodes(VECTOR, ACTIONS["box"])
    write(tmp_path, episodes, Description(VECTOR, ACTIONS["box"]))
    shard = tmp_path / "episodes-00001.parquet"
    content = shard.read_bytes()
    if damage == "missing":
        shard.unlink()
    else:
        changed = content[:60] + bytes([content[60] ^ 1]) + content[61:]
        shard.write_bytes(changed if damage == "changed" else content[:-9])
    loaded = EpisodeDataset(tmp_path)
    with pytest.raises(
        DamagedShardError, match=r"episodes-00001.parquet \(rows 2 to 6, episodes 1 to 1\)"
    ):
        list(loaded)
    assert_same_episodes(list(loaded.episodes(skip_damaged=True)), [episodes[0], *episodes[2:]])


def test_a_data_set_is_not_overwritten_but_resumed(tmp_path: Path) -> None:
    episodes = some_episodes(VECTOR, None)
    write(tmp_path, episodes[:2], Description(VECTOR))
    with pytest.raises(SpecError, match="already has a data set"):
        DatasetWriter(tmp_path, Description(VECTOR))
    with pytest.raises(SpecError, match="its observation_space is Box"):
        DatasetWriter(tmp_path, Description(OBSERVATIONS["hw"]), resume=True)
    with DatasetWriter(tmp_path, Description(VECTOR), resume=True) as writer:
        assert (writer.num_episodes, writer.num_steps) == (2, 5)
        for episode in episodes[2:]:
            writer.add(episode)
            writer.flush()
        assert (writer.num_episodes, writer.num_steps) == (4, 10)
    loaded = EpisodeDataset(tmp_path)
    assert_same_episodes(list(loaded), episodes)
    assert [shard.first_row for shard in loaded.shards] == [0, 2, 7, 10]


def test_after_an_error_whole_episodes_are_kept_and_the_set_is_not_complete(
    tmp_path: Path,
) -> None:
    (episode, *_) = some_episodes(VECTOR, None)
    with pytest.raises(KeyError), DatasetWriter(tmp_path, Description(VECTOR)) as writer:
        writer.add(episode)
        raise KeyError("a bug of the recorder")
    loaded = EpisodeDataset(tmp_path)
    assert_same_episodes(list(loaded), [episode])
    assert not loaded.is_complete


def test_a_copy_is_a_data_set_when_all_of_it_is_there(tmp_path: Path) -> None:
    episodes = some_episodes(VECTOR, None)
    options: dict[str, Any] = {"keep_partial": False, "rows_per_shard": 1}
    folder = tmp_path / "copy"
    with pytest.raises(KeyError), DatasetWriter(folder, Description(VECTOR), **options) as writer:
        for episode in episodes:
            writer.add(episode)
        assert (folder / "episodes-00000.parquet").is_file()
        with pytest.raises(SpecError, match="is no data set"):
            EpisodeDataset(folder)
        raise KeyError("a bug of the source")
    assert not folder.exists()
    with DatasetWriter(folder, Description(VECTOR), **options) as writer:
        for episode in episodes:
            writer.add(episode)
    assert EpisodeDataset(folder).is_complete
    assert_same_episodes(list(EpisodeDataset(folder)), episodes)


def test_a_copy_whose_end_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "copy", Description(VECTOR), keep_partial=False)
    with pytest.raises(IsADirectoryError), writer:
        writer.add(some_episodes(VECTOR, None)[0])
        writer.flush()
        (tmp_path / "copy" / ".dataset.json.tmp").mkdir()  # so that the file cannot be written
    assert [path.name for path in (tmp_path / "copy").iterdir()] == [".dataset.json.tmp"]


def test_files_of_a_killed_copy_are_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path, some_episodes(VECTOR, None), Description(VECTOR))
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(SpecError, match=r"no dataset.json: a copy into it was killed, .* Delete"):
        DatasetWriter(tmp_path, Description(VECTOR))
    with pytest.raises(ValueError, match="keep_partial=False would remove"):
        DatasetWriter(tmp_path, Description(VECTOR), resume=True, keep_partial=False)


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        (random_episode(OBSERVATIONS["hw"], None, 2), r"shape \(9, 8\) per step; .* says \(3,\)"),
        (random_episode(VECTOR, ACTIONS["box"], 2), "has actions; describe"),
        (Episode(np.zeros((2, 3), np.float32), None, np.array([np.nan])), "finite.* nan at step 0"),
        (Episode(np.zeros((2, 3), np.complex64), None, np.zeros(1)), "are complex64"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, episode: Episode, message: str) -> None:
    with DatasetWriter(tmp_path, Description(VECTOR)) as writer:
        with pytest.raises(ValueError, match=message):
            writer.add(episode)
        assert writer.num_episodes == 0


def test_a_newer_or_broken_description_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [], Description(VECTOR))
    file = tmp_path / "dataset.json"
    text = file.read_text()
    file.write_text(text.replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(SpecError, match="Install a newer rlssl"):
        EpisodeDataset(tmp_path)
    file.write_text(text[:-20])
    with pytest.raises(SpecError, match=r"dataset.json cannot be read"):
        EpisodeDataset(tmp_path)
