"""Keeps freed memory in the process, and stops torch from filling new tensors.

By default glibc maps new memory for every large tensor and returns it to the kernel when the tensor
is freed. Each activation of each minibatch then causes page faults, and the kernel zeroes each
page. RLlib's seed also selects torch's deterministic algorithms, with which torch fills every new
tensor before it writes the values.
"""

import ctypes
import os
import sys

#: Environment variable; 0 leaves the allocator and torch unchanged.
SWITCH = "RLSSL_KEEP_MEMORY"

# Parameters of mallopt (malloc.h), and their values in bytes.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2
_LARGEST = 2**31 - 1
_SETTINGS = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: _LARGEST, _TOP_PAD: 256 * 2**20}


def keep_memory() -> bool:
    """Tells glibc to take large blocks from its heap and to keep freed memory.

    The process never shrinks. Nothing happens without glibc, with ``MALLOC_*`` variables of the
    user, or with ``RLSSL_KEEP_MEMORY=0``.

    Returns:
        Whether the settings were applied.
    """
    chosen = os.environ.get(SWITCH) == "0" or any(key.startswith("MALLOC_") for key in os.environ)
    if chosen or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*setting) == 1 for setting in _SETTINGS.items())


def leave_unfilled() -> None:
    """Tells torch not to fill new tensors, unless ``RLSSL_KEEP_MEMORY=0``.

    Algorithms stay deterministic, because nothing is read before it is written. torch fills tensors
    only to reveal programs that read them too early.
    """
    if os.environ.get(SWITCH) != "0":
        import torch

        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
