"""n-step returns by hand at every kind of end; gamma is 0.5, so all numbers are exact."""

from typing import Any

import numpy as np
import pytest
from ray.rllib.core.columns import Columns

from rlssl.replay import ReplayBuffer
from tests.replay.episodes import ACTIONS, VECTOR, all_steps, vector_chunk


def _steps(buffer: ReplayBuffer, n_step: int = 3, gamma: float = 0.5) -> dict[float, Any]:
    """First observation of each step -> its transition."""
    rows = all_steps(buffer, n_step=n_step, gamma=gamma)
    return {float(row["obs"][0]): row for row in rows.values()}


def _summary(row: dict[str, Any]) -> tuple[float, float, int, float, bool, bool]:
    """(rewards, next observation, k, discount, terminated, truncated)."""
    return (
        float(row["rewards"]),
        float(row["new_obs"][0]),
        int(row["n_step"]),
        float(row["discounts"]),
        bool(row["terminateds"]),
        bool(row["truncateds"]),
    )


@pytest.fixture
def buffer() -> ReplayBuffer:
    return ReplayBuffer(50, VECTOR, ACTIONS, seed=0)


def test_termination_ends_the_window_and_the_bootstrap(buffer: ReplayBuffer) -> None:
    buffer.add([vector_chunk(10, [1, 2, 4, 8], terminated=True)])
    steps = _steps(buffer)
    assert steps.keys() == {10, 11, 12, 13}  # the last steps can be drawn too
    # 1 + 2/2 + 4/4 = 3; three steps later is 13; 0.5^3 = 0.125.
    assert _summary(steps[10]) == (3.0, 13.0, 3, 0.125, False, False)
    # 2 + 4/2 + 8/4 = 6; the third step terminates, so the discount is 0.
    assert _summary(steps[11]) == (6.0, 14.0, 3, 0.0, True, False)
    # 4 + 8/2 = 8; two steps are left.
    assert _summary(steps[12]) == (8.0, 14.0, 2, 0.0, True, False)
    assert _summary(steps[13]) == (8.0, 14.0, 1, 0.0, True, False)


def test_truncation_ends_the_window_but_not_the_bootstrap(buffer: ReplayBuffer) -> None:
    buffer.add([vector_chunk(10, [1, 2, 4], truncated=True)])
    steps = _steps(buffer)
    assert _summary(steps[10]) == (3.0, 13.0, 3, 0.125, False, True)
    # 2 + 4/2 = 4, plus the value of the last observation, 13, two steps later: 0.5^2 = 0.25.
    assert _summary(steps[11]) == (4.0, 13.0, 2, 0.25, False, True)
    assert _summary(steps[12]) == (4.0, 13.0, 1, 0.5, False, True)


def test_window_does_not_cross_a_soft_termination(
    buffer: ReplayBuffer,
) -> None:
    # A life is lost at 12: this frame ends one learning episode and starts the next.
    buffer.add(
        [
            vector_chunk(10, [1, 2], id_="life 1", terminated=True),
            vector_chunk(12, [4, 8], id_="life 2"),
        ]
    )
    steps = _steps(buffer)
    assert _summary(steps[10]) == (2.0, 12.0, 2, 0.0, True, False)  # 1 + 2/2
    assert _summary(steps[11]) == (2.0, 12.0, 1, 0.0, True, False)
    assert _summary(steps[12]) == (8.0, 14.0, 2, 0.25, False, False)  # 4 + 8/2


def test_unfinished_episode_bootstraps_from_its_newest_observation(buffer: ReplayBuffer) -> None:
    buffer.add([vector_chunk(10, [1, 2, 4])])
    steps = _steps(buffer)
    assert _summary(steps[12]) == (4.0, 13.0, 1, 0.5, False, False)
    buffer.add([vector_chunk(13, [8, 16], t_started=3)])
    steps = _steps(buffer)
    assert steps.keys() == {10, 11, 12, 13, 14}
    # 4 + 8/2 + 16/4 = 12: the window now reaches into the next chunk.
    assert _summary(steps[12]) == (12.0, 15.0, 3, 0.125, False, False)


def test_termination_on_the_last_step_of_the_window(buffer: ReplayBuffer) -> None:
    # T - t = n: the window ends with the episode. T - t = n + 1: the window ends one step earlier.
    # The observation after it is not terminal, so the bootstrap stays (Kaixhin's code drops it).
    buffer.add([vector_chunk(10, [1, 1, 1, 1], terminated=True)])
    steps = _steps(buffer)
    assert _summary(steps[11])[2:5] == (3, 0.0, True)
    assert _summary(steps[10])[2:5] == (3, 0.125, False)


def test_long_windows_of_short_episodes_end(buffer: ReplayBuffer) -> None:
    # RLlib's buffer hangs here, or never draws the steps 11 to 29.
    buffer.add([vector_chunk(0, [1] * 30, terminated=True)])
    steps = _steps(buffer, n_step=20, gamma=1.0)
    assert sorted(steps) == list(range(30))
    assert [int(steps[i]["rewards"]) for i in (0, 10, 11, 29)] == [20, 20, 19, 1]


def test_terminated_and_truncated_at_once_is_terminated(buffer: ReplayBuffer) -> None:
    buffer.add([vector_chunk(0, [1], terminated=True, truncated=True)])
    assert _summary(_steps(buffer)[0]) == (1.0, 1.0, 1, 0.0, True, True)


def test_intrinsic_rewards_are_summed_apart(buffer: ReplayBuffer) -> None:
    buffer.add([vector_chunk(10, [1, 2], id_="a")], [np.array([16.0, 32.0])])
    buffer.add([vector_chunk(12, [4], id_="a", t_started=2, terminated=True)], [np.array([64.0])])
    row = _steps(buffer)[10]
    assert row["rewards"] == 3.0  # 1 + 2/2 + 4/4
    assert row["intrinsic_rewards"] == 48.0  # 16 + 32/2 + 64/4


def test_without_intrinsic_rewards_there_is_no_such_column(buffer: ReplayBuffer) -> None:
    buffer.add([vector_chunk(0, [1])])
    assert "intrinsic_rewards" not in buffer.sample(1)


def test_sequences_stop_at_the_end_and_hold_zeros_after_it(buffer: ReplayBuffer) -> None:
    buffer.add([vector_chunk(10, [1, 2, 4], truncated=True), vector_chunk(50, [8], id_="other")])
    rows = all_steps(buffer, sequence_length=3, gamma=0.5)
    by_start = {float(row["obs"][0, 0]): row for row in rows.values()}
    row = by_start[11]
    assert row["mask"].tolist() == [True, True, False]
    assert row["obs"][:, 0].tolist() == [11, 12, 0]
    assert row["new_obs"][:, 0].tolist() == [12, 13, 0]
    assert row["actions"].tolist() == [1, 2, 0]
    assert row["rewards"].tolist() == [2, 4, 0]
    assert row["truncateds"].tolist() == [False, True, False]
    assert row["discounts"].tolist() == [0.5, 0.5, 0]
    assert row["n_step"].tolist() == [1, 1, 0]
    assert by_start[10]["mask"].tolist() == [True] * 3
    assert by_start[50]["mask"].tolist() == [True, False, False]


def test_shapes_and_types_of_a_batch(buffer: ReplayBuffer) -> None:
    buffer.add([vector_chunk(0, [1, 2], terminated=True)])
    kinds = {key: (value.shape, str(value.dtype)) for key, value in buffer.sample(4).items()}
    assert kinds == {
        "obs": ((4, 1), "float32"),
        "new_obs": ((4, 1), "float32"),
        "actions": ((4,), "int64"),
        "rewards": ((4,), "float32"),
        "terminateds": ((4,), "bool"),
        "truncateds": ((4,), "bool"),
        "n_step": ((4,), "int32"),
        "discounts": ((4,), "float32"),
        "weights": ((4,), "float32"),
        "indices": ((4,), "int64"),
    }


def test_drawn_steps_are_gathered_again_with_another_n_step() -> None:
    buffer = ReplayBuffer(12, VECTOR, ACTIONS, seed=0)
    buffer.add([vector_chunk(0, range(100, 108), terminated=True)])
    batch = buffer.sample(20, n_step=3, gamma=0.5)
    single = buffer.gather(batch["indices"])
    t = batch[Columns.OBS][:, 0]
    # Step t has the observations t and t + 1, and the reward 100 + t.
    np.testing.assert_array_equal(single[Columns.OBS][:, 0], t)
    np.testing.assert_array_equal(single[Columns.NEXT_OBS][:, 0], t + 1)
    np.testing.assert_array_equal(single[Columns.REWARDS], 100 + t)
    # 9 of 12 rows are in use; 12 new rows replace them all.
    buffer.add([vector_chunk(0, range(100, 111), terminated=True, id_="other")])
    with pytest.raises(ValueError, match="are gone"):
        buffer.gather(batch["indices"])
