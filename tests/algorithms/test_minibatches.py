"""Minibatches: every row once an epoch, sizes as near to the wanted one as they can be equal."""

import pytest
import torch
from ray.rllib.core.columns import Columns

from rlssl.algorithms.minibatches import minibatches
from rlssl.peers import Peers


def rows(num: int) -> dict[str, object]:
    obs = {"a": torch.arange(num), "b": (torch.arange(num) * 10,)}
    return {Columns.REWARDS: torch.arange(num), Columns.OBS: obs}


@pytest.mark.parametrize(
    "num_rows, size, sizes",
    [
        (1024, 256, [256] * 4),
        # Three rows more are no fifth minibatch; 131 more are one.
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
    """One of two Learners that have 389 rows together."""

    size = 2

    def rows(self, num: int) -> tuple[int, int]:
        return 0, 389


def test_learners_with_uneven_parts_make_equally_many_minibatches() -> None:
    # 389 / 2 / 128 = 1.52: two each; by themselves 191 and 198 rows would be one and two.
    for own in (191, 198):
        parts = minibatches(rows(own), num_epochs=1, minibatch_size=128, peers=_Uneven())
        assert len(list(parts)) == 2
