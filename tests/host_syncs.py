"""Counts what makes the host wait for a device, also where all tensors are on the CPU."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rlssl import augmentations
from rlssl.algorithms.common.devices import transfers
from rlssl.algorithms.common.devices.gradient_guard import DeviceGuard
from rlssl.algorithms.common.devices.transfers import DeviceTransfers
from rlssl.auxiliary import normalization
from rlssl.networks import encoders

#: Operators whose result the host needs: a number, or the size of the output.
_WAITING_OPERATORS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2")

#: Methods that copy a tensor to the host; they call no operator if it is there already.
_COPIES_TO_HOST = ("tolist", "cpu", "numpy", "__array__")

#: Functions that copy numbers of the host into a new tensor.
_COPIES_FROM_HOST = ("tensor", "as_tensor", "from_numpy")

#: Modules whose calls do not count. `transfers` reads memory of the host, after an event. The
#: others wait only if tensors are on the CPU: for a count, for positions of crops, and in torch's
#: `one_hot`, which checks its values only there.
_HOST_ONLY = tuple(
    module.__name__ for module in (transfers, normalization, augmentations, encoders)
)


class HostSyncs:
    """What was counted: name of the operator, method or function -> number of calls."""

    def __init__(self) -> None:
        #: Calls that wait for the device.
        self.waits: Counter[str] = Counter()
        #: Copies of small numbers to the device, besides those of batches.
        self.copies_from_host: Counter[str] = Counter()


class _Operators(TorchDispatchMode):
    def __init__(self, found: HostSyncs) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        waits = name in _WAITING_OPERATORS or (name == "index" and _has_mask(args[1]))
        if waits and _caller() not in _HOST_ONLY:
            self.found.waits[name] += 1
        return func(*args, **(kwargs or {}))


class _Functions(TorchFunctionMode):
    def __init__(self, found: HostSyncs) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _COPIES_TO_HOST and _caller() not in _HOST_ONLY:
            self.found.waits[name] += 1
        if name in _COPIES_FROM_HOST and _caller() not in _HOST_ONLY:
            self.found.copies_from_host[name] += 1
        return func(*args, **(kwargs or {}))


def _caller() -> str:
    """The module of the innermost frame outside of torch and of this file."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module != __name__ and not module.startswith("torch"):
            return str(module)
        frame = frame.f_back
    return ""


def _has_mask(indices: Any) -> bool:
    masks = (torch.bool, torch.uint8)
    return any(isinstance(index, Tensor) and index.dtype in masks for index in indices)


@contextmanager
def count_host_syncs() -> Iterator[HostSyncs]:
    """Context that counts.

    On the CPU it does not see that a tensor of the CPU is used on a GPU.
    """
    found = HostSyncs()
    with _Functions(found), _Operators(found):
        yield found


def as_on_a_gpu(learner: Any) -> Any:
    """The Learner, which from now on checks gradients and copies batches as on a GPU."""
    device = torch.device(learner.device)
    learner.guard, learner.transfers = DeviceGuard(device), DeviceTransfers(device)
    return learner
