from typing import Any

import numpy as np
import pytest

from rlssl.environments.building import make_env, make_vector_env
from rlssl.errors import SpecError, UnknownNameError
from rlssl.plugins import load_plugins

pytest.importorskip("minigrid", reason="needs rlssl[minigrid]")
load_plugins(["rlssl_envs"])

LEFT, RIGHT, FORWARD = 0, 1, 2


def test_grid_observation_shows_the_goal_relative_to_the_agent() -> None:
    observation, _ = make_env({"id": "MiniGrid-Empty-5x5-v0"}).reset(seed=0)
    # The agent, at (1, 1) and facing right, stands in column 3 of the bottom row, 6. The goal, at
    # (3, 3), is 2 cells ahead (row 6 - 2 = 4) and 2 cells to its right (column 3 + 2 = 5).
    # Planes: 8 = goal; 11 + 1 = 12, green; 17 + 0 = 17, state "open", which has no meaning here.
    assert np.flatnonzero(observation[:, 4, 5]).tolist() == [8, 12, 17]
    # The view shows nothing behind the agent; on its left, at (1, 0), is a gray wall:
    # planes 2 and 11 + 5 = 16.
    assert np.flatnonzero(observation[:, 6, 2]).tolist() == [2, 16, 17]


def test_planes_are_those_of_minigrids_own_one_hot_wrapper() -> None:
    import gymnasium as gym
    from minigrid.wrappers import OneHotPartialObsWrapper

    ours = make_env({"id": "MiniGrid-DoorKey-6x6-v0"})
    theirs = OneHotPartialObsWrapper(gym.make("MiniGrid-DoorKey-6x6-v0"))
    pairs = [(ours.reset(seed=3)[0], theirs.reset(seed=3)[0]["image"])]
    for action in np.random.default_rng(0).integers(7, size=60):
        pairs.append((ours.step(action)[0], theirs.step(action)[0]["image"]))
    for own, reference in pairs:
        # MiniGrid's planes are [column, row, plane].
        np.testing.assert_array_equal(own, reference.transpose(2, 1, 0))
    # Each of the 49 cells has one object, one color and one state: 3 * 49 = 147.
    assert pairs[-1][0].sum() == 147


def test_flat_observation_is_the_flattened_grid() -> None:
    grid, _ = make_env({"id": "MiniGrid-DoorKey-6x6-v0"}).reset(seed=1)
    env = make_env({"id": "MiniGrid-DoorKey-6x6-v0", "observation": "flat"})
    flat, _ = env.reset(seed=1)
    assert env.observation_space.shape == (980,)  # 20 * 7 * 7
    np.testing.assert_array_equal(flat, grid.reshape(-1))


@pytest.mark.parametrize(("options", "side"), [({}, 56), ({"tile_size": 4}, 28)])
def test_pixels_have_channels_first_and_tile_size_pixels_a_cell(
    options: dict[str, Any], side: int
) -> None:
    env = make_env({"id": "MiniGrid-Empty-5x5-v0", "observation": "pixels", **options})
    observation, _ = env.reset(seed=0)
    assert observation.shape == env.observation_space.shape == (3, side, side)
    tile = side // 7
    # The middle of the goal's cell, row 4 and column 5: pure green, lightened by MiniGrid's
    # highlight of visible cells, c + 0.3 * (255 - c): 0 -> 76, 255 -> 255.
    row, column = 4 * tile + tile // 2, 5 * tile + tile // 2
    assert observation[:, row, column].tolist() == [76, 255, 76]


def test_solved_episode_ends_with_success_and_minigrids_reward() -> None:
    env = make_env({"id": "MiniGrid-Empty-5x5-v0"})
    env.reset(seed=0)
    for action in (FORWARD, FORWARD, RIGHT, FORWARD):
        _, reward, terminated, truncated, info = env.step(action)
        assert (reward, terminated, truncated) == (0, False, False)
        assert "success" not in info
    _, reward, terminated, truncated, info = env.step(FORWARD)
    # 1 - 0.9 * steps / max_steps = 1 - 0.9 * 5 / (4 * 5 * 5) = 0.955.
    assert reward == pytest.approx(0.955)
    assert (terminated, truncated, info) == (True, False, {"success": True})


def test_truncated_episode_is_no_success() -> None:
    env = make_env({"id": "MiniGrid-Empty-5x5-v0", "max_steps": 2})
    env.reset(seed=0)
    assert env.step(LEFT)[4] == {}
    _, _, terminated, truncated, info = env.step(LEFT)
    assert (terminated, truncated, info) == (False, True, {"success": False})


def test_episode_that_ends_in_lava_is_no_success() -> None:
    env = make_env({"id": "MiniGrid-LavaGapS5-v0"})
    for seed in range(20):
        env.reset(seed=seed)
        for _ in range(2):
            _, reward, terminated, _, info = env.step(FORWARD)
            if terminated:
                assert (reward, info) == (0, {"success": False})
                return
    pytest.fail("no seed put lava within two cells ahead of the agent")


def test_other_options_go_to_the_environment() -> None:
    env = make_env({"id": "MiniGrid-Empty-8x8-v0", "agent_view_size": 5})
    assert env.observation_space.shape == (20, 5, 5)


def test_success_is_one_array_in_a_vector_environment() -> None:
    vector = make_vector_env({"id": "MiniGrid-Empty-5x5-v0", "max_steps": 1}, num_envs=2)
    vector.reset(seed=0)
    infos = vector.step(np.array([LEFT, LEFT]))[4]
    assert infos["success"].tolist() == [False, False]
    assert infos["_success"].tolist() == [True, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"observation": "gird"},
            r"env.observation must be 'grid' or .*'gird'; did you mean 'grid'",
        ),
        ({"tile_size": 4}, "env.tile_size needs observation: pixels"),
        (
            {"observation": "pixels", "tile_size": 0},
            "env.tile_size must be a whole number >= 1; got 0",
        ),
    ],
)
def test_bad_option_is_refused_with_its_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_env({"id": "MiniGrid-Empty-5x5-v0", **options})


def test_misspelled_level_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'MiniGrid-DoorKey-6x6-v0'"):
        make_env({"id": "MiniGrid-DorKey-6x6-v0"})
    with pytest.raises(UnknownNameError, match="did you mean 'BabyAI-GoToLocal-v0'"):
        make_env({"id": "BabyAI-GoToLocla-v0"})
