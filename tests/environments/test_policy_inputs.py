"""The observations that a policy takes, casts, and refuses."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlssl.environments.policy_inputs import batch_reader, observation_reader
from tests.test_policy import SPACES, make_policy

FRAME = gym.spaces.Box(0, 255, (4, 5, 3), np.uint8)
UNIT_FRAME = gym.spaces.Box(0, 1, (4, 5, 3), np.float32)
VECTOR = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
PIXELS = np.full((4, 5, 3), 200, np.uint8)


def test_an_observation_of_the_space_is_not_copied() -> None:
    for space in (FRAME, UNIT_FRAME, VECTOR):
        observation = space.sample()
        assert observation_reader(space)(observation) is observation


@pytest.mark.parametrize(
    "space, given",
    [
        (VECTOR, [1, 2, 3]),
        (VECTOR, (1.0, 2.0, 3.0)),
        (VECTOR, np.array([1, 2, 3], np.int64)),
        (VECTOR, np.array([1, 2, 3], np.float64)),
        (VECTOR, torch.tensor([1.0, 2.0, 3.0])),
        (gym.spaces.Box(0, 3, (3,), np.uint8), np.array([1, 2, 3], np.int64)),
        (gym.spaces.Box(0, 3, (3,), np.int64), np.array([1, 2, 3], np.uint8)),
        (gym.spaces.MultiDiscrete([2, 3, 4]), [1, 2, 3]),
    ],
)
def test_safe_casts_give_the_dtype_of_the_space(space: gym.Space, given: Any) -> None:
    read = observation_reader(space)(given)
    assert read.dtype == space.dtype
    np.testing.assert_array_equal(read, [1, 2, 3])


def test_flags_are_cast_where_the_space_holds_flags() -> None:
    for space in (gym.spaces.MultiBinary(2), gym.spaces.Box(0, 1, (2,), np.uint8)):
        assert observation_reader(space)(np.array([True, False])).tolist() == [1, 0]


def test_discrete_observations_are_whole_numbers_of_the_space() -> None:
    read = observation_reader(gym.spaces.Discrete(3, start=2))
    assert [int(read(value)) for value in (2, np.int32(3), np.array(4))] == [2, 3, 4]
    for wrong in (1, 5, 3.0, [3]):
        with pytest.raises(ValueError, match=r"reads (a whole number from 2 to 4|one observation)"):
            read(wrong)


@pytest.mark.parametrize(
    "space, given, words",
    [
        # 200 / 255 = 0.784: the policy would divide by 255 once more.
        (FRAME, PIXELS / 255, r"reads uint8 in \[0, 255\]; got float64 in \[0\.784\d*, 0\.784\d*\]"
                              r"\. The policy scales integers itself"),
        (FRAME, (PIXELS / 255).astype(np.float32), "got float32"),
        (FRAME, PIXELS.astype(np.float32), r"got float32 in \[200, 200\]"),
        (FRAME, PIXELS.astype(np.int64) * 2, r"got int64 in \[400, 400\]"),
        (FRAME, PIXELS.astype(np.int64) - 201, r"got int64 in \[-1, -1\]"),
        (FRAME, PIXELS > 100, "got bool"),
        (UNIT_FRAME, PIXELS, r"reads float32 in \[0, 1\]; got uint8 in \[200, 200\]. Scale the im"),
        (UNIT_FRAME, PIXELS * 0, "Scale the image as the environment of the training does"),
        (gym.spaces.Box(-np.inf, np.inf, (4, 5, 3)), PIXELS, "Scale the image"),
        (gym.spaces.Box(-1, 1, (3,)), [0, 1, 2], r"reads float32 in \[-1, 1\]; got int64"),
        (VECTOR, np.array([None] * 3), "got object. Give an array of numbers"),
        (VECTOR, np.zeros((1, 3), np.float32), r"of shape \(3,\); got \(1, 3\).* of the batch"),
        (FRAME, PIXELS[None], r"got \(1, 4, 5, 3\).*one observation at a time"),
        (FRAME, np.moveaxis(PIXELS, 2, 0), r"got \(3, 4, 5\). Move the axis of the channels"),
        (FRAME, np.concatenate([PIXELS] * 4, 2), r"got \(4, 5, 12\).*without a batch or a stack"),
        (VECTOR, np.zeros(4, np.float32), r"got \(4,\)"),
    ],
)  # fmt: skip
def test_other_observations_are_errors_that_say_the_fix(
    space: gym.Space, given: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        observation_reader(space)(given)


def test_an_image_of_floats_up_to_255_takes_uint8() -> None:
    read = observation_reader(gym.spaces.Box(0, 255, (4, 5, 3), np.float32))(PIXELS)
    assert read.dtype == np.float32
    assert (read == 200).all()


def test_each_part_of_a_nested_observation_is_checked() -> None:
    space = gym.spaces.Dict(
        {"eyes": gym.spaces.Tuple([FRAME, FRAME]), "speed": gym.spaces.Box(-1, 1, (1,), np.float32)}
    )
    read = observation_reader(space)
    observation = {"eyes": [PIXELS, PIXELS], "speed": [0]}
    result = read(observation)
    assert result["eyes"][1] is PIXELS
    assert result["speed"].dtype == np.float32
    wrong = [
        ({**observation, "eyes": (PIXELS, PIXELS / 255)}, r"observation \['eyes'\]\[1\]: .*uint8"),
        ({"speed": [0]}, r"keys \['eyes', 'speed'\]; got \['speed'\]"),
        ({**observation, "eyes": (PIXELS,)}, "reads a tuple of 2; got 1"),
        (PIXELS, "got ndarray"),
    ]
    for given, words in wrong:
        with pytest.raises(ValueError, match=words):
            read(given)


@pytest.mark.parametrize("frame_stack", [1, 3])
def test_a_policy_refuses_frames_that_are_scaled_already(frame_stack: int) -> None:
    policy = make_policy(*SPACES["image-multi_discrete"], frame_stack)
    frame = np.full((2, 12, 12), 51, np.uint8)
    expected = policy.act(frame)
    with pytest.raises(ValueError, match=r"got float64 in \[0\.2, 0\.2\]"):  # 51 / 255
        policy.act(frame / 255)
    # The refused frame did not enter the stack.
    np.testing.assert_array_equal(policy.seen(frame), np.concatenate([frame] * frame_stack)[None])
    np.testing.assert_array_equal(policy.act(frame.astype(np.int64)), expected)


@pytest.mark.parametrize(
    "given, words",
    [
        (np.zeros((2, 2, 3), np.float32), r"got \(2, 2, 3\)"),
        (np.zeros((0, 3), np.float32), "at least one row"),
        ([[0.0, 0.0, 0.0], [0.0, 0.0]], "inhomogeneous"),
    ],
)
def test_a_policy_refuses_what_is_no_batch(given: Any, words: str) -> None:
    policy = make_policy(*SPACES["vector-discrete"])
    with pytest.raises(ValueError, match=words):
        policy.act(given)


def test_each_row_of_a_batch_is_checked() -> None:
    read = batch_reader(gym.spaces.Dict({"eye": FRAME, "speed": gym.spaces.Discrete(3)}))
    frames = np.stack([PIXELS, PIXELS])
    batch = read({"eye": frames, "speed": [0, 2]})
    assert batch["eye"].shape == (2, *FRAME.shape) and batch["speed"].tolist() == [0, 2]
    for wrong, words in (
        ({"eye": frames, "speed": [0, 3]}, "a whole number from 0 to 2; got"),
        ({"eye": frames / 255, "speed": [0, 2]}, "reads uint8"),
        ({"eye": frames, "speed": [0]}, "as many rows"),
        ({"eye": frames}, "reads a dict with the keys"),
    ):
        with pytest.raises(ValueError, match=words):
            read(wrong)
