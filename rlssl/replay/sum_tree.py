"""Draws in proportion to priorities: a binary tree of sums in one array."""

import numpy as np

#: Changed leaves that are gathered before their sums are brought up to date.
_MAX_PENDING = 8192


class SumTree:
    """Non-negative priorities of ``capacity`` leaves.

    Node 1 is the root; node i is the sum of nodes 2i and 2i + 1; leaf j is node capacity + j. Sums
    are always computed anew from the two nodes below, so that no rounding error builds up and the
    same leaves give the same sums, bit for bit, whatever happened before.
    """

    def __init__(self, capacity: int) -> None:
        """Creates a tree of zeros.

        Args:
            capacity: Number of leaves; >= 1, no power of two needed.
        """
        self.capacity = capacity
        self._nodes = np.zeros(2 * capacity)
        self._pending: list[np.ndarray] = []
        self._num_pending = 0

    @property
    def leaves(self) -> np.ndarray:
        """[capacity], float64: a view. After writing to it, call `rebuild`."""
        return self._nodes[self.capacity :]

    @property
    def nbytes(self) -> int:
        """Bytes of the sums and leaves."""
        return self._nodes.nbytes

    def set(self, leaves: np.ndarray, priorities: np.ndarray | float) -> None:
        """Sets priorities; of a leaf that is named twice, the last one counts.

        Args:
            leaves: [N], integers.
            priorities: [N] or one for all; >= 0.
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

        Over all draws, leaf j comes up ``count * priority_j / total`` times on average; never with
        priority 0.

        Args:
            generator: Gives ``count`` numbers.
            count: B.

        Returns:
            [B], integers, with repetitions.
        """
        total = self.total()
        return self.find((np.arange(count) + generator.random(count)) * (total / count))

    def find(self, sums: np.ndarray) -> np.ndarray:
        """The leaves at which the running sum over the leaves, in tree order, exceeds ``sums``.

        Args:
            sums: [N], in [0, total).

        Returns:
            [N], integers. All N optimizer_step the tree at the same time.
        """
        self._update_sums()
        nodes, rest = np.ones(len(sums), np.int64), sums.astype(np.float64)
        # Leaves lie on at most two levels, so that all have arrived but for one step.
        for _ in range((2 * self.capacity - 1).bit_length() - 2):
            nodes, rest = self._descend(nodes, rest)
        unfinished = np.flatnonzero(nodes < self.capacity)
        if len(unfinished):
            nodes[unfinished], _ = self._descend(nodes[unfinished], rest[unfinished])
        return nodes - self.capacity

    def rebuild(self) -> None:
        """Brings every sum up to date."""
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
        # A sum rounded up may lead past the last leaf: never into a branch that holds nothing.
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
        # Parents of both levels of leaves meet no earlier than their children are right: the deeper
        # leaves go up one step first.
        deepest = 2 ** ((2 * self.capacity - 1).bit_length() - 1)
        deeper = np.unique(parents[parents >= deepest] >> 1)
        nodes[deeper] = nodes[2 * deeper] + nodes[2 * deeper + 1]
        parents = np.concatenate([deeper, parents[parents < deepest]])
        while len(parents) and parents[0] > 1:
            parents = np.unique(parents >> 1) if len(parents) > 64 else parents >> 1
            nodes[parents] = nodes[2 * parents] + nodes[2 * parents + 1]
