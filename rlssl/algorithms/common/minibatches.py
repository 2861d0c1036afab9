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
    """Splits each epoch into the number of minibatches that comes nearest to the wanted size.

    Their sizes differ by one row at most. Where a batch is a little larger than asked for, RLlib
    would add a minibatch and fill it up with rows that were used already.

    Rows of sequences (a column ``SEQUENCE_BEGINS``) stay together, in their order: the sizes then
    differ by a sequence or so, and no minibatch has less than one.

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
    starts = None
    if SEQUENCE_BEGINS in rows:
        starts = rows[SEQUENCE_BEGINS].nonzero().squeeze(-1).cpu()
        count = min(count, *peers.gather_objects(len(starts)))
    for _ in range(num_epochs):
        if count == 1:
            yield dict(rows)
            continue
        if starts is None:
            parts = torch.tensor_split(torch.randperm(num_rows), count)
        else:
            parts = split_sequences(starts, num_rows, count)
        for index in parts:
            yield take_rows(rows, index.to(rows[Columns.REWARDS].device))


def split_sequences(starts: Tensor, num_rows: int, count: int) -> tuple[Tensor, ...]:
    """Deals sequences in random order to parts with as many rows as can be equal.

    Args:
        starts: [S], the first row of each sequence, ascending; S >= count.
        num_rows: N, of all sequences.
        count: Number of parts.

    Returns:
        Row numbers, those of a sequence behind each other; every part has a sequence at least.
    """
    lengths = torch.diff(starts, append=torch.tensor([num_rows]))
    order = torch.randperm(len(starts))
    lengths, starts = lengths[order], starts[order]
    ends = lengths.cumsum(0)
    # Row i of the new order is so many rows behind where its sequence lay before.
    rows = torch.arange(num_rows) + (starts - (ends - lengths)).repeat_interleave(lengths)
    middles = ends.double() - 0.5 * lengths
    bounds = torch.searchsorted(middles, torch.arange(1, count) * num_rows / count)
    # Each part has one sequence; what is left of the bounds moves no further than that allows.
    number = torch.arange(1, count)
    bounds = number + (bounds - number).cummax(0).values.clamp(0, len(starts) - count)
    return torch.tensor_split(rows, ends[bounds - 1])
