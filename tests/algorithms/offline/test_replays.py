"""Batches of a data set, alone and beside the run's own steps."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from ray.rllib.core.columns import Columns

from rlssl.algorithms.off_policy.batches import INDICES
from rlssl.algorithms.off_policy.data_sets.checks import (
    check_size,
    held_out_episodes,
    trained_on_episodes,
)
from rlssl.algorithms.off_policy.data_sets.measuring import measured_batches, rows_of_episodes
from rlssl.algorithms.off_policy.data_sets.settings import DataSettings
from rlssl.algorithms.off_policy.replays import Replays
from rlssl.algorithms.pretrain.pretrain import PretrainConfig
from rlssl.algorithms.rainbow.rainbow import RainbowConfig
from rlssl.auxiliary.needs import Needs
from rlssl.auxiliary.windows import WINDOWS, Window
from rlssl.data import EpisodeDataset
from rlssl.environments.env_check import EnvSpaces
from rlssl.errors import SpecError
from tests.algorithms.offline.episodes import ACTIONS, FRAME, numbered, write_episodes

NEEDS = Needs(frozenset({Columns.NEXT_OBS}), Window(1, 2), frozenset({"obs"}))
#: Episodes of the run's own steps have these numbers; those of the data set begin at 0.
OWN = 50


def config_of(folder: str, *, batch: int = 32, **data: Any) -> Any:
    config: Any = RainbowConfig().data(path=folder, **data).debugging(seed=3)
    config.training(train_batch_size_per_learner=batch, n_step=3, replay_capacity=500)
    config.adapt_to(EnvSpaces(FRAME, ACTIONS))
    return config


def replays_of(config: Any, *, num_own: int = 20) -> Replays:
    replays = Replays(config, FRAME, ACTIONS)
    if replays.own is not None:
        episodes = [
            numbered(OWN + k, 6).to_single_agent_episode(f"own.{k}") for k in range(num_own)
        ]
        replays.own.add(episodes)
    return replays


def is_own(batch: dict[str, Any]) -> np.ndarray:
    return batch["obs"][:, 0] >= 100 * OWN


@pytest.mark.parametrize("mix, num_data", [(0.0, 0), (0.25, 8), (0.5, 16), (1.0, 32)])
def test_the_share_of_a_batch_is_from_the_data_set(
    tmp_path: Path, mix: float, num_data: int
) -> None:
    batch, rows = replays_of(config_of(write_episodes(tmp_path), mix=mix)).draw(
        beta=0.5, needs=NEEDS
    )
    assert (~is_own(batch)).sum() == num_data
    for half in (slice(0, 16), slice(16, 32)):  # the parts of two Learners
        assert (~is_own(batch)[half]).sum() == num_data / 2
    assert sorted(np.concatenate([of.places for of in rows]).tolist()) == list(range(32))


def test_every_row_of_a_mixed_batch_is_that_of_its_own_buffer(tmp_path: Path) -> None:
    replays = replays_of(config_of(write_episodes(tmp_path)))
    batch, rows = replays.draw(beta=0.5, needs=NEEDS)
    for replay, places, indices in rows:
        expected = replay.gather(indices, n_step=3, gamma=0.99)
        for key in ("obs", Columns.NEXT_OBS, "rewards", "terminateds", "n_step", "discounts"):
            np.testing.assert_array_equal(batch[key][places], expected[key])
        np.testing.assert_array_equal(batch[INDICES][places], indices)
        single = replay.gather(indices)
        np.testing.assert_array_equal(
            batch["auxiliary"][Columns.NEXT_OBS][places], single[Columns.NEXT_OBS]
        )
        windows = replay.windows(indices, before=1, after=2)
        for key in ("obs", "valid"):
            np.testing.assert_array_equal(batch[WINDOWS][key][places], windows[key])


def test_priorities_go_to_the_buffer_of_each_row(tmp_path: Path) -> None:
    replays = replays_of(config_of(write_episodes(tmp_path)))
    _, rows = replays.draw(beta=0.5, needs=NEEDS)
    errors = np.ones(32, np.float32)
    errors[rows[0].places] = 1e-4
    errors[rows[1].places[0]] = np.nan  # a skipped update
    replays.set_priorities(rows, errors)
    (data, _, of_data), (own, _, of_own) = rows
    assert data.priorities(of_data).max() < 0.1 * own.priorities(of_own).min()  # type: ignore[attr-defined]


def test_held_out_episodes_are_spread_and_never_trained_on(tmp_path: Path) -> None:
    assert sorted(held_out_episodes(10, 0.3)) == [1, 5, 8]  # (k + 1/2) 10 / 3
    config = config_of(write_episodes(tmp_path), offline=True, holdout=0.3)
    data = Replays(config, FRAME, ACTIONS).data
    assert data is not None and data.held_out is not None
    numbers = [
        {int(frame // 100) for frame in replay.gather(replay.drawable_indices())["obs"][:, 0]}
        for replay in (data.replay, data.held_out)
    ]
    assert numbers == [{0, 2, 3, 4, 6, 7, 9}, {1, 5, 8}]
    assert len(data.held_out) == 1 + 6 + 5


def test_a_number_of_episodes_is_drawn_by_the_seed(tmp_path: Path) -> None:
    path = write_episodes(tmp_path)

    def episodes(seed: int) -> set[int]:
        config = config_of(path, offline=True, holdout=0.3, episodes=3).debugging(seed=seed)
        data = Replays(config, FRAME, ACTIONS).data
        assert data is not None and data.held_out is not None
        assert len(data.held_out) == 1 + 6 + 5  # as without `episodes`
        drawn = data.replay.gather(data.replay.drawable_indices())["obs"][:, 0]
        return {int(frame // 100) for frame in drawn}

    found = [episodes(seed) for seed in (0, 0, 1, 2)]
    assert found[0] == found[1]
    assert len({frozenset(each) for each in found}) > 1
    assert all(len(each) == 3 and not each & {1, 5, 8} for each in found)


@pytest.mark.parametrize("count", [0, 2.0, True])
def test_a_wrong_number_of_episodes_is_refused(count: Any) -> None:
    with pytest.raises(SpecError, match=r"data\.episodes must be a whole number >= 1"):
        DataSettings("demos", episodes=count)


def test_more_episodes_than_there_are_are_refused(tmp_path: Path) -> None:
    dataset = EpisodeDataset(str(write_episodes(tmp_path)))
    with pytest.raises(SpecError, match=r"data\.episodes: 8 is more .* 3 are held out; lower it"):
        check_size(dataset, DataSettings(dataset.path, holdout=0.3, episodes=8))
    check_size(dataset, DataSettings(dataset.path, holdout=0.3, episodes=7))


def test_a_batch_may_be_larger_than_the_data_set_which_must_not_be_empty(tmp_path: Path) -> None:
    path = write_episodes(tmp_path / "a", [1, 2])
    batch, _ = replays_of(config_of(path, offline=True, batch=32)).draw(beta=0.5, needs=NEEDS)
    assert set(batch["obs"][:, 0].tolist()) == {0.0, 100.0, 101.0}
    with pytest.raises(SpecError, match="has no episodes; record some first"):
        config_of(write_episodes(tmp_path / "b", []), offline=True)


def test_a_refused_episode_has_its_number_in_the_data_set(tmp_path: Path) -> None:
    config = config_of(write_episodes(tmp_path), offline=True, episodes=3).debugging(seed=5)
    first = min(trained_on_episodes(10, frozenset(), 3, 5) - {1})  # episode 1 has action 0 only
    assert first > 0
    with pytest.raises(SpecError, match=rf"episode {first} of {tmp_path} cannot be used"):
        Replays(config, FRAME, gym.spaces.Discrete(1))


def test_measured_rows_are_the_same_at_every_evaluation(tmp_path: Path) -> None:
    data = Replays(config_of(write_episodes(tmp_path), offline=True), FRAME, ACTIONS).data
    assert data is not None
    found = [
        [
            batch["obs"]
            for batch in measured_batches(data.replay, 8, n_step=3, gamma=0.9, needs=NEEDS)
        ]
        for _ in range(2)
    ]
    assert len(found[0]) == 54 // 8
    np.testing.assert_array_equal(found[0], found[1])
    assert len(np.unique(np.concatenate(found[0])[:, 0])) == 48  # no row twice


def test_rows_for_diagnostics_are_of_whole_episodes(tmp_path: Path) -> None:
    data = Replays(config_of(write_episodes(tmp_path), offline=True), FRAME, ACTIONS).data
    assert data is not None
    rows = rows_of_episodes(data.replay, 3)
    # Episodes 0, 4 or 5 (the middle of 0 to 9, rounded to even), and 9.
    assert [int(number) for number in np.unique(rows.episodes)] == [0, 4, 9]
    np.testing.assert_array_equal(rows.observations[:, 0].numpy() // 100, rows.episodes)
    assert len(rows.rewards) == 5 + 7 + 6 and rows.actions.shape == (18, 1)


def test_draws_continue_bit_for_bit_without_the_rows(tmp_path: Path) -> None:
    config = config_of(write_episodes(tmp_path), offline=True)
    first, second = (Replays(config, FRAME, ACTIONS) for _ in range(2))
    _, rows = first.draw(beta=0.5, needs=NEEDS)
    first.set_priorities(rows, np.linspace(0.1, 2.0, 32))
    state = first.get_state()
    assert max(np.asarray(each).nbytes for each in state["data"]["draws"].values()) < 2_000
    second.set_state(state)
    for _ in range(3):
        (one, _), (other, _) = (each.draw(beta=0.5, needs=NEEDS) for each in (first, second))
        for key in ("obs", "weights", "indices"):
            np.testing.assert_array_equal(one[key], other[key])


def test_another_data_set_is_refused_when_a_run_continues(tmp_path: Path) -> None:
    first = replays_of(config_of(write_episodes(tmp_path / "a"), offline=True))
    other = replays_of(config_of(write_episodes(tmp_path / "b", [40, 14]), offline=True))
    with pytest.raises(SpecError, match="the data set has changed since"):
        other.set_state(first.get_state())


def test_a_data_set_in_another_folder_is_the_same(tmp_path: Path) -> None:
    first, second = (
        replays_of(config_of(write_episodes(tmp_path / name), offline=True)) for name in "ab"
    )
    second.set_state(first.get_state())


def test_without_actions_every_row_has_the_action_zero(tmp_path: Path) -> None:
    config: Any = PretrainConfig().data(path=write_episodes(tmp_path, with_actions=False))
    config.auxiliary(curl={}).training(train_batch_size_per_learner=16)
    spaces = config.find_spaces()
    config.adapt_to(spaces)
    replay = Replays(config, spaces.observation_space, spaces.action_space).main
    assert set(replay.gather(replay.drawable_indices())["actions"].tolist()) == {0}


def test_actions_in_the_units_of_the_environment_become_those_of_the_policy(
    tmp_path: Path,
) -> None:
    torque = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
    with pytest.raises(SpecError, match=r"episode 0 of .* cannot be used: action 1 of row 1"):
        config = config_of(write_episodes(tmp_path / "bad", actions=gym.spaces.Discrete(5)))
        Replays(config, FRAME, gym.spaces.Discrete(1))
    config = PretrainConfig().data(path=write_episodes(tmp_path / "box", actions=torque))
    config.training(train_batch_size_per_learner=16).adapt_to(EnvSpaces(FRAME, torque))
    replay = Replays(config, FRAME, torque).main
    # The recorded actions are 0 and 1: 0 / 2 and 1 / 2.
    assert set(replay.gather(replay.drawable_indices())["actions"][:, 0].tolist()) == {0.0, 0.5}


def test_statistics_of_observations_are_those_of_the_data_set(tmp_path: Path) -> None:
    config: Any = PretrainConfig().data(path=write_episodes(tmp_path, [2, 3]))
    config.model(normalize_observations=True).training(train_batch_size_per_learner=4)
    config.adapt_to(EnvSpaces(FRAME, ACTIONS))
    data = Replays(config, FRAME, ACTIONS).data
    assert data is not None
    # Observations at which actions were taken: 0, 1, and 100, 101, 102.
    from rlssl.networks.layers.vector_normalizer import VectorNormalizer

    normalizer = VectorNormalizer(FRAME)
    for moments in data.moments:
        normalizer.update(moments)
    expected = np.mean([0, 1, 100, 101, 102])
    np.testing.assert_allclose(np.asarray(normalizer.statistics()["mean"]), expected)
