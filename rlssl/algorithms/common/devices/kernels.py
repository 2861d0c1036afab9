"""Chooses kernels of a GPU that give the same bits every time."""

import os

import torch

#: cuBLAS reads it when it starts: work on several streams then cannot change its choice of kernels.
_CUBLAS_SETTING = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def use_deterministic_kernels() -> None:
    """Allows only deterministic kernels in this process.

    An operation without a deterministic kernel then raises torch's error, which names it. On the
    CPU nothing changes: with a seed, RLlib allows only deterministic kernels there anyway.
    """
    os.environ.setdefault(*_CUBLAS_SETTING)
    # A comparison first: the call imports parts of torch's compiler.
    if not torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(True)
