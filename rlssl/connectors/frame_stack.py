"""Frame stacking on arrays: spaces, stacks for actors, windows for Learners."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rlssl.image_spaces import ImageSpace, frame_layout, is_image


def stacking_axis(space: gym.Space, encoder_config: Mapping[str, Any] | None = None) -> int:
    """Returns the axis of one observation along which frames are joined.

    Vectors are concatenated; images are joined along their channels.

    Args:
        space: The space of one frame: a Box of shape [D], [C, H, W] or [H, W, C]. See
            `rlssl.image_spaces`, which decides about the channels.
        encoder_config: ``model.encoder_config``, whose ``layout`` is the user's word.

    Returns:
        0 or 2.

    Raises:
        ValueError: For any other space.

    Example:
        >>> stacking_axis(gym.spaces.Box(0, 255, (84, 84, 3), np.uint8))
        2
    """
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
        return 0
    if is_image(space):
        return 0 if frame_layout(space, encoder_config) == "CHW" else 2
    raise ValueError(
        f"frame_stack > 1 needs a Box of shape [D], [C, H, W] or [H, W, C]; got {space}. "
        "Set model.frame_stack to 1."
    )


def stacked_space(
    space: gym.Space, frame_stack: int, encoder_config: Mapping[str, Any] | None = None
) -> gym.Space:
    """The space of ``frame_stack`` joined frames; with 1, ``space`` itself.

    Args:
        space: The space of one frame; see `stacking_axis`.
        frame_stack: Frames in a stack; >= 1.
        encoder_config: ``model.encoder_config``, whose ``layout`` is the user's word.

    Returns:
        For images, a space that carries the layout of the frames.

    Raises:
        ValueError: If ``frame_stack`` < 1, or > 1 for a space that cannot be stacked.

    Example:
        >>> stacked_space(gym.spaces.Box(0, 255, (1, 84, 84), np.uint8), 4).shape
        (4, 84, 84)
    """
    if frame_stack < 1:
        raise ValueError(f"frame_stack must be >= 1; got {frame_stack}.")
    if frame_stack == 1:
        return space
    axis = stacking_axis(space, encoder_config)
    assert isinstance(space, gym.spaces.Box)  # for mypy
    low = np.concatenate([space.low] * frame_stack, axis)
    high = np.concatenate([space.high] * frame_stack, axis)
    if is_image(space):
        return ImageSpace(low, high, frame_layout(space, encoder_config))
    return gym.spaces.Box(low, high, dtype=space.low.dtype.type)


class FrameStack:
    """The last frames of N environments, in a ring buffer.

    Example:
        One environment, stacks of two frames:

        >>> stack = FrameStack(2, 1, gym.spaces.Box(-9, 9, (1,), np.float32))
        >>> stack.reset(np.array([[5.0]]), mask=np.array([True]))
        >>> stack.push(np.array([[6.0]]))
        >>> stack.stacked().tolist()
        [[5.0, 6.0]]
    """

    def __init__(self, frame_stack: int, num_envs: int, space: gym.Space) -> None:
        """Creates a stack of zeros.

        Args:
            frame_stack: Frames per stacked observation; >= 1.
            num_envs: N.
            space: The space of one frame; see `stacking_axis`.

        Raises:
            ValueError: If ``space`` cannot be stacked.
        """
        self._axis = stacking_axis(space) + 1
        self._frames = np.zeros((frame_stack, num_envs, *(space.shape or ())), space.dtype)
        self._newest = 0

    def reset(self, frames: np.ndarray, mask: np.ndarray) -> None:
        """Fills the stacks of the masked environments with their first frame.

        Args:
            frames: [N, ...], the first frames; rows outside of the mask are ignored.
            mask: [N], bool.
        """
        self._frames[:, mask] = frames[mask]

    def push(self, frames: np.ndarray) -> None:
        """Adds the newest frame of every environment, [N, ...], and drops the oldest frame."""
        self._newest = (self._newest + 1) % len(self._frames)
        self._frames[self._newest] = frames

    def stacked(self) -> np.ndarray:
        """[N, ...], stacked observations of `stacked_space`, oldest frame first."""
        size = len(self._frames)
        order = [(self._newest + 1 + i) % size for i in range(size)]
        return np.concatenate([self._frames[i] for i in order], self._axis)


def stack_windows(frames: np.ndarray, frame_stack: int, axis: int) -> np.ndarray:
    """Joins the frames of every window of consecutive frames.

    Args:
        frames: [T + frame_stack - 1, ...], one frame per row, oldest first.
        frame_stack: Frames per window.
        axis: Axis of one frame, from `stacking_axis`.

    Returns:
        [T, ...]; row t joins ``frames[t : t + frame_stack]``.

    Raises:
        ValueError: If there are fewer frames than a window needs.

    Example:
        >>> stack_windows(np.array([[1], [2], [3]]), 2, axis=0).tolist()
        [[1, 2], [2, 3]]
    """
    length = len(frames) - frame_stack + 1
    if length < 1:
        raise ValueError(f"a window needs {frame_stack} frames; got {len(frames)}.")
    return np.concatenate([frames[i : i + length] for i in range(frame_stack)], axis + 1)
