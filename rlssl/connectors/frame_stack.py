"""Frame stacking on arrays: the space, the ring that actors use, the windows that learners use."""

import gymnasium as gym
import numpy as np

from rlssl.networks.encoders import image_layout


def stacking_axis(space: gym.Space) -> int:
    """The axis of one observation along which its frames are joined.

    Vectors are concatenated; images are joined on their channels.

    Args:
        space: A Box of shape [D], [C, H, W] or [H, W, C], of one frame.

    Returns:
        0 or 2.

    Raises:
        ValueError: For any other space.
    """
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
        return 0
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 3:
        return 0 if image_layout(space) == "CHW" else 2
    raise ValueError(
        f"frame_stack > 1 needs a Box of shape [D], [C, H, W] or [H, W, C]; got {space}. "
        "Set model.frame_stack to 1."
    )


def stacked_space(space: gym.Space, frame_stack: int) -> gym.Space:
    """The space of ``frame_stack`` joined frames; with 1, ``space`` itself.

    Raises:
        ValueError: If ``frame_stack`` < 1, or > 1 for a space that cannot be stacked.
    """
    if frame_stack < 1:
        raise ValueError(f"frame_stack must be >= 1; got {frame_stack}.")
    if frame_stack == 1:
        return space
    axis = stacking_axis(space)
    assert isinstance(space, gym.spaces.Box)  # for mypy
    low = np.concatenate([space.low] * frame_stack, axis)
    high = np.concatenate([space.high] * frame_stack, axis)
    return gym.spaces.Box(low, high, dtype=space.low.dtype.type)


class FrameStack:
    """The last frames of N environments, in a ring: a push writes one frame an environment."""

    def __init__(self, frame_stack: int, num_envs: int, space: gym.Space) -> None:
        """Creates a stack of zeros.

        Args:
            frame_stack: Frames a stacked observation holds; >= 1.
            num_envs: N.
            space: Of one frame; see `stacking_axis`.

        Raises:
            ValueError: If ``space`` cannot be stacked.
        """
        self._axis = stacking_axis(space) + 1
        self._frames = np.zeros((frame_stack, num_envs, *(space.shape or ())), space.dtype)
        self._newest = 0

    def reset(self, frames: np.ndarray, mask: np.ndarray) -> None:
        """Fills the stacks of the masked environments with their first frame.

        Args:
            frames: [N, ...], the first frames; rows outside the mask are ignored.
            mask: [N], bool.
        """
        self._frames[:, mask] = frames[mask]

    def push(self, frames: np.ndarray) -> None:
        """Adds the newest frame of every environment, [N, ...], and drops the oldest."""
        self._newest = (self._newest + 1) % len(self._frames)
        self._frames[self._newest] = frames

    def stacked(self) -> np.ndarray:
        """Returns the stacked observations, [N, ...] as in `stacked_space`, oldest frame first."""
        size = len(self._frames)
        order = [(self._newest + 1 + i) % size for i in range(size)]
        return np.concatenate([self._frames[i] for i in order], self._axis)


def stack_windows(frames: np.ndarray, frame_stack: int, axis: int) -> np.ndarray:
    """Joins every window of consecutive frames.

    Args:
        frames: [T + frame_stack - 1, ...], one frame a row, oldest first.
        frame_stack: Frames a window.
        axis: Of one frame, from `stacking_axis`.

    Returns:
        [T, ...], row t made of ``frames[t : t + frame_stack]``.

    Raises:
        ValueError: If there are fewer frames than a window needs.
    """
    length = len(frames) - frame_stack + 1
    if length < 1:
        raise ValueError(f"a window needs {frame_stack} frames; got {len(frames)}.")
    return np.concatenate([frames[i : i + length] for i in range(frame_stack)], axis + 1)
