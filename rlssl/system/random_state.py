"""Saves, restores and exchanges the global random generators of this process.

They are those of Python, numpy and torch.
"""

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator

from rlssl.system.seeding import seed_globals


def generators() -> dict[str, Any]:
    """Returns the states of the global random generators.

    Of CUDA's only that of the device in use: a process of rlssl learns or acts on one device. Other
    processes may use the others.
    """
    cuda = {}
    if torch.cuda.is_initialized():
        device = torch.cuda.current_device()
        cuda = {device: torch.cuda.get_rng_state(device)}
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
    cuda = states["cuda"]
    # A list, with a state for each device, in checkpoints of earlier versions.
    of_devices = dict(cuda) if isinstance(cuda, Mapping) else dict(enumerate(cuda))
    present = torch.cuda.device_count() if of_devices else 0
    for device, state in of_devices.items():
        if device < present:
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


class OwnGenerators:
    """Global generators that are only in place while their owner runs.

    An EnvRunner and a Learner may share a process. Each would disturb the other's draws. CUDA's
    generators are not exchanged: the runner of a trial's process is on the CPU.

    Example:
        >>> own = OwnGenerators(np.random.SeedSequence(0))
        >>> before = random.getstate()
        >>> with own.in_place():
        ...     first = random.random()
        >>> random.getstate() == before
        True
        >>> with own.in_place():
        ...     second = random.random()
        >>> first == second
        False
    """

    def __init__(self, source: np.random.SeedSequence) -> None:
        """Seeds the generators; the process's are not changed."""
        self._is_in_place = False
        with undisturbed_generators():
            seed_globals(source)
            self.set(generators())

    def get(self) -> dict[str, Any]:
        """The states, in the form of `generators`, without CUDA's."""
        if self._is_in_place:
            return {**generators(), "cuda": {}}
        numpy_state = np.random.RandomState(self._numpy).get_state()
        return {"python": self._python, "numpy": numpy_state, "torch": self._torch, "cuda": {}}

    def set(self, states: Mapping[str, Any]) -> None:
        """Sets states from `generators`, except CUDA's."""
        assert not self._is_in_place
        self._python, self._torch = states["python"], states["torch"]
        self._numpy = np.random.MT19937()
        # numpy's global generator exchanges its source in microseconds, its state in a hundred.
        np.random.RandomState(self._numpy).set_state(states["numpy"])

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Context in which these are the process's generators. It may be entered again inside."""
        if self._is_in_place:
            yield
            return
        theirs = random.getstate(), get_bit_generator(), torch.get_rng_state()
        self._put(self._python, self._numpy, self._torch)
        self._is_in_place = True
        try:
            yield
        finally:
            self._is_in_place = False
            self._python, self._torch = random.getstate(), torch.get_rng_state()
            self._put(*theirs)

    def _put(self, python: Any, numpy_source: Any, torch_state: torch.Tensor) -> None:
        random.setstate(python)
        set_bit_generator(numpy_source)
        torch.set_rng_state(torch_state)
