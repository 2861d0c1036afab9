"""Actions of the environment become actions of the policy that give them again."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rlssl.data.policy_actions import to_policy_actions
from rlssl.networks.action_encoding import to_env_actions


@settings(max_examples=60, deadline=None)
@given(
    low=st.floats(-1e4, 1e4, width=32),
    size=st.floats(2**-10, 1e6, width=32),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_an_action_of_a_policy_is_given_to_the_environment_again_bit_for_bit(
    low: float, size: float, dtype: Any, seed: int
) -> None:
    space = spaces.Box(low, low + size, (2,), dtype)
    generator = np.random.default_rng(seed)
    played = generator.uniform(-1, 1, (2000, 2)).astype(np.float32)
    # Also the neighborhoods of the bounds and of 0, where floats lie closer together.
    played[:300] *= 1e-6
    played[300:600] = np.sign(played[300:600]) * (1 - 1e-6 * np.abs(played[300:600]))
    to_env = to_env_actions(space, normalize=True, clip=True)
    taken = to_env(played)
    found = to_policy_actions(space)(taken)
    assert found.dtype == dtype and np.abs(found).max() <= 1
    np.testing.assert_array_equal(to_env(found), taken)


def test_elements_without_two_bounds_stay_as_they_are() -> None:
    space = spaces.Box(np.array([0.0, -4.0], np.float32), np.array([np.inf, 4.0], np.float32))
    actions = np.array([[7.0, 2.0], [0.0, -4.0]], np.float32)
    # Only the second element is scaled: 2 / 4 = 0.5 and -4 / 4 = -1.
    assert to_policy_actions(space)(actions).tolist() == [[7.0, 0.5], [0.0, -1.0]]
    assert to_policy_actions(space, normalize=False)(actions).tolist() == actions.tolist()


def test_numbers_of_an_integer_box_are_counted_from_its_bound() -> None:
    space = spaces.Box(-3, 5, (1,), np.int32)
    assert to_policy_actions(space)(np.array([[-3], [5]], np.int32)).tolist() == [[0], [8]]


def test_parts_of_a_dict_are_converted_each_by_itself() -> None:
    space = spaces.Dict(gear=spaces.Discrete(3, start=1), wheel=spaces.Box(-2, 2, (1,)))
    actions = {"gear": np.array([3]), "wheel": np.array([[1.0]], np.float32)}
    found = to_policy_actions(space)(actions)
    assert (found["gear"].tolist(), found["wheel"].tolist()) == ([3], [[0.5]])


@pytest.mark.parametrize(
    ("space", "actions", "message"),
    [
        (spaces.Box(-2, 2, (2,)), [[0, 0], [0, 2.5]], r"2.5 at step 1 \(element 1\).*\[-2, 2\]"),
        (spaces.Box(-2, 2, (1,)), [[np.nan]], "nan at step 0"),
        (spaces.Box(0, np.inf, (1,)), [[-1.0]], r"-1.0 at step 0 .*\[0, inf\]"),
        (spaces.Discrete(3, start=1), [1, 3, 4], r"the action 4 at step 2 .*\[1, 3\]"),
        (spaces.MultiDiscrete([2, 3]), [[1, 2], [2, 0]], r"2 at step 1 \(element 0\).*\[0, 1\]"),
        (spaces.MultiBinary(2), [[0, 2]], r"2 at step 0 \(element 1\)"),
    ],
)
def test_an_action_outside_the_space_is_refused(
    space: gym.Space, actions: list, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        to_policy_actions(space)(np.array(actions, space.dtype))


def test_actions_outside_the_space_are_clipped_on_request() -> None:
    convert = to_policy_actions(spaces.Box(-2, 2, (1,)), clip=True)
    assert convert(np.array([[3.0], [-9.0]], np.float32)).tolist() == [[1.0], [-1.0]]
