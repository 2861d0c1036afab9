"""robotics/...: the environments of gymnasium-robotics through rlssl's registry."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlssl.environments.building import list_environments, make_env, make_vector_env
from rlssl.environments.env_check import preflight
from rlssl.environments.success_check import tells_success
from rlssl.errors import SpecError, UnknownNameError
from rlssl.plugins import load_plugins

pytest.importorskip("gymnasium_robotics", reason="needs rlssl[robotics]")
load_plugins(["rlssl_envs"])

REACH = "robotics/FetchReach-v4"
#: One of each kind -> steps of an episode, and the name of the success.
KINDS = {
    REACH: (50, "is_success"),
    "robotics/PointMaze_UMaze-v3": (300, "success"),
    "robotics/AntMaze_UMaze-v5": (700, "success"),
}


@pytest.mark.parametrize("name", KINDS)
def test_conventions(name: str) -> None:
    steps, success = KINDS[name]
    env = make_env({"id": name}, seed=0)
    check_env(env, skip_render_check=True)
    assert isinstance(env.observation_space, gym.spaces.Dict)
    assert list(env.observation_space) == ["achieved_goal", "desired_goal", "observation"]
    assert env.spec is not None and env.spec.max_episode_steps == steps
    seen, _ = env.reset(seed=1)
    seen, reward, terminated, truncated, info = env.step(env.action_space.sample())
    goals = seen["achieved_goal"], seen["desired_goal"]
    assert env.get_wrapper_attr("compute_reward")(*goals, {}) == reward
    assert (terminated, truncated) == (False, False)
    assert not info[success]
    assert tells_success({"id": name})


def test_an_episode_is_truncated_at_its_limit() -> None:
    env = make_env({"id": REACH, "max_episode_steps": 3}, seed=0)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_the_preflight_accepts_them_and_copies_are_stepped_one_by_one() -> None:
    assert preflight({"id": REACH}).action_space == gym.spaces.Box(-1, 1, (4,))
    vector = make_vector_env({"id": REACH}, num_envs=2, seed=4)
    assert type(vector) is gym.vector.SyncVectorEnv
    goals: list[Any] = [vector.reset(seed=[4, 5])[0]["desired_goal"] for _ in range(2)]
    first, second = goals
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


def test_options_go_to_the_environment() -> None:
    maze = make_env({"id": "robotics/PointMaze_UMaze-v3", "continuing_task": False})
    goal = np.zeros(2)
    assert maze.get_wrapper_attr("compute_terminated")(goal, goal, {})
    dense = make_env({"id": REACH, "reward_type": "dense"})
    # Minus the distance from (0, 0, 0) to (3, 4, 0).
    assert (
        dense.get_wrapper_attr("compute_reward")(np.zeros(3), np.array([3.0, 4.0, 0.0]), {}) == -5
    )


@pytest.mark.parametrize(
    ("env", "error", "message"),
    [
        ({"id": "robotics/FetchReech-v4"}, UnknownNameError, "FetchReach-v4"),
        ({"id": "robotics/FetchReach-v1"}, UnknownNameError, "FetchReach-v4"),
        ({"id": "robotics/CartPole-v1"}, UnknownNameError, "robotics/CartPole-v1"),
        ({"id": REACH, "reward_kind": 1}, SpecError, "reward_kind"),
    ],
)
def test_wrong_ids_and_options_are_refused(
    env: dict[str, Any], error: type[SpecError], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_env(env)


def test_the_newest_versions_are_listed() -> None:
    names = [row["id"] for row in list_environments() if row["id"].startswith("robotics/")]
    assert {REACH, "robotics/FetchPushDense-v4", "robotics/AntMaze_Large-v5"} <= set(names)
    assert "robotics/AntMaze_Large-v4" not in names
