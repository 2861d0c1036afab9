"""Batches of the replay buffer: n-step columns for the RL loss, one-step for other losses."""

from typing import Any

import numpy as np
import pytest
from ray.rllib.core.columns import Columns

from rlssl.algorithms.off_policy.batches import AUXILIARY_COLUMNS, INDICES, draw
from rlssl.auxiliary.needs import Needs
from rlssl.replay import PrioritizedReplayBuffer, ReplayBuffer
from tests.replay.episodes import ACTIONS, VECTOR, vector_chunk

READS = frozenset({Columns.OBS, Columns.NEXT_OBS, Columns.ACTIONS, Columns.REWARDS})


def filled(kind: type[ReplayBuffer] = PrioritizedReplayBuffer) -> ReplayBuffer:
    """20 steps: step t goes from observation t to t + 1, with reward 100 + t."""
    replay = kind(100, VECTOR, ACTIONS, seed=0)
    replay.add([vector_chunk(0, range(100, 120), terminated=True)])
    return replay


def draw_from(replay: ReplayBuffer, **options: Any) -> dict[str, Any]:
    settings = {"n_step": 3, "gamma": 0.5, "beta": 0.5, "needs": Needs(READS)}
    return draw(replay, 64, **{**settings, **options})


def test_auxiliary_losses_see_single_steps_of_the_same_rows() -> None:
    batch = draw_from(filled())
    single = batch[AUXILIARY_COLUMNS]
    assert single.keys() == {Columns.NEXT_OBS, Columns.REWARDS}
    t = batch[Columns.OBS][:, 0]
    np.testing.assert_array_equal(single[Columns.NEXT_OBS][:, 0], t + 1)
    np.testing.assert_array_equal(single[Columns.REWARDS], 100 + t)
    # The RL loss: three steps, or fewer at the end. Before, r = 100 + t + 0.5 (101 + t) + ...
    inside = t < 18
    np.testing.assert_array_equal(batch[Columns.NEXT_OBS][inside, 0], t[inside] + 3)
    expected = (100 + t) + 0.5 * (101 + t) + 0.25 * (102 + t)
    np.testing.assert_allclose(batch[Columns.REWARDS][inside], expected[inside])
    assert inside.any() and not inside.all()


@pytest.mark.parametrize(
    "options", [{"n_step": 1}, {"needs": Needs(frozenset({Columns.OBS}))}, {"needs": Needs()}]
)
def test_only_columns_that_are_read_are_gathered(options: dict[str, Any]) -> None:
    assert AUXILIARY_COLUMNS not in draw_from(filled(), **options)


def test_columns_for_the_losses_do_not_change_the_draws() -> None:
    one, other = filled(), filled()
    for _ in range(3):
        first = draw_from(one)
        second = draw_from(other, needs=Needs())
        np.testing.assert_array_equal(first[INDICES], second[INDICES])


@pytest.mark.parametrize("kind", [ReplayBuffer, PrioritizedReplayBuffer])
def test_separate_rows_for_losses_are_drawn_uniformly(kind: type[ReplayBuffer]) -> None:
    replay = filled(kind)
    # One step has almost all of the priority.
    replay.update_priorities(np.arange(20), np.where(np.arange(20) == 4, 1e6, 1e-6))
    drawn, of_losses = [], []
    for _ in range(20):
        batch = draw_from(replay, uniform_for_auxiliary=True)
        drawn += batch[Columns.OBS][:, 0].tolist()
        single = batch[AUXILIARY_COLUMNS]
        assert single.keys() == READS
        np.testing.assert_array_equal(single[Columns.NEXT_OBS], single[Columns.OBS] + 1)
        of_losses += single[Columns.OBS][:, 0].tolist()
    counts = np.bincount(np.array(of_losses, int), minlength=20)
    # 1280 draws, 64 per step; standard deviation 7.8.
    assert counts.min() > 64 - 5 * 7.8 and counts.max() < 64 + 5 * 7.8
    if kind is PrioritizedReplayBuffer:
        assert drawn.count(4.0) > 0.99 * len(drawn)
