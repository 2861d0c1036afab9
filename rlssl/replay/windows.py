"""Walks along episodes in the rows of a replay buffer: sequences and windows."""

from typing import NamedTuple

import numpy as np
from ray.rllib.core.columns import Columns

from rlssl.replay.ring import Ring
from rlssl.replay.storage import RowStorage


class Places(NamedTuple):
    """The rows of windows; arrays [B, W]."""

    # Slots; outside of the episode, its nearest row.
    slots: np.ndarray
    # Whether the row is in the episode, and its observation is stored.
    valid: np.ndarray
    # Whether a step was taken from the row.
    has_step: np.ndarray


def windows_around(
    rows: RowStorage, ring: Ring, slots: np.ndarray, before: int, after: int
) -> Places:
    """The rows around drawable rows, in their episodes.

    A row before is valid only if its whole stack of frames is stored. The last row after may be the
    final observation of an episode, or the newest observation of an unfinished one.

    Args:
        rows: The storage.
        ring: The links.
        slots: [B], drawable rows.
        before: Rows before each row.
        after: Rows after each row.
    """
    taken, valid = [slots], [np.ones(len(slots), np.bool_)]
    for _ in range(before):
        offset = rows.previous_offset[taken[0]]
        earlier = (taken[0] - offset) % ring.capacity
        # The slot of a row that is gone holds a row of another episode.
        is_alive = (offset > 0) & (ring.serials(taken[0]) - offset >= ring.oldest)
        exists = valid[0] & is_alive & rows.drawable[earlier]
        taken.insert(0, np.where(exists, earlier, taken[0]))
        valid.insert(0, exists)
    for _ in range(after):
        later = ring.following(taken[-1])
        taken.append(later)
        valid.append(valid[-1] & (later != taken[-2]))
    places, is_valid = np.stack(taken, axis=1), np.stack(valid, axis=1)
    return Places(places, is_valid, is_valid & (rows.next_offset[places] > 0))


def steps_of(rows: RowStorage, places: Places, before: int) -> dict[str, list[np.ndarray]]:
    """The leaves [B, W, ...] of what windows have besides observations.

    Where there is no step, memory holds old numbers: rewards and flags are then 0, and the action
    is that of the window's own row, at the place ``before``.
    """
    slots, has_step = places.slots, places.has_step
    stepping = np.where(has_step, slots, slots[:, before : before + 1])
    return {
        Columns.ACTIONS: [leaf[stepping] for leaf in rows.actions],
        Columns.REWARDS: [np.where(has_step, rows.rewards[slots], np.float32(0))],
        Columns.TERMINATEDS: [has_step & rows.terminated[slots]],
        **rows.identity_at(slots),
    }


def sequences_from(
    rows: RowStorage, ring: Ring, slots: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """[B, length] each: slots of the steps that start at each slot, and whether they exist."""
    steps = [slots]
    for _ in range(length - 1):
        steps.append(ring.following(steps[-1]))
    sequences = np.stack(steps, axis=1)
    mask = rows.next_offset[sequences] > 0
    # After the end, any row with a complete stack will do: take the first row of the sequence.
    return np.where(mask, sequences, slots[:, None]), mask
