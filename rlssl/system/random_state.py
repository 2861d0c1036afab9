"""The states of this process's global random generators: Python's, numpy's and torch's."""

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def generators() -> dict[str, Any]:
    """The states of the process's global random generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def set_generators(states: Mapping[str, Any]) -> None:
    """Sets what `generators` gave; of CUDA devices, those that are there."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    present = torch.cuda.device_count() if states["cuda"] else 0
    for device, state in enumerate(states["cuda"][:present]):
        torch.cuda.set_rng_state(state, device)


@contextlib.contextmanager
def undisturbed_generators() -> Iterator[None]:
    """Whatever is drawn inside, the global generators go on as if it had not been."""
    before = generators()
    try:
        yield
    finally:
        set_generators(before)
