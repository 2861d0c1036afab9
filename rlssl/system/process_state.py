"""The global state of a trial's process, put back before the process runs its next trial."""

import gc
import random

import numpy as np
import torch

from rlssl.system.random_state import generators, set_generators


class ProcessState:
    """What a trial or its environment may change in its process, as it was before a trial.

    Modules that a trial imported stay, and so do the names that they registered and the variables
    of the process's environment, which modules set when they are imported.

    Example:
        >>> state = ProcessState()
        >>> torch.set_default_dtype(torch.float64)
        >>> state.restore()
        >>> torch.get_default_dtype()
        torch.float32
    """

    def __init__(self) -> None:
        """Takes note of the state of this process."""
        self._generators = generators()
        self._numpy_errors = np.geterr()
        self._dtype = torch.get_default_dtype()
        self._threads = torch.get_num_threads()
        self._deterministic = torch.get_deterministic_debug_mode()
        self._matmul_precision = torch.get_float32_matmul_precision()
        self._computes_gradients = torch.is_grad_enabled()
        self._finds_anomalies = torch.is_anomaly_enabled()
        self._cudnn = {name: getattr(torch.backends.cudnn, name) for name in _CUDNN}

    def restore(self) -> None:
        """Puts the noted state back.

        Python's and numpy's generators get new random states, as in a new process; torch's starts
        with the same state in every process.
        """
        np.seterr(**self._numpy_errors)
        torch.set_default_dtype(self._dtype)
        torch.set_num_threads(self._threads)
        torch.set_deterministic_debug_mode(self._deterministic)
        torch.set_float32_matmul_precision(self._matmul_precision)
        torch.set_grad_enabled(self._computes_gradients)
        torch.autograd.set_detect_anomaly(self._finds_anomalies)
        for name, value in self._cudnn.items():
            setattr(torch.backends.cudnn, name, value)
        set_generators(self._generators)
        random.seed()
        np.random.seed()


def keep_all() -> None:
    """Spares `free_memory` what is there now: mostly modules, which stay for good.

    To look at all of it takes longer than to build a small trial.
    """
    gc.freeze()


def free_memory() -> None:
    """Frees the memory of what is not used any more, and was not there at the last `keep_all`."""
    gc.collect()
    keep_all()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


#: Attributes of ``torch.backends.cudnn`` that RLlib or a user may set.
_CUDNN = ("benchmark", "deterministic", "allow_tf32")
