"""The Learners that share a batch: what one must know of the others."""

from typing import Any

from torch import Tensor

#: First row and number of rows of the batch that a Learner's rows are a part of.
RowRange = tuple[int, int]


class Peers:
    """A Learner on its own. `rlssl.algorithms.common.distributed` has the one for several.

    Every Learner calls the same methods in the same order, also with no rows.
    """

    #: Position among the Learners; the first one is 0.
    rank = 0
    #: How many Learners there are.
    size = 1

    def rows(self, num: int) -> RowRange:
        """Where this Learner's ``num`` rows begin in the batch of all, and how many that has."""
        return 0, num

    def gather(self, rows: Tensor) -> Tensor:
        """[total, ...] rows of all Learners, from this one's [num, ...]; without gradients."""
        return rows

    def gather_objects(self, value: Any) -> list[Any]:
        """The value of every Learner, by rank."""
        return [value]

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor of the same shape over the Learners; without gradients."""
        return value


#: The peers of a Learner that has none.
ALONE = Peers()
