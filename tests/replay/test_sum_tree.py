"""The sum tree against a cumulative sum over its leaves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlssl.replay.sum_tree import SumTree


def _tree_order(capacity: int) -> list[int]:
    """Leaves from left to right; leaves of the deeper level come first, if there are two levels."""
    deepest = 2 ** ((2 * capacity - 1).bit_length() - 1)
    return [node - capacity for node in [*range(deepest, 2 * capacity), *range(capacity, deepest)]]


@given(
    capacity=st.integers(1, 70),
    updates=st.lists(
        st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 9)), max_size=20), max_size=6
    ),
)
def test_find_agrees_with_a_cumulative_sum(
    capacity: int, updates: list[list[tuple[int, int]]]
) -> None:
    tree, naive = SumTree(capacity), np.zeros(capacity)
    for update in updates:
        leaves = np.array([leaf % capacity for leaf, _ in update], np.int64)
        values = np.array([value for _, value in update], np.float64)
        tree.set(leaves, values)
        for leaf, value in zip(leaves, values, strict=True):
            naive[leaf] = value
        assert tree.total() == naive.sum()  # integers: exact
        if not naive.any():
            continue
        order = _tree_order(capacity)
        sums = np.arange(0, naive.sum(), 0.5)
        expected = [order[i] for i in np.searchsorted(naive[order].cumsum(), sums, side="right")]
        assert tree.find(sums).tolist() == expected


def test_sums_after_updates_equal_those_of_a_rebuilt_tree() -> None:
    rng = np.random.default_rng(0)
    tree, rebuilt = SumTree(100_003), SumTree(100_003)
    for size in (3, 100, 1000, 9000, 50_000, 1):
        tree.set(rng.integers(0, 100_003, size), rng.random(size))
        updated = tree.sums()
        rebuilt.leaves[:] = tree.leaves
        rebuilt.rebuild()
        np.testing.assert_array_equal(updated, rebuilt.sums())


def test_leaves_of_both_levels_are_drawn_in_proportion() -> None:
    # Five leaves: nodes 5, 6, 7 on the third level, 8 and 9 on the fourth.
    tree = SumTree(5)
    tree.set(np.arange(5), np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    drawn = tree.draw(np.random.default_rng(0), 15_000)
    # One draw in each of 15,000 parts of width 0.001. A leaf of priority p fills p * 1000 parts.
    # It shares at most one part with each neighbor.
    np.testing.assert_allclose(np.bincount(drawn), [1000, 2000, 3000, 4000, 5000], atol=2)


def test_rounding_never_leads_to_a_leaf_of_priority_0() -> None:
    tree = SumTree(8)
    tree.set(np.arange(5), 0.1)
    # At the total and beyond, the last leaf with a priority above 0 is found.
    past = np.array([tree.total(), np.nextafter(tree.total(), 1.0), 10.0])
    assert tree.find(past).tolist() == [4, 4, 4]


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_smallest_trees(capacity: int) -> None:
    tree = SumTree(capacity)
    tree.set(np.array([capacity - 1]), 2.0)
    assert tree.total() == 2.0
    assert tree.find(np.array([0.0, 1.9])).tolist() == [capacity - 1] * 2


def test_last_of_repeated_leaves_counts() -> None:
    tree = SumTree(4)
    tree.set(np.array([2, 2, 2]), np.array([5.0, 1.0, 3.0]))
    assert tree.total() == 3.0
