"""Checks of the arguments of replay buffers."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def check_sample(batch_size: int, n_step: int, gamma: float, sequence_length: int | None) -> None:
    """Raises a ValueError if an argument of `ReplayBuffer.sample` is out of range."""
    counts = {"batch_size": batch_size, "n_step": n_step, "sequence_length": sequence_length}
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be >= 1; got {value}.")
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must be in [0, 1]; got {gamma}.")


def check_intrinsic_rewards(
    num_episodes: int, intrinsic_rewards: Sequence[Any] | None, earlier_have: bool | None
) -> None:
    """Raises a ValueError unless all steps of a buffer have intrinsic rewards, or none.

    Args:
        num_episodes: Number of new chunks.
        intrinsic_rewards: Of each new chunk; None: of none.
        earlier_have: Whether earlier steps have them; None: there are no earlier steps.
    """
    if intrinsic_rewards is not None and len(intrinsic_rewards) != num_episodes:
        raise ValueError(
            f"intrinsic_rewards must have one array per episode, {num_episodes}; got "
            f"{len(intrinsic_rewards)}."
        )
    given = intrinsic_rewards is not None
    if earlier_have is not None and given != earlier_have:
        raise ValueError(
            f"intrinsic_rewards were {'not ' if given else ''}given for earlier steps; give "
            "them for all steps or for none."
        )


def check_priorities(
    indices: np.ndarray, priorities: np.ndarray, num_serials: int
) -> tuple[np.ndarray, np.ndarray]:
    """The indices and the priorities of `ReplayBuffer.update_priorities` as arrays, if they fit.

    Args:
        indices: [B], integers.
        priorities: [B], >= 0.
        num_serials: Number of steps that were ever stored.

    Raises:
        ValueError: The message names the index.
    """
    serials = np.asarray(indices)
    values = np.asarray(priorities, np.float64)
    if serials.ndim != 1 or serials.shape != values.shape or serials.dtype.kind not in "iu":
        raise ValueError(
            f"indices must be integers [B] and priorities [B]; got {serials.dtype} "
            f"{serials.shape} and {values.shape}."
        )
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0.0)))
    if len(wrong):
        raise ValueError(
            f"priorities must be finite and >= 0; got {values[wrong[0]]} at position "
            f"{wrong[0]}, for index {serials[wrong[0]]}."
        )
    unknown = np.flatnonzero((serials < 0) | (serials >= num_serials))
    if len(unknown):
        raise ValueError(
            f"index {serials[unknown[0]]} was never drawn; pass the 'indices' of a batch."
        )
    return serials, values
