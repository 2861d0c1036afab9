"""Batches of rows with columns that may be nested: select rows, drop padding, make tensors."""

import hashlib
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns

#: Columns [N] that say where a row comes from: the number of its episode, int64, unique over
#: runners and restarts; and the number of agent steps since the start of the episode, int64.
EPISODE, STEP = "episode", "step"

#: Column [N], bool: whether a row begins a chunk of an episode. All others continue a chunk.
CHUNK_BEGINS = "chunk_begins"


def episode_number(episode_id: str) -> int:
    """The number in the column ``EPISODE`` of an episode's rows; 63 bits of a hash of its id.

    Example:
        >>> episode_number("a") == episode_number("a"), episode_number("a") == episode_number("b")
        (True, False)
    """
    digest = hashlib.blake2b(episode_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def take_rows(value: Any, index: Any) -> Any:
    """``value[index]`` for every tensor or array inside mappings and tuples.

    Example:
        >>> take_rows({"obs": (np.array([5, 6, 7]),)}, [0, 2])
        {'obs': (array([5, 7]),)}
    """
    if isinstance(value, Mapping):
        return {key: take_rows(item, index) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(take_rows(item, index) for item in value)
    return value[index]


def device_of(value: Any) -> torch.device:
    """The device of the first tensor inside mappings and tuples.

    Example:
        >>> device_of({"obs": (torch.zeros(2),)})
        device(type='cpu')
    """
    while not isinstance(value, torch.Tensor):
        value = next(iter(value.values() if isinstance(value, Mapping) else value))
    return value.device


def valid_rows(batch: Mapping[str, Any], columns: Set[str] | None = None) -> Mapping[str, Any]:
    """``batch`` without the rows that ``Columns.LOSS_MASK`` marks as padding.

    Args:
        batch: Columns, nested or not.
        columns: Columns to keep if there is padding; None: all columns.

    Example:
        >>> mask = torch.tensor([True, False, True])
        >>> valid_rows({"obs": torch.tensor([5, 6, 7]), "loss_mask": mask}, {"obs"})
        {'obs': tensor([5, 7])}
    """
    mask = batch.get(Columns.LOSS_MASK)
    if mask is None or bool(mask.all()):
        return batch
    kept = batch if columns is None else {key: batch[key] for key in columns & batch.keys()}
    # As indices: a mask would be converted to indices again for every column.
    return take_rows(kept, mask.nonzero().squeeze(-1))


def to_tensors(value: Any, device: torch.device) -> Any:
    """Arrays inside mappings and tuples as tensors on a device; dtypes do not change."""
    if isinstance(value, Mapping):
        return {key: to_tensors(item, device) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(to_tensors(item, device) for item in value)
    if isinstance(value, np.ndarray):
        # Arrays from Ray's object store are read-only, and torch warns about these.
        value = torch.from_numpy(value if value.flags.writeable else value.copy())
    if device.type == "cpu":
        return value
    return value.pin_memory().to(device, non_blocking=True)
