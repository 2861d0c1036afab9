"""n-step returns for many rows at once."""

from dataclasses import dataclass

import numpy as np

from rlssl.replay.hindsight.relabeling import Goals
from rlssl.replay.ring import Ring
from rlssl.replay.storage import RowStorage


@dataclass(frozen=True, slots=True)
class Window:
    """Sums over at most n steps that start at each row; arrays of the rows' shape."""

    # Number of steps: n, or fewer if the episode or its newest row comes earlier.
    num_steps: np.ndarray
    # Slots of the rows with the observation after the last of these steps.
    last: np.ndarray
    # sum_i gamma^i r_i, float32.
    rewards: np.ndarray
    intrinsic_rewards: np.ndarray | None
    terminated: np.ndarray
    truncated: np.ndarray


def n_step_window(
    rows: RowStorage,
    ring: Ring,
    slots: np.ndarray,
    n_step: int,
    gamma: float,
    goals: Goals | None = None,
) -> Window:
    """Sums rewards over the next ``n_step`` steps of each row's episode.

    Args:
        rows: The storage.
        ring: The links.
        slots: [...], integers: drawable rows.
        n_step: Largest number of steps; >= 1.
        gamma: Discount per step.
        goals: Goals of the rows, with which rewards are computed and windows end; None: rewards are
            those that were sampled.

    Returns:
        The windows. The code loops over ``n_step``, not over rows.
    """
    alive = np.ones(slots.shape, np.bool_)
    num_steps = np.zeros(slots.shape, np.int32)
    rewards = np.zeros(slots.shape)
    intrinsic = None if rows.intrinsic_rewards is None else np.zeros(slots.shape)
    terminated, truncated = np.zeros_like(alive), np.zeros_like(alive)
    for i in range(n_step):
        num_steps += alive
        following = ring.following(slots)
        if goals is None:
            gained, ended, cut = rows.rewards[slots], rows.terminated[slots], rows.truncated[slots]
        else:
            gained, ended, cut = goals.outcomes(slots, following)
            # A window that has ended stays where it is.
            following, ended, cut = np.where(alive, following, slots), ended & alive, cut & alive
        # Rows without a step have no reward; their memory holds old numbers.
        rewards += gamma**i * np.where(alive, gained, 0.0)
        if intrinsic is not None and rows.intrinsic_rewards is not None:
            intrinsic += gamma**i * np.where(alive, rows.intrinsic_rewards[slots], 0.0)
        terminated |= ended
        truncated |= cut
        slots = following
        alive = rows.next_offset[slots] > 0
        if goals is not None:
            alive &= ~terminated
        if not alive.any():
            break
    return Window(
        num_steps,
        slots,
        rewards.astype(np.float32),
        None if intrinsic is None else intrinsic.astype(np.float32),
        terminated,
        truncated,
    )
