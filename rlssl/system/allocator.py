"""Keeps freed memory in the process, and new tensors unwritten until they are computed.

By default glibc maps every large tensor anew and gives it back to the kernel when it is freed, so
that each activation of each minibatch is faulted in page by page and zeroed. And RLlib's seed asks
torch for deterministic algorithms, with which torch fills every new tensor before its values come.
"""

import ctypes
import os
import sys

#: Set to 0, this leaves allocator and torch as they are.
SWITCH = "RLSSL_KEEP_MEMORY"

# Of malloc.h: parameters of mallopt, and their values here; bytes.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2
_LARGEST = 2**31 - 1
_SETTINGS = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: _LARGEST, _TOP_PAD: 256 * 2**20}


def keep_memory() -> bool:
    """Tells glibc to take large blocks from its heap and to keep what is freed.

    The process stays as large as it once was. Nothing happens without glibc, where the user has
    set ``MALLOC_*`` himself, or where ``RLSSL_KEEP_MEMORY=0``.

    Returns:
        Whether the settings hold.
    """
    chosen = os.environ.get(SWITCH) == "0" or any(key.startswith("MALLOC_") for key in os.environ)
    if chosen or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*setting) == 1 for setting in _SETTINGS.items())


def leave_unfilled() -> None:
    """Tells torch not to fill new tensors, unless ``RLSSL_KEEP_MEMORY=0``.

    Algorithms stay deterministic: nothing is read before it is written. torch fills so that a
    program that does otherwise shows it.
    """
    if os.environ.get(SWITCH) != "0":
        import torch

        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
