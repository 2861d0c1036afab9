"""Counts gradient steps for losses that are not updated at each of them."""

import torch
from torch import Tensor, nn


class Pace(nn.Module):
    """Tells which gradient steps include a loss: step k, 2k, 3k, ...

    The count is in ``state_dict``, so a restored run continues with it. It is not in a buffer,
    because reading a buffer on a GPU waits for the GPU.

    Args:
        every: k; >= 1.

    Example:
        >>> pace = Pace(3)
        >>> due = []
        >>> for _ in range(6):
        ...     due.append(pace.is_due)
        ...     pace.count_step()
        >>> due
        [False, False, True, False, False, True]
    """

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self._num_steps = 0

    @property
    def is_due(self) -> bool:
        """Whether the next gradient step includes the loss."""
        return (self._num_steps + 1) % self.every == 0

    def count_step(self) -> None:
        """Counts a gradient step, with or without the loss."""
        self._num_steps += 1

    def get_extra_state(self) -> Tensor:
        """[1], the number of gradient steps."""
        return torch.tensor([self._num_steps], dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        """Restores the result of ``get_extra_state``."""
        self._num_steps = int(state[0])
