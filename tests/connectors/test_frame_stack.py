"""Frame stacking: spaces, the ring buffer against one deque per environment, windows."""

from collections import deque

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlssl.connectors.frame_stack import FrameStack, stack_windows, stacked_space, stacking_axis

VECTOR = gym.spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([2.0, 9.0], np.float32))
SHAPES = {"vector": (2,), "chw": (1, 9, 9), "hwc": (7, 7, 3)}


@pytest.mark.parametrize("kind, shape", [("vector", (6,)), ("chw", (3, 9, 9)), ("hwc", (7, 7, 9))])
def test_frames_join_on_the_channels(kind: str, shape: tuple[int, ...]) -> None:
    space = gym.spaces.Box(0, 255, SHAPES[kind], np.uint8)
    stacked = stacked_space(space, 3)
    assert stacked.shape == shape
    assert stacked.dtype == np.uint8


def test_bounds_repeat_with_the_frames() -> None:
    stacked = stacked_space(VECTOR, 2)
    assert isinstance(stacked, gym.spaces.Box)
    np.testing.assert_array_equal(stacked.low, [-1.0, 0.0, -1.0, 0.0])
    np.testing.assert_array_equal(stacked.high, [2.0, 9.0, 2.0, 9.0])


def test_one_frame_does_not_change_the_space() -> None:
    space = gym.spaces.Dict({"x": VECTOR})
    assert stacked_space(space, 1) is space


@pytest.mark.parametrize(
    "space", [gym.spaces.Discrete(3), gym.spaces.Dict({"x": VECTOR}), gym.spaces.Box(0, 1, (5, 5))]
)
def test_space_that_cannot_be_stacked_is_an_error_that_names_the_setting(space: gym.Space) -> None:
    with pytest.raises(
        ValueError, match=r"frame_stack > 1 needs a Box.*Set model.frame_stack to 1"
    ):
        stacked_space(space, 2)


def test_no_frames_is_an_error() -> None:
    with pytest.raises(ValueError, match="frame_stack must be >= 1; got 0"):
        stacked_space(VECTOR, 0)


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(sorted(SHAPES)),
    frame_stack=st.integers(2, 4),
    resets=st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=9),
)
def test_ring_agrees_with_one_deque_per_environment(
    kind: str, frame_stack: int, resets: list[list[bool]]
) -> None:
    space = gym.spaces.Box(0, 255, SHAPES[kind], np.uint8)
    ring = FrameStack(frame_stack, 2, space)
    deques = [deque([np.zeros(SHAPES[kind], np.uint8)] * frame_stack, frame_stack)] * 2
    deques = [deque(d, frame_stack) for d in deques]
    rng = np.random.default_rng(0)
    for mask in resets:
        frames = rng.integers(0, 256, (2, *SHAPES[kind])).astype(np.uint8)
        ring.push(frames)
        ring.reset(frames, np.array(mask))
        for frame, reset, frames_of_env in zip(frames, mask, deques, strict=True):
            frames_of_env.extend([frame] * (frame_stack if reset else 1))
        expected = np.stack([np.concatenate(list(d), stacking_axis(space)) for d in deques])
        np.testing.assert_array_equal(ring.stacked(), expected)
    assert ring.stacked().dtype == np.uint8


def test_windows_slide_by_one_frame() -> None:
    frames = np.arange(5).reshape(5, 1)
    # 3 frames per window and 5 frames: 5 - 3 + 1 = 3 windows.
    expected = [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    np.testing.assert_array_equal(stack_windows(frames, 3, axis=0), expected)


def test_windows_of_hwc_images_join_on_the_last_axis() -> None:
    frames = np.arange(3 * 2 * 2 * 2).reshape(3, 2, 2, 2)
    windows = stack_windows(frames, 2, axis=2)
    assert windows.shape == (2, 2, 2, 4)
    np.testing.assert_array_equal(windows[1, ..., :2], frames[1])
    np.testing.assert_array_equal(windows[1, ..., 2:], frames[2])


def test_too_few_frames_for_a_window_is_an_error() -> None:
    with pytest.raises(ValueError, match="a window needs 4 frames; got 3"):
        stack_windows(np.zeros((3, 1)), 4, axis=0)
