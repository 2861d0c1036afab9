"""The Learners that share a batch, as one Learner sees them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

#: Index of a Learner's first row in the batch of all Learners, and number of rows in that batch.
RowRange = tuple[int, int]


class Peers:
    """The peers of a single Learner. See `rlssl.algorithms.common.distributed` for several.

    Every Learner must call the same methods in the same order, even without rows.
    """

    #: Index of this Learner; the first one is 0.
    rank = 0
    #: Number of Learners.
    size = 1

    def rows(self, num: int) -> RowRange:
        """The first index of this Learner's ``num`` rows, and the rows of all Learners.

        Example:
            >>> ALONE.rows(64)
            (0, 64)
        """
        return 0, num

    def gather(self, rows: Tensor) -> Tensor:
        """[total, ...]: the rows of all Learners, given this Learner's [num, ...]; no gradients."""
        return rows

    def gather_objects(self, value: Any) -> list[Any]:
        """The values of all Learners, by rank."""
        return [value]

    def mean_counts(self, counts: Sequence[int]) -> list[float]:
        """The mean over the Learners of each of this Learner's ``counts``, in one exchange.

        A Learner that divides the sum of its rows by the mean number of rows gets a value whose
        mean over the Learners is the mean over all rows.

        Example:
            >>> ALONE.mean_counts([64, 3])
            [64.0, 3.0]
        """
        return [float(count) for count in counts]

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the Learners of a tensor of equal shape; without gradients."""
        return value


#: The peers of a Learner without peers.
ALONE = Peers()


def shuffled_rows(num: int, peers: Peers, generator: torch.Generator) -> Tensor:
    """[num], another row for each of this Learner's rows: an index into the rows of all Learners.

    Over all Learners, these are a permutation. A row may be its own other row.

    Args:
        num: Number of this Learner's rows.
        peers: The Learners that share the batch.
        generator: Generator of the draws; its state is the same on all Learners.
    """
    first, total = peers.rows(num)
    order = torch.randperm(total, generator=generator, device=generator.device)
    return order[first : first + num]


def all_rows(rows: Tensor, peers: Peers) -> Tensor:
    """The rows of all Learners, in rank order; only this Learner's rows have a graph.

    For losses that read every row, such as variances: each Learner computes the loss of all rows,
    and `own_rows` gives it the gradient with respect to its own rows.

    Args:
        rows: [num, ...], this Learner's rows.
        peers: The Learners that share the batch.

    Returns:
        [total, ...].
    """
    if peers.size == 1:
        return rows
    first, _ = peers.rows(len(rows))
    everyone = peers.gather(rows.detach())
    return torch.cat([everyone[:first], rows, everyone[first + len(rows) :]])


def own_rows(losses: Tensor, num: int, peers: Peers) -> Tensor:
    """This Learner's part of the losses of all rows, with the gradient of all of them.

    The mean of the result over all rows of all Learners has the value and, summed over the
    Learners, the gradient of the mean of ``losses`` in one process: a Learner's own rows also
    change the losses of the others' rows.

    Args:
        losses: [total], computed from `all_rows`.
        num: Number of this Learner's rows.
        peers: The Learners that share the batch.

    Returns:
        [num].
    """
    if peers.size == 1:
        return losses
    first, _ = peers.rows(num)
    own = losses[first : first + num]
    others = losses[:first].sum() + losses[first + num :].sum()
    return own + (others - others.detach()) / max(num, 1)
