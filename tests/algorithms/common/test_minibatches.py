"""Minibatches: every row once an epoch, in equal parts of about the wanted size."""

import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.algorithms.common.minibatches import minibatches
from rlssl.connectors.recurrent_states import SEQUENCE_BEGINS
from rlssl.peers import Peers


def rows(num: int) -> dict[str, object]:
    obs = {"a": torch.arange(num), "b": (torch.arange(num) * 10,)}
    return {Columns.REWARDS: torch.arange(num), Columns.OBS: obs}


@pytest.mark.parametrize(
    "num_rows, size, sizes",
    [
        (1024, 256, [256] * 4),
        # Three more rows do not make a fifth minibatch; 131 more do.
        (1027, 256, [257, 257, 257, 256]),
        (1155, 256, [231] * 5),
        (10, 256, [10]),
        (10, None, [10]),
    ],
)
def test_each_epoch_holds_every_row_once(num_rows: int, size: int | None, sizes: list[int]) -> None:
    drawn = list(minibatches(rows(num_rows), num_epochs=3, minibatch_size=size))
    assert [len(part[Columns.REWARDS]) for part in drawn] == sizes * 3
    orders = []
    for epoch in range(3):
        parts = drawn[epoch * len(sizes) : (epoch + 1) * len(sizes)]
        orders.append(torch.cat([part[Columns.REWARDS] for part in parts]))
        assert torch.equal(orders[-1].sort().values, torch.arange(num_rows))
        for part in parts:
            assert torch.equal(part[Columns.OBS]["a"], part[Columns.REWARDS])
            assert torch.equal(part[Columns.OBS]["b"][0], 10 * part[Columns.REWARDS])
    if len(sizes) > 1:
        assert not torch.equal(orders[0], orders[1])


class _Uneven(Peers):
    """One of two Learners that have 389 rows in total."""

    size = 2

    def rows(self, num: int) -> tuple[int, int]:
        return 0, 389

    def gather_objects(self, value: int) -> list[int]:
        # The other Learner has 5 sequences.
        return [value, 5]


def test_learners_with_uneven_parts_make_the_same_number_of_minibatches() -> None:
    # 389 / 2 / 128 = 1.52: two each. Separately, 191 and 198 rows would be one and two.
    for own in (191, 198):
        parts = minibatches(rows(own), num_epochs=1, minibatch_size=128, peers=_Uneven())
        assert len(list(parts)) == 2


def sequences(lengths: list[int]) -> dict[str, object]:
    begins = torch.zeros(sum(lengths), dtype=torch.bool)
    begins[[sum(lengths[:i]) for i in range(len(lengths))]] = True
    return {**rows(sum(lengths)), SEQUENCE_BEGINS: begins}


@pytest.mark.parametrize(
    "lengths, size, sizes",
    [
        # 200 rows in four parts of 50; each size differs by at most a sequence of 20.
        ([20, 3, 17, 9, 1] * 4, 50, [50] * 4),
        # There are no more parts than sequences, and no part is empty.
        ([20, 20, 20], 8, [20] * 3),
        ([90, 1, 1, 1, 1], 20, None),
        ([20], 8, [20]),
    ],
    ids=["many", "few", "uneven", "one"],
)
def test_sequences_stay_whole_and_in_order(
    lengths: list[int], size: int, sizes: list[int] | None
) -> None:
    torch.manual_seed(0)
    drawn = list(minibatches(sequences(lengths), num_epochs=3, minibatch_size=size))
    num_rows = sum(lengths)
    count = len(drawn) // 3
    assert count == (5 if sizes is None else len(sizes))
    orders = []
    for epoch in range(3):
        parts = drawn[epoch * count : (epoch + 1) * count]
        got = torch.cat([part[Columns.REWARDS] for part in parts])
        assert torch.equal(got.sort().values, torch.arange(num_rows))
        orders.append(got)
        for index, part in enumerate(parts):
            assert len(part[Columns.REWARDS]) > 0
            if sizes is not None:
                assert abs(len(part[Columns.REWARDS]) - sizes[index]) <= max(lengths)
            begins = part[SEQUENCE_BEGINS]
            assert begins[0]
            steps = part[Columns.REWARDS].diff()
            assert (steps[~begins[1:]] == 1).all()
            # No sequence is cut: after its last row, another one begins.
            followed = torch.cat([begins[1:], torch.tensor([True])])
            ends = part[Columns.REWARDS][followed] + 1
            starts = torch.tensor([0, *lengths]).cumsum(0)
            assert torch.isin(ends, starts).all()
    if count > 1:
        assert any(not torch.equal(orders[0], other) for other in orders[1:])


def test_number_of_minibatches_is_limited_by_the_learner_with_fewest_sequences() -> None:
    # 389 / 2 / 20 = 9.7 by rows; the other Learner has 5 sequences.
    parts = minibatches(sequences([20] * 9), num_epochs=1, minibatch_size=20, peers=_Uneven())
    assert len(list(parts)) == 5
