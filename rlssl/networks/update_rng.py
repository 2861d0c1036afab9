"""Random draws that depend only on a seed and the number of updates."""

import numpy as np
import torch
from torch import Tensor, nn


class UpdateRNG(nn.Module):
    """Provides a random generator that is seeded again for every update.

    The draws of an update do not depend on other users of torch's global generator. A restored run
    continues with the same draws.

    Args:
        seed: None: the last seed of torch's global generator.

    Example:
        >>> rng = UpdateRNG(seed=0)
        >>> first, again = (torch.rand(2, generator=rng.generator()) for _ in range(2))
        >>> rng.after_update()
        >>> later = torch.rand(2, generator=rng.generator())
        >>> torch.equal(first, again), torch.equal(first, later)
        (True, False)
    """

    #: Whether numbers are drawn on the CPU also for a GPU, so that both have the same numbers.
    draws_on_cpu = False

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        # 31 bits, because RLlib's checkpoints convert it to int32.
        self._seed = (torch.initial_seed() if seed is None else seed) % 2**31
        self._num_updates = 0

    @property
    def num_updates(self) -> int:
        """Number of updates so far."""
        return self._num_updates

    def generator(self, device: torch.device | None = None) -> torch.Generator:
        """A new generator of this update.

        Args:
            device: Where it draws; None: on the CPU. Draws on a GPU cost no copy, and give other
                numbers than draws on the CPU.
        """
        if device is None or self.draws_on_cpu:
            device = torch.device("cpu")
        # SeedSequence: torch's generator uses 32 bits, and similar seeds give similar first draws.
        mixed = np.random.SeedSequence((self._seed, self._num_updates)).generate_state(1)
        return torch.Generator(device).manual_seed(int(mixed[0]))

    def after_update(self) -> None:
        """Starts the next update."""
        self._num_updates += 1

    def get_extra_state(self) -> Tensor:
        """[2], the seed and the number of updates."""
        return torch.tensor([self._seed, self._num_updates], dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        """Restores the result of ``get_extra_state``."""
        self._seed, self._num_updates = (int(value) for value in state)
