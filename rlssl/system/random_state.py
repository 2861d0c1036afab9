"""Saves and restores the global random generators of this process: Python, numpy and torch."""

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def generators() -> dict[str, Any]:
    """Returns the states of the global random generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def set_generators(states: Mapping[str, Any]) -> None:
    """Restores states from `generators`; those of missing CUDA devices are ignored."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    present = torch.cuda.device_count() if states["cuda"] else 0
    for device, state in enumerate(states["cuda"][:present]):
        torch.cuda.set_rng_state(state, device)


@contextlib.contextmanager
def undisturbed_generators() -> Iterator[None]:
    """Context manager that restores the global generators at its end.

    Example:
        >>> random.seed(1)
        >>> with undisturbed_generators():
        ...     inside = random.random()
        >>> random.random() == inside
        True
    """
    before = generators()
    try:
        yield
    finally:
        set_generators(before)
