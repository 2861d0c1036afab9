"""Draws in proportion to priorities, by a binary tree of sums in one array."""

import numpy as np

#: Largest number of changed leaves before their sums are updated.
_MAX_PENDING = 8192


class SumTree:
    """Non-negative priorities of ``capacity`` leaves.

    Node 1 is the root; node i is the sum of nodes 2i and 2i + 1; leaf j is node capacity + j. Each
    sum is computed from its two child nodes, not by adding differences. So rounding errors do not
    accumulate, and equal leaves give equal sums, bit for bit, whatever the history.
    """

    def __init__(self, capacity: int) -> None:
        """Creates a tree of zeros.

        Args:
            capacity: Number of leaves; >= 1, not necessarily a power of two.
        """
        self.capacity = capacity
        self._nodes = np.zeros(2 * capacity)
        self._pending: list[np.ndarray] = []
        self._num_pending = 0

    @property
    def leaves(self) -> np.ndarray:
        """[capacity], float64, a view. After writing to it, call `rebuild`."""
        return self._nodes[self.capacity :]

    def sums(self) -> np.ndarray:
        """[capacity - 1], float64, a view: nodes 1 to capacity - 1, the root first."""
        self._update_sums()
        return self._nodes[1 : self.capacity]

    @property
    def nbytes(self) -> int:
        """Bytes of sums and leaves."""
        return self._nodes.nbytes

    def set(self, leaves: np.ndarray, priorities: np.ndarray | float) -> None:
        """Sets priorities; if a leaf occurs twice, its last priority counts.

        Args:
            leaves: [N], integers.
            priorities: [N], or one number for all leaves; >= 0.
        """
        if not len(leaves):
            return
        self._nodes[leaves + self.capacity] = priorities
        self._pending.append(leaves)
        self._num_pending += len(leaves)
        if self._num_pending > _MAX_PENDING:
            self._update_sums()

    def total(self) -> float:
        """The sum of all priorities."""
        self._update_sums()
        return float(self._nodes[1])

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Draws one leaf from each of ``count`` equal parts of the total.

        On average, leaf j is drawn ``count * priority_j / total`` times. A leaf with priority 0 is
        never drawn.

        Args:
            generator: Random generator; ``count`` numbers are drawn from it.
            count: Number of draws B.

        Returns:
            [B], integers; leaves may repeat.
        """
        total = self.total()
        return self.find((np.arange(count) + generator.random(count)) * (total / count))

    def find(self, sums: np.ndarray) -> np.ndarray:
        """Finds the leaves at which the cumulative sum, in tree order, first exceeds ``sums``.

        Args:
            sums: [N], in [0, total).

        Returns:
            [N], integers. All N searches descend the tree together, level by level.
        """
        self._update_sums()
        nodes, rest = np.ones(len(sums), np.int64), sums.astype(np.float64)
        # Leaves are on at most two levels, so at most one more step is needed after this loop.
        for _ in range((2 * self.capacity - 1).bit_length() - 2):
            nodes, rest = self._descend(nodes, rest)
        unfinished = np.flatnonzero(nodes < self.capacity)
        if len(unfinished):
            nodes[unfinished], _ = self._descend(nodes[unfinished], rest[unfinished])
        return nodes - self.capacity

    def rebuild(self) -> None:
        """Computes every sum again from the leaves."""
        self._pending, self._num_pending = [], 0
        nodes = self._nodes
        for level in reversed(range((self.capacity - 1).bit_length())):
            first, stop = 2**level, min(2 ** (level + 1), self.capacity)
            nodes[first:stop] = (
                nodes[2 * first : 2 * stop : 2] + nodes[2 * first + 1 : 2 * stop : 2]
            )

    def _descend(self, nodes: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        left = nodes * 2
        of_left = self._nodes[left]
        # Rounding may lead past the last leaf. Never enter a branch whose sum is 0.
        right = (rest >= of_left) & (self._nodes[left + 1] > 0.0)
        return left + right, rest - of_left * right

    def _update_sums(self) -> None:
        if not self._pending:
            return
        if self._num_pending * 8 > self.capacity:
            self.rebuild()
            return
        parents = np.concatenate(self._pending) + self.capacity
        self._pending, self._num_pending = [], 0
        nodes = self._nodes
        # Update the parents of the deeper leaves first: then all remaining nodes are on one level,
        # and no parent is computed before its children.
        deepest = 2 ** ((2 * self.capacity - 1).bit_length() - 1)
        deeper = np.unique(parents[parents >= deepest] >> 1)
        nodes[deeper] = nodes[2 * deeper] + nodes[2 * deeper + 1]
        parents = np.concatenate([deeper, parents[parents < deepest]])
        while len(parents) and parents[0] > 1:
            parents = np.unique(parents >> 1) if len(parents) > 64 else parents >> 1
            nodes[parents] = nodes[2 * parents] + nodes[2 * parents + 1]
