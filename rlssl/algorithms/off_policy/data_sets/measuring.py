"""Rows of a data set on which losses and diagnostics are measured, the same at every evaluation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import tree
from ray.rllib.core.columns import Columns

from rlssl.algorithms.off_policy.batches import rows_at
from rlssl.auxiliary.needs import Needs
from rlssl.diagnostics.recording import NUM_ROWS, Rows
from rlssl.replay import ReplayBuffer

#: The most rows on which losses are measured, if a batch has fewer.
NUM_MEASURED = 1024


def measured_batches(
    replay: ReplayBuffer, batch_size: int, *, n_step: int, gamma: float, needs: Needs
) -> Iterator[dict[str, Any]]:
    """Batches of held-out rows, as those of training: some losses compare the rows of a batch.

    Args:
        replay: The rows.
        batch_size: Rows of a batch; fewer if there are not so many.
        n_step: Steps of the RL loss.
        gamma: Discount per step.
        needs: What the auxiliary losses read.
    """
    indices = replay.drawable_indices()
    # Neighbors in an episode look alike. The order is the same at every evaluation.
    indices = np.random.default_rng(0).permutation(indices)
    size = min(batch_size, len(indices))
    for number in range(min(len(indices) // size, max(1, NUM_MEASURED // size))):
        part = indices[number * size : (number + 1) * size]
        yield rows_at(replay, part, n_step=n_step, gamma=gamma, needs=needs)


def rows_of_episodes(replay: ReplayBuffer, num_episodes: int) -> Rows:
    """Steps of whole episodes, evenly spread over a data set, for diagnostics.

    Args:
        replay: A buffer that was filled from a data set.
        num_episodes: The most episodes.
    """
    indices = replay.drawable_indices()
    # An episode of T steps has T + 1 rows: between two episodes, an index is left out.
    episodes = np.concatenate([[0], np.cumsum(np.diff(indices) > 1)])
    last = episodes[-1]
    chosen = np.unique(np.linspace(0, last, min(num_episodes, last + 1)).round().astype(int))
    kept = np.flatnonzero(np.isin(episodes, chosen))
    kept = kept[np.unique(np.linspace(0, len(kept) - 1, min(NUM_ROWS, len(kept))).astype(int))]
    found = replay.gather(indices[kept])
    actions = [leaf.reshape(len(kept), -1) for leaf in tree.flatten(found[Columns.ACTIONS])]
    return Rows(
        observations=tree.map_structure(torch.as_tensor, found[Columns.OBS]),
        actions=np.concatenate(actions, axis=1),
        rewards=found[Columns.REWARDS],
        episodes=episodes[kept],
    )
