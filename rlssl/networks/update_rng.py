"""Random draws that depend on a seed and the number of updates alone."""

import numpy as np
import torch
from torch import Tensor, nn


class UpdateRNG(nn.Module):
    """A generator that starts anew with every update.

    What is drawn for an update does not depend on what else draws from torch's global generator,
    and a restored run draws on.

    Args:
        seed: None: the one that torch's global generator was last seeded with.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        # 31 bits, because RLlib's checkpoints make int32 of it.
        self._seed = (torch.initial_seed() if seed is None else seed) % 2**31
        self._num_updates = 0

    @property
    def num_updates(self) -> int:
        """Updates made so far."""
        return self._num_updates

    def generator(self) -> torch.Generator:
        """The generator of this update, from its start; on the CPU."""
        # SeedSequence, because torch's generator takes 32 bits, and neighbours start alike.
        mixed = np.random.SeedSequence((self._seed, self._num_updates)).generate_state(1)
        return torch.Generator().manual_seed(int(mixed[0]))

    def after_update(self) -> None:
        """Turns to the next update's."""
        self._num_updates += 1

    def get_extra_state(self) -> Tensor:
        """What is drawn next: [2], the seed and the number of updates."""
        return torch.tensor([self._seed, self._num_updates], dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        """Restores what ``get_extra_state`` gave."""
        self._seed, self._num_updates = (int(value) for value in state)
