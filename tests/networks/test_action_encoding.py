"""Encoded actions of every kind of space, and the targets of inverse models."""

from typing import Any

import numpy as np
import pytest
import torch
import tree
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action

from rlssl.errors import SpecError
from rlssl.networks.action_encoding import (
    action_dim,
    encode_action,
    inverse_target,
    to_env_actions,
    to_module_actions,
)

UNBOUNDED = spaces.Box(-np.inf, np.inf, (2,))


def test_discrete_actions_are_one_hot_and_counted_from_start() -> None:
    space: spaces.Discrete = spaces.Discrete(3, start=2)
    assert encode_action(torch.tensor([2, 4]), space).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert inverse_target(torch.tensor([2, 4]), space).tolist() == [0, 2]


def test_multi_discrete_actions_are_one_hot_blocks() -> None:
    space = spaces.MultiDiscrete([2, 3], start=[1, 0])
    assert encode_action(torch.tensor([[2, 0]]), space).tolist() == [[0, 1, 1, 0, 0]]
    assert inverse_target(torch.tensor([[2, 0]]), space).tolist() == [[1, 0]]


def test_multi_binary_actions_are_not_changed() -> None:
    action = torch.tensor([[0, 1, 1]], dtype=torch.int8)
    assert encode_action(action, spaces.MultiBinary(3)).tolist() == [[0.0, 1.0, 1.0]]
    assert inverse_target(action, spaces.MultiBinary(3)).dtype == torch.int64


def test_continuous_actions_are_clamped_if_the_space_is_bounded() -> None:
    # Actions are normalized: the bounds are -1 and 1 for any bounds of the space.
    action = torch.tensor([[3.0, -0.5]])
    bounded = spaces.Box(-2.0, 2.0, (2,))
    assert encode_action(action, bounded).tolist() == [[1.0, -0.5]]
    assert inverse_target(action, bounded).tolist() == [[1.0, -0.5]]
    assert encode_action(action, UNBOUNDED).tolist() == [[3.0, -0.5]]


@pytest.mark.parametrize(
    "space", [spaces.Text(3), spaces.Box(0, 5, (2,), np.int64), spaces.Dict({})], ids=str
)
def test_unsupported_action_spaces_are_refused_with_the_fix(space: spaces.Space) -> None:
    action = torch.zeros(1, 2)
    for call in (
        lambda: action_dim(space),
        lambda: encode_action(action, space),
        lambda: inverse_target(action, space),
    ):
        with pytest.raises(ValueError, match=r"cannot be encoded; .* has Discrete"):
            call()


RLLIB_SPACES = [
    spaces.Discrete(3),
    spaces.MultiDiscrete([2, 3]),
    spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
    spaces.Box(-np.inf, np.inf, (2,)),
    spaces.Box(3, 5, (2,), np.int64),
]


@pytest.mark.parametrize("normalize, clip", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("space", RLLIB_SPACES, ids=str)
def test_actions_of_spaces_with_all_bounds_or_none_are_rllibs(
    space: spaces.Space, normalize: bool, clip: bool
) -> None:
    space.seed(0)
    actions = np.stack([space.sample() for _ in range(20)])
    if actions.dtype == np.int64 and isinstance(space, spaces.Box):
        actions -= 3
    elif isinstance(space, spaces.Box):
        actions = 2 * np.random.default_rng(0).standard_normal((20, 2), dtype=np.float32)
    expected = actions
    if normalize:
        expected = np.stack([unsquash_action(action, space) for action in actions])
    elif clip:
        expected = np.stack([clip_action(action, space) for action in actions])
    actual = to_env_actions(space, normalize=normalize, clip=clip)(actions)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert actual.dtype == expected.dtype


LARGEST: dict[Any, float] = {
    dtype: float(np.finfo(dtype).max) for dtype in (np.float16, np.float32, np.float64)
}


@pytest.mark.parametrize("dtype", LARGEST)
@pytest.mark.parametrize("normalize", [True, False])
def test_every_action_is_in_the_space_and_clipped_at_the_bound_that_exists(
    dtype: Any, normalize: bool
) -> None:
    # Elements: [0, inf), (-inf, inf), (-inf, -1], [0.1, 10], and three whose bounds are the largest
    # numbers: (-max, max), [2, max), (-max, 3].
    largest = LARGEST[dtype]
    low: np.ndarray = np.array([0, -np.inf, -np.inf, 0.1, -largest, 2, -largest], dtype)
    high: np.ndarray = np.array([np.inf, np.inf, -1, 10, largest, largest, 3], dtype)
    space = spaces.Box(low, high, dtype=dtype)
    actions = 30 * np.random.default_rng(0).standard_normal((200, 7), dtype=np.float32)
    actions[0] = [-3, -3, -3, -0.5, -3, -3, -3]
    actions[1] = [5, 5, 5, 0.5, 5, 5, 5]
    given = to_env_actions(space, normalize=normalize, clip=True)(actions)
    assert given.dtype == dtype and all(space.contains(action) for action in given)
    # With two bounds: 0.1 + 0.5 / 2 * 9.9 = 2.575 and 0.1 + 1.5 / 2 * 9.9 = 7.525 of [0.1, 10].
    scaled = (2.575, 7.525) if normalize else (0.1, 0.5)
    tolerance = 2 * float(np.finfo(dtype).eps) if dtype is np.float16 else 1e-6
    np.testing.assert_allclose(given[0], [0, -3, -3, scaled[0], -3, 2, -3], rtol=tolerance)
    np.testing.assert_allclose(given[1], [5, 5, -1, scaled[1], 5, 5, 3], rtol=tolerance)


def test_float32s_largest_number_is_no_bound_of_a_float64_space() -> None:
    largest = float(LARGEST[np.float32])
    space = spaces.Box(-largest, largest, (2,), np.float64)
    given = to_env_actions(space, normalize=True, clip=False)(np.array([[0.5, -7.0]], np.float32))
    assert given.tolist() == [[0.5, -7.0]]


def test_bounds_whose_distance_overflows_are_only_clipped() -> None:
    space = spaces.Box(-3e38, 3e38, (1,), np.float32)
    given = to_env_actions(space, normalize=True, clip=False)(np.array([[0.5]], np.float32))
    assert given.tolist() == [[0.5]]


def test_parts_of_dict_and_tuple_spaces_are_mapped() -> None:
    space = spaces.Dict(
        {"grip": spaces.Discrete(2), "move": spaces.Tuple([spaces.Box(0.0, np.inf, (1,))])}
    )
    actions = {"grip": np.array([1, 0]), "move": (np.array([[-2.0], [2.0]], np.float32),)}
    given = to_env_actions(space, normalize=True, clip=False)(actions)
    assert given["grip"].tolist() == [1, 0]
    assert given["move"][0].tolist() == [[0.0], [2.0]]


def test_encoded_actions_are_clamped_at_the_bounds_that_exist() -> None:
    # [0, inf), (-inf, inf), and [0, 4], which is scaled from [-1, 1].
    space = spaces.Box(np.array([0, -np.inf, 0]), np.array([np.inf, np.inf, 4]), dtype=np.float64)
    action = torch.tensor([[-3.0, -3.0, -3.0], [3.0, 3.0, 0.5]])
    expected = [[0.0, -3.0, -1.0], [3.0, 3.0, 0.5]]
    assert encode_action(action, space).tolist() == expected
    assert inverse_target(action, space).tolist() == expected


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-2.0, 6.0, (3,), np.float32),
        spaces.Box(-2.0, 6.0, (2, 2), np.float64),
        spaces.Box(np.array([0.0, -1.0], np.float32), np.array([np.inf, 1.0], np.float32)),
        spaces.Box(3, 7, (2,), np.int64),
        spaces.Discrete(4, start=2),
        spaces.MultiDiscrete([3, 2]),
        spaces.MultiBinary(3),
        spaces.Dict({"a": spaces.Box(0.0, 4.0, (1,)), "b": spaces.Tuple([spaces.Discrete(2)])}),
    ],
    ids=str,
)
def test_recorded_actions_survive_a_round_trip(space: spaces.Space) -> None:
    space.seed(0)
    taken = tree.map_structure(lambda *rows: np.stack(rows), *(space.sample() for _ in range(20)))
    back = to_env_actions(space, normalize=True, clip=True)(to_module_actions(space)(taken))
    for expected, found in zip(tree.flatten(taken), tree.flatten(back), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_recorded_actions_are_scaled_to_minus_one_and_one() -> None:
    space = spaces.Box(-2.0, 6.0, (1,), np.float32)
    # -2 is the lower bound, 2 the middle; 6.00001 is beyond 6 by rounding.
    found = to_module_actions(space)(np.array([[-2.0], [2.0], [6.00001]], np.float32))
    assert found.tolist() == [[-1.0], [0.0], [1.0]]


@pytest.mark.parametrize(
    "space, actions",
    [
        (spaces.Box(-2.0, 2.0, (1,), np.float32), [[0.0], [2.1]]),
        (spaces.Box(-2.0, 2.0, (1,), np.float32), [[0.0], [np.nan]]),
        (spaces.Box(0.0, np.inf, (1,), np.float32), [[0.0], [-1.0]]),
        (spaces.Discrete(2, start=1), [1, 0]),
        (spaces.MultiDiscrete([3, 2]), [[0, 0], [0, 2]]),
    ],
    ids=str,
)
def test_recorded_actions_out_of_range_are_refused(space: spaces.Space, actions: Any) -> None:
    dtype = np.float32 if isinstance(space, spaces.Box) else np.int64
    with pytest.raises(SpecError, match="of row 1 is not in"):
        to_module_actions(space)(np.array(actions, dtype))


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
    found = to_module_actions(space)(taken)
    assert found.dtype == dtype and np.abs(found).max() <= 1
    np.testing.assert_array_equal(to_env(found), taken)


def test_elements_without_two_bounds_stay_as_they_are() -> None:
    space = spaces.Box(np.array([0.0, -4.0], np.float32), np.array([np.inf, 4.0], np.float32))
    actions = np.array([[7.0, 2.0], [0.0, -4.0]], np.float32)
    # Only the second element is scaled: 2 / 4 = 0.5 and -4 / 4 = -1.
    assert to_module_actions(space)(actions).tolist() == [[7.0, 0.5], [0.0, -1.0]]
    assert to_module_actions(space, normalize=False)(actions).tolist() == actions.tolist()


def test_numbers_of_an_integer_box_are_counted_from_its_bound() -> None:
    space = spaces.Box(-3, 5, (1,), np.int32)
    assert to_module_actions(space)(np.array([[-3], [5]], np.int32)).tolist() == [[0], [8]]


def test_actions_outside_the_space_are_clipped_on_request() -> None:
    convert = to_module_actions(spaces.Box(-2, 2, (1,)), clip=True)
    assert convert(np.array([[3.0], [-9.0]], np.float32)).tolist() == [[1.0], [-1.0]]
