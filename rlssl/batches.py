"""Batches of rows, whose columns may be nested: selecting rows, valid rows, to tensors."""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns


def take_rows(value: Any, index: Any) -> Any:
    """``value[index]`` for every tensor or array inside mappings and tuples."""
    if isinstance(value, Mapping):
        return {key: take_rows(item, index) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(take_rows(item, index) for item in value)
    return value[index]


def valid_rows(batch: Mapping[str, Any], columns: Set[str] | None = None) -> Mapping[str, Any]:
    """``batch`` without the rows that ``Columns.LOSS_MASK`` marks as padding.

    Args:
        batch: Columns, nested or not.
        columns: Those that are needed, where there is padding; None: all.
    """
    mask = batch.get(Columns.LOSS_MASK)
    if mask is None or bool(mask.all()):
        return batch
    kept = batch if columns is None else {key: batch[key] for key in columns & batch.keys()}
    # As indices, which are found once for all columns.
    return take_rows(kept, mask.nonzero().squeeze(-1))


def to_tensors(value: Any, device: torch.device) -> Any:
    """Arrays inside mappings and tuples as tensors on a device; dtypes stay as they are."""
    if isinstance(value, Mapping):
        return {key: to_tensors(item, device) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(to_tensors(item, device) for item in value)
    if isinstance(value, np.ndarray):
        # An object store's arrays are read-only, which torch warns of.
        value = torch.from_numpy(value if value.flags.writeable else value.copy())
    if device.type == "cpu":
        return value
    return value.pin_memory().to(device, non_blocking=True)
