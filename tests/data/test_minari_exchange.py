"""Data sets of Minari and of rlssl have the same episodes, bit for bit."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py  # type: ignore[import-untyped]
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.storage.datasets_root_dir import get_dataset_path

from rlssl.data import DatasetWriter, Description, Episode, EpisodeDataset
from rlssl.data.minari_exchange import export_minari, import_minari
from rlssl.errors import MissingExtraError, ResourceError, SpecError
from tests.data.recorded import assert_same_episodes, assert_same_struct, random_episode

# Minari asks for an author, an email, and more.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")

ACTIONS: spaces.Discrete = spaces.Discrete(4, start=1)
VECTOR = spaces.Box(-1, 1, (3,))

#: Spaces -> observations. Minari's JPEG would change the first four, or fail.
SPACES: dict[str, tuple[gym.Space, gym.Space]] = {
    "hw": (spaces.Box(0, 255, (33, 32), np.uint8), ACTIONS),
    "hwc": (spaces.Box(0, 255, (32, 33, 3), np.uint8), ACTIONS),
    "one channel last": (spaces.Box(0, 255, (32, 32, 1), np.uint8), ACTIONS),
    "chw": (spaces.Box(0, 255, (1, 32, 32), np.uint8), ACTIONS),
    "nested": (
        spaces.Dict(z=spaces.Tuple([VECTOR, spaces.Discrete(3)]), a=spaces.MultiBinary(2)),
        spaces.Dict(gear=spaces.MultiDiscrete([2, 3]), wheel=spaces.Box(-2, 2, (1,))),
    ),
}


@pytest.fixture(autouse=True)
def minari_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "minari"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    return folder


def written(path: Path, episodes: list[Episode], description: Description) -> EpisodeDataset:
    with DatasetWriter(path, description, rows_per_shard=6) as writer:
        for episode in episodes:
            writer.add(episode)
    return EpisodeDataset(path)


@pytest.mark.parametrize("name", SPACES)
def test_an_export_and_an_import_change_nothing(tmp_path: Path, name: str) -> None:
    observations, actions = SPACES[name]
    ends = [(True, False), (False, True), (False, False)]
    episodes = [
        random_episode(observations, actions, length, seed=length, terminated=term, truncated=trunc)
        for length, (term, trunc) in zip((1, 4, 2), ends, strict=True)
    ]
    description = Description(observations, actions, env={"id": "x", "size": 3}, seed=5)
    dataset = written(tmp_path / "a", episodes, description)
    folder = export_minari(dataset, "rlssl/demos-v0")
    for view, episode in zip(minari.load_dataset("rlssl/demos-v0"), episodes, strict=True):
        assert_same_struct(view.observations, episode.observations)
        assert_same_struct(view.actions, episode.actions)
        assert view.rewards.tolist() == episode.rewards.tolist()
        assert view.terminations.tolist() == [False] * (len(episode) - 1) + [episode.terminated]
        assert view.truncations.tolist() == [False] * (len(episode) - 1) + [episode.truncated]
    for number, source in enumerate(("minari:rlssl/demos-v0", str(folder))):
        back = import_minari(source, tmp_path / f"b{number}")
        assert_same_episodes(list(back), episodes)
        assert back.description.observation_space == observations
        assert back.description.action_space == actions
        assert (back.description.env, back.description.seed) == ({"id": "x", "size": 3}, 5)
        assert back.description.notes == {"source": source, "jpeg": False}


def test_a_data_set_that_minari_made_is_imported(tmp_path: Path) -> None:
    rewards = np.array([0.1, 0.2])  # float64, as Minari keeps them
    buffer = EpisodeBuffer(
        observations=np.zeros((3, 4), np.float32),
        actions=np.array([0, 1]),
        rewards=rewards,
        terminations=np.array([False, False]),
        truncations=np.array([False, True]),
    )
    minari.create_dataset_from_buffers(
        "tests/cartpole-v3", [buffer], env="CartPole-v1", algorithm_name="by hand"
    )
    (episode,) = found = list(import_minari("minari:tests/cartpole-v3", tmp_path / "a"))
    assert len(found) == 1 and (episode.terminated, episode.truncated) == (False, True)
    assert episode.rewards.tolist() == rewards.astype(np.float32).tolist()
    description = EpisodeDataset(tmp_path / "a").description
    assert (description.env, description.policy) == ({"id": "CartPole-v1"}, "by hand")


def test_frames_in_jpeg_are_said_to_be(tmp_path: Path) -> None:
    space = spaces.Box(0, 255, (32, 32, 3), np.uint8)
    frames = space.sample()[None].repeat(2, 0)
    flags = np.array([False])
    buffer = EpisodeBuffer(
        observations=frames, actions=np.array([1]), rewards=np.zeros(1), terminations=flags,
        truncations=flags,
    )  # fmt: skip
    minari.create_dataset_from_buffers(
        "tests/frames-v0", [buffer], observation_space=space, action_space=ACTIONS
    )
    assert import_minari("minari:tests/frames-v0", tmp_path / "a").description.notes["jpeg"]


@pytest.mark.parametrize("name", ["demos", "a/demos-v0", "demos-v"])
def test_wrong_ids_are_refused(tmp_path: Path, name: str) -> None:
    dataset = written(tmp_path / "a", [], Description(VECTOR, ACTIONS))
    with pytest.raises(SpecError, match="NAMESPACE/NAME-v0"):
        export_minari(dataset, name)


def test_what_minari_cannot_hold_is_refused(tmp_path: Path) -> None:
    video = written(tmp_path / "a", [], Description(VECTOR))
    with pytest.raises(SpecError, match="has no actions, which Minari needs"):
        export_minari(video, "rlssl/video-v0")
    nested = spaces.Dict({"a": spaces.Dict({"b/c": VECTOR})})
    slash = written(tmp_path / "b", [], Description(nested, ACTIONS))
    with pytest.raises(SpecError, match="'b/c' of a space has a '/'"):
        export_minari(slash, "rlssl/slash-v0")


def test_an_id_that_is_taken_is_refused(tmp_path: Path) -> None:
    dataset = written(
        tmp_path / "a", [random_episode(VECTOR, ACTIONS, 2)], Description(VECTOR, ACTIONS)
    )
    export_minari(dataset, "rlssl/demos-v0")
    with pytest.raises(SpecError, match="already has a data set 'rlssl/demos-v0'"):
        export_minari(dataset, "rlssl/demos-v0")


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    episodes = [random_episode(VECTOR, ACTIONS, 4) for _ in range(2)]
    dataset = written(tmp_path / "a", episodes, Description(VECTOR, ACTIONS))
    (tmp_path / "a" / "episodes-00001.parquet").unlink()
    with pytest.raises(RuntimeError, match="is missing"):
        export_minari(dataset, "rlssl/demos-v0")
    assert "rlssl/demos-v0" not in minari.list_local_datasets()
    root = get_dataset_path()
    assert list(root.rglob("*")) == []
    (root / "rlssl" / "demos-v0").mkdir(parents=True)  # as a killed program may leave it
    with pytest.raises(SpecError, match="already has a data set 'rlssl/demos-v0'"):
        export_minari(dataset, "rlssl/demos-v0")


@pytest.mark.parametrize("source", ["minari:rlssl/nowhere-v0", "minari:nonsense", "nowhere"])
def test_sources_that_do_not_exist_are_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(SpecError, match=source):
        import_minari(source, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_an_episode_that_goes_on_after_its_end_is_refused(tmp_path: Path) -> None:
    ends = np.array([True, False])
    buffer = EpisodeBuffer(
        observations=np.zeros((3, 3), np.float32), actions=np.array([1, 1]), rewards=np.zeros(2),
        terminations=ends, truncations=~ends,
    )  # fmt: skip
    minari.create_dataset_from_buffers(
        "tests/odd-v0", [buffer], observation_space=VECTOR, action_space=ACTIONS
    )
    with pytest.raises(SpecError, match=r"episode 0 goes on after its termination at step 0.*left"):
        import_minari("minari:tests/odd-v0", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def without(name: str) -> Any:
    return lambda episode: episode.__delitem__(name)


def replaced(**arrays: Any) -> Any:
    def change(episode: Any) -> None:
        for name, values in arrays.items():
            del episode[name]
            episode[name] = values

    return change


ENDS: dict[str, Any] = {"terminations": np.zeros(0, bool), "truncations": np.zeros(0, bool)}
NO_STEPS = {"rewards": np.zeros(0), "actions": np.zeros(0, np.int64), **ENDS}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        # As in some published data sets: the observation after the last step is missing.
        (
            replaced(observations=np.zeros((2, 3), np.float32)),
            SpecError,
            "episode 1: an episode of 2 rewards needs 3 observations; got 2",
        ),
        (replaced(**ENDS), SpecError, "episode 1 has 2 rewards and 0 terminations"),
        (
            replaced(observations=np.zeros((1, 3), np.float32), **NO_STEPS),
            SpecError,
            "episode 1: rewards must be",
        ),
        (without("rewards"), ResourceError, "is damaged: .*rewards.* Fetch it again"),
    ],
)
def test_a_wrong_episode_is_named_and_nothing_is_left(
    tmp_path: Path, minari_folder: Path, change: Any, error: Any, message: str
) -> None:
    episodes = [random_episode(VECTOR, ACTIONS, 2, seed=seed) for seed in range(3)]
    dataset = written(tmp_path / "a", episodes, Description(VECTOR, ACTIONS))
    export_minari(dataset, "rlssl/wrong-v0")
    with h5py.File(minari_folder / "rlssl" / "wrong-v0" / "data" / "main_data.hdf5", "a") as file:
        change(file["episode_1"])
    with pytest.raises(error, match=message):
        import_minari("minari:rlssl/wrong-v0", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_truncated_file_is_damaged(tmp_path: Path, minari_folder: Path) -> None:
    dataset = written(
        tmp_path / "a", [random_episode(VECTOR, ACTIONS, 2)], Description(VECTOR, ACTIONS)
    )
    export_minari(dataset, "rlssl/cut-v0")
    file = minari_folder / "rlssl" / "cut-v0" / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ResourceError, match="minari:rlssl/cut-v0 is damaged"):
        import_minari("minari:rlssl/cut-v0", tmp_path / "b")


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As `importlib.util.find_spec` answers where a package is not installed.
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rlssl\[minari\]'"):
        import_minari("minari:rlssl/demos-v0", tmp_path / "a")
