"""The Learners that share a batch, as one Learner sees them."""

from collections.abc import Sequence
from typing import Any

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
