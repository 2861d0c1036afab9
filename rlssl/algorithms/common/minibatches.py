"""Minibatches of a training batch: every row once an epoch, in random order."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from torch import Tensor

from rlssl.batches import take_rows
from rlssl.connectors.recurrent_states import SEQUENCE_BEGINS
from rlssl.peers import ALONE, Peers


def minibatches(
    rows: Mapping[str, Any],
    *,
    num_epochs: int,
    minibatch_size: int | None,
    peers: Peers = ALONE,
) -> Iterator[dict[str, Any]]:
    """Splits each epoch into minibatches of about the wanted size.

    The sizes differ by one row at most. For a batch that is slightly too large, RLlib would add
    a minibatch and fill it with rows that were used already.

    With a column ``SEQUENCE_BEGINS``, the rows of a sequence stay together, in their order. Then
    sizes differ by about a sequence, and each minibatch has one sequence or more.

    Args:
        rows: Columns of [N, ...] tensors, nested or not.
        num_epochs: Passes over the rows.
        minibatch_size: Rows; None: the whole batch, in its order.
        peers: The Learners that share the batch; all get the same number of minibatches.
    """
    num_rows, device = len(rows[Columns.REWARDS]), rows[Columns.REWARDS].device
    count = 1
    if minibatch_size is not None:
        mean_rows = peers.rows(num_rows)[1] / peers.size
        count = max(1, round(mean_rows / minibatch_size))
    starts = None
    if SEQUENCE_BEGINS in rows:
        starts = rows[SEQUENCE_BEGINS].nonzero().squeeze(-1).cpu()
        count = min(count, *peers.gather_objects(len(starts)))
    for _ in range(num_epochs):
        if count == 1:
            yield dict(rows)
            continue
        if starts is None:
            parts = torch.tensor_split(torch.randperm(num_rows, device=device), count)
        else:
            parts = split_sequences(starts, num_rows, count)
        for index in parts:
            yield take_rows(rows, index.to(device))


def split_sequences(starts: Tensor, num_rows: int, count: int) -> tuple[Tensor, ...]:
    """Splits sequences, in random order, into parts of about equal numbers of rows.

    Args:
        starts: [S], the first row of each sequence, ascending; S >= count.
        num_rows: N, of all sequences.
        count: Number of parts.

    Returns:
        The row numbers of each part. The rows of a sequence are consecutive, and each part has at
        least one sequence.
    """
    lengths = torch.diff(starts, append=torch.tensor([num_rows]))
    order = torch.randperm(len(starts))
    lengths, starts = lengths[order], starts[order]
    ends = lengths.cumsum(0)
    # Each row of the new order is shifted by the old start of its sequence minus the new start.
    rows = torch.arange(num_rows) + (starts - (ends - lengths)).repeat_interleave(lengths)
    middles = ends.double() - 0.5 * lengths
    bounds = torch.searchsorted(middles, torch.arange(1, count) * num_rows / count)
    # Clamps the bounds, so that each part keeps at least one sequence.
    number = torch.arange(1, count)
    bounds = number + (bounds - number).cummax(0).values.clamp(0, len(starts) - count)
    return torch.tensor_split(rows, ends[bounds - 1])
