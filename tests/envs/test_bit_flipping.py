"""goals/bit-flipping: its states, its rewards, and the methods of goal environments."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rlssl.environments.building import make_env, make_vector_env
from rlssl.errors import SpecError
from rlssl.plugins import load_plugins

load_plugins(["rlssl_envs"])


def make(**options: Any) -> gym.Env:
    return make_env({"id": "goals/bit-flipping", **options})


def test_is_a_gymnasium_environment() -> None:
    check_env(make(num_bits=4), skip_render_check=True)


@pytest.mark.parametrize("terminates", [True, False])
def test_flipping_the_wrong_bits_reaches_the_goal(terminates: bool) -> None:
    env = make(num_bits=4, terminates=terminates)
    seen, _ = env.reset(seed=0)
    wrong = np.flatnonzero(seen["observation"] != seen["desired_goal"])
    assert len(wrong) > 0
    for bit in wrong:
        seen, reward, terminated, _, info = env.step(bit)
        is_last = bit == wrong[-1]
        expected = (0.0 if is_last else -1.0, is_last and terminates, {"is_success": is_last})
        assert (reward, terminated, info) == expected
    np.testing.assert_array_equal(seen["achieved_goal"], seen["desired_goal"])


def test_an_episode_has_as_many_steps_as_bits() -> None:
    env = make(num_bits=3, terminates=False)
    env.reset(seed=1)
    assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_rewards_and_terminations_of_rows() -> None:
    env: Any = make(num_bits=2).unwrapped
    endless: Any = make(num_bits=2, terminates=False).unwrapped
    states, goals = (np.array(rows, np.float32) for rows in ([[0, 1], [1, 1]], [[0, 1], [0, 1]]))
    assert env.compute_reward(states, goals, {}).tolist() == [0.0, -1.0]
    assert env.compute_terminated(states, goals, {}).tolist() == [True, False]
    assert endless.compute_terminated(states, goals, {}).tolist() == [False, False]
    assert not env.compute_truncated(states, goals, {})


def test_copies_and_seeds() -> None:
    vector = make_vector_env({"id": "goals/bit-flipping", "num_bits": 6}, num_envs=2)
    one, two = (vector.reset(seed=3)[0]["desired_goal"] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (2, 6) and not np.array_equal(one[0], one[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_bits": 1}, r"env\.num_bits must be a whole number >= 2; got 1"),
        ({"terminates": 1}, r"env\.terminates must be true or false; got 1"),
        ({"bits": 3}, r"unknown option env\.bits of goals/bit-flipping"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make(**options)
