"""How a frame is stored, and how several become the stack that the RLModule gets."""

from collections.abc import Sequence

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlssl.replay.layout import Layout, Leaf


class Frames:
    """The way of observations into storage and, stacked, out of it.

    Vectors are concatenated and images joined on their channels, oldest frame first. Images to
    be stacked are stored channels first, so that the frames of a stack are copied as they are;
    stacks of [H, W, C] images are returned as transposed views.
    """

    def __init__(self, space: gym.Space, frame_stack: int) -> None:
        """Chooses how frames are stored.

        Args:
            space: Of one frame.
            frame_stack: Frames of a stack; >= 1. With 1, observations come out as they came in.

        Raises:
            ValueError: If ``frame_stack`` < 1, or > 1 for a space that cannot be stacked.
        """
        if frame_stack < 1:
            raise ValueError(f"frame_stack must be >= 1; got {frame_stack}.")
        self.frame_stack = frame_stack
        self.layout = Layout(space, "observation_space")
        self._channels_last = frame_stack > 1 and stacks_on_last_axis(space)

    @property
    def stored(self) -> list[Leaf]:
        """The leaves as they are stored."""
        if not self._channels_last:
            return self.layout.leaves
        (leaf,) = self.layout.leaves
        height, width, channels = leaf.shape
        return [Leaf((channels, height, width), leaf.dtype)]

    def to_storage(self, leaves: list[np.ndarray]) -> list[np.ndarray]:
        """Turns observations, leaves [N, ...], into rows: a view where possible."""
        return [leaf.transpose(0, 3, 1, 2) for leaf in leaves] if self._channels_last else leaves

    def stack(self, storage: Sequence[np.ndarray], slots: np.ndarray) -> list[np.ndarray]:
        """Gathers and stacks observations.

        Args:
            storage: Leaves [capacity, ...] as stored.
            slots: [..., frame_stack], integers: rows of each stack, oldest first.

        Returns:
            Leaves [..., *shape of a stacked observation].
        """
        if self.frame_stack == 1:
            return [leaf[slots[..., 0]] for leaf in storage]
        (frames,) = storage
        gathered = frames[slots]
        first, *rest = frames.shape[1:]
        joined = gathered.reshape(*slots.shape[:-1], self.frame_stack * first, *rest)
        return [np.moveaxis(joined, -3, -1) if self._channels_last else joined]


def stacks_on_last_axis(space: gym.Space) -> bool:
    """Whether frames of a space are joined on the last of their three axes, else on the first.

    A square image tells its channels by its two equal sides; otherwise the smaller of the first
    and the last axis is the channels, and a tie is [C, H, W]. Everywhere in rlssl the same.

    Raises:
        ValueError: If the space is not a Box of shape [D], [C, H, W] or [H, W, C].
    """
    if not isinstance(space, spaces.Box) or len(space.shape) not in (1, 3):
        raise ValueError(
            f"frame_stack > 1 needs a Box of shape [D], [C, H, W] or [H, W, C]; got {space}. "
            "Set model.frame_stack to 1."
        )
    if len(space.shape) == 1:
        return False
    first, middle, last = space.shape
    if (middle == last) != (first == middle):
        return middle != last
    return first > last
