"""Converts frames to storage format, and stored frames to stacked observations."""

from collections.abc import Sequence

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlssl.image_spaces import image_layout, is_image
from rlssl.space_layout import Layout, Leaf


class Frames:
    """Converts observations to storage format, and back to stacked observations.

    Stacks join vectors end to end and images along their channels, oldest frame first. If images
    are stacked, they are stored channels first: each frame of a stack is then one contiguous copy.
    Stacks of [H, W, C] images are returned as transposed views.
    """

    def __init__(self, space: gym.Space, frame_stack: int) -> None:
        """Chooses the storage format.

        Args:
            space: The space of one frame. See `rlssl.image_spaces`, which decides about the
                channels of images.
            frame_stack: Frames per stack; >= 1. With 1, observations are stored unchanged.

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
        """The leaves in storage format."""
        if not self._channels_last:
            return self.layout.leaves
        (leaf,) = self.layout.leaves
        height, width, channels = leaf.shape
        return [Leaf((channels, height, width), leaf.dtype)]

    def to_storage(self, leaves: list[np.ndarray]) -> list[np.ndarray]:
        """Converts observations, leaves [N, ...], to storage format; views, no copies."""
        return [leaf.transpose(0, 3, 1, 2) for leaf in leaves] if self._channels_last else leaves

    def stack(self, storage: Sequence[np.ndarray], slots: np.ndarray) -> list[np.ndarray]:
        """Gathers and stacks observations.

        Args:
            storage: Leaves [capacity, ...] in storage format.
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
    """Whether frames of a space are joined along the last of their three axes, else the first.

    Raises:
        ValueError: If the space is not a Box of shape [D], [C, H, W] or [H, W, C].
    """
    if not isinstance(space, spaces.Box) or len(space.shape) not in (1, 3):
        raise ValueError(
            f"frame_stack > 1 needs a Box of shape [D], [C, H, W] or [H, W, C]; got {space}. "
            "Set model.frame_stack to 1."
        )
    return is_image(space) and image_layout(space) == "HWC"
