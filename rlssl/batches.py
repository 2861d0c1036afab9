"""Batches of rows with columns that may be nested: select rows, drop padding, make tensors."""

import hashlib
import re
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns

#: Columns [N] that say where a row comes from, int64: the number of its episode; the agent steps
#: since the start of the episode; and the number of its copy of the environment. Numbers of
#: episodes and copies are unique over EnvRunners and restarts: a restarted EnvRunner has new
#: copies. The episodes of a copy have consecutive numbers, in their order in time.
EPISODE, STEP, COPY = "episode", "step", "copy"

#: The columns that say where a row comes from.
IDENTITY = frozenset({EPISODE, STEP, COPY})

#: Ids of rlssl's EnvRunners: the copy, and which of its episodes it is.
_NUMBERED = re.compile(r"(.+)\.(\d+)")

#: Bits of EPISODE that count the episodes of a copy; the 40 bits above them are the copy.
_COUNT_BITS = 23

#: Column [N], bool: whether a row begins a chunk of an episode. All others continue a chunk.
CHUNK_BEGINS = "chunk_begins"


def copy_and_count(episode_id: str) -> tuple[str, int]:
    """The copy of the environment that an episode's id names, and which of its episodes it is.

    An id without a number is not from an EnvRunner of rlssl, but from RLlib's: its copy is unknown,
    so the episode counts as the only one of a copy.

    Example:
        >>> copy_and_count("5f3a.9"), copy_and_count("5f3a")
        (('5f3a', 9), ('5f3a', 0))
    """
    numbered = _NUMBERED.fullmatch(episode_id)
    return (numbered[1], int(numbered[2])) if numbered else (episode_id, 0)


def episode_number(episode_id: str) -> int:
    """The number in the column ``EPISODE`` of an episode's rows, in [0, 2^63).

    It has 40 bits of a hash of the copy, and counts the copy's episodes modulo 2^23.

    Example:
        >>> episode_number("a.8") - episode_number("a.7")
        1
        >>> episode_number("a.8") == episode_number("b.8")
        False
    """
    copy, count = copy_and_count(episode_id)
    digest = hashlib.blake2b(copy.encode(), digest_size=5).digest()
    return int.from_bytes(digest, "little") << _COUNT_BITS | count % 2**_COUNT_BITS


def copy_number(episodes: Any) -> Any:
    """The numbers in the column ``COPY`` for numbers of episodes: tensors, arrays or an int.

    Example:
        >>> copy_number(episode_number("a.8")) == copy_number(episode_number("a.7"))
        True
    """
    return episodes >> _COUNT_BITS


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
