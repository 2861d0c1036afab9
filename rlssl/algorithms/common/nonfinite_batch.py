"""Saves a batch whose gradient was not finite, so that the cause can be found."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

#: Name of the file, with the id of its process: several Learners may share a folder.
FILE_NAME = "nonfinite_batch-{}.npz"

#: Kinds of numpy's dtypes: booleans, integers, floating and complex numbers.
_NUMBERS = "biufc"


def save_batch(batch: Mapping[str, Any], folder: str | Path | None) -> Path:
    """Writes the arrays of a batch; ``numpy.load(path)`` reads them, and executes nothing.

    Args:
        batch: Columns: tensors, arrays, numbers, and dicts or sequences of them. Nested columns
            are joined by "/" ("default_policy/obs"). Values that are not numbers are left out.
        folder: The target folder; None: the current one.

    Returns:
        The absolute path. The file appears whole or not at all.
    """
    arrays = dict(_arrays("", batch))
    path = Path(folder or ".").resolve() / FILE_NAME.format(os.getpid())
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".writing")
    with aside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    aside.replace(path)
    return path


def nonfinite_columns(batch: Mapping[str, Any]) -> list[str]:
    """The columns that hold NaN or infinity."""
    return [
        name
        for name, array in _arrays("", batch)
        if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all()
    ]


def _arrays(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _arrays(f"{name}/{key}" if name else str(key), item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _arrays(f"{name}/{index}", item)
    else:
        array = _as_array(value)
        if array.dtype.kind in _NUMBERS:
            yield name, array


def _as_array(value: Any) -> np.ndarray:
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    # numpy has no bfloat16.
    tensor = value.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
