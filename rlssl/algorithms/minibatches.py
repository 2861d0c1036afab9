"""Minibatches of a training batch: every row once an epoch, in random order."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns

from rlssl.peers import ALONE, Peers
from rlssl.rollouts.rows import take_rows


def minibatches(
    rows: Mapping[str, Any],
    *,
    num_epochs: int,
    minibatch_size: int | None,
    peers: Peers = ALONE,
) -> Iterator[dict[str, Any]]:
    """Splits each epoch into the number of minibatches that comes nearest to the wanted size.

    Their sizes differ by one row at most. Where a batch is a little larger than asked for, RLlib
    would add a minibatch and fill it up with rows that were used already.

    Args:
        rows: Columns of [N, ...] tensors, nested or not.
        num_epochs: Passes over the rows.
        minibatch_size: Rows; None: all of them, in their order.
        peers: The Learners that share the batch; all make the same number of minibatches.
    """
    num_rows = len(rows[Columns.REWARDS])
    count = 1
    if minibatch_size is not None:
        mean_rows = peers.rows(num_rows)[1] / peers.size
        count = max(1, round(mean_rows / minibatch_size))
    for _ in range(num_epochs):
        if count == 1:
            yield dict(rows)
            continue
        order = torch.randperm(num_rows).to(rows[Columns.REWARDS].device)
        for index in torch.tensor_split(order, count):
            yield take_rows(rows, index)
