"""The number of due updates is exact, however the steps are split into fragments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlssl.algorithms.off_policy.update_ratio import UpdateRatio


def run(update_ratio: UpdateRatio, fragments: list[int]) -> int:
    """Counts each fragment's steps, and makes the updates that are due after it."""
    for num in fragments:
        update_ratio.count_steps(num)
        for _ in range(update_ratio.num_due):
            update_ratio.count_update()
    return update_ratio.num_updates


def test_updates_by_hand() -> None:
    update_ratio = UpdateRatio(starts_at=10, updates_per_agent_step=0.25)
    # 8 and 16 steps: 0 and 6 of them count. 6 / 4 is 1 update; 10 / 4 is 2; 11 / 4 is 2, too.
    expected = [(8, 0), (8, 1), (4, 2), (1, 2)]
    for num, updates in expected:
        assert run(update_ratio, [num]) == updates
    assert update_ratio.agent_steps == 21


@given(
    fragments=st.lists(st.integers(0, 50), max_size=30),
    starts_at=st.integers(0, 200),
    ratio=st.sampled_from([0.0, 0.1, 0.25, 0.29, 1.0, 2.0]),
)
def test_number_depends_only_on_the_sum_of_the_steps(
    fragments: list[int], starts_at: int, ratio: float
) -> None:
    update_ratio = UpdateRatio(starts_at=starts_at, updates_per_agent_step=ratio)
    counted = max(0, sum(fragments) - starts_at)
    # Computed in hundredths, which are integers.
    assert run(update_ratio, fragments) == round(ratio * 100) * counted // 100


def test_rounding_loses_no_update() -> None:
    # In floating point, 0.29 * 100 is 28.999999999999996.
    assert run(UpdateRatio(starts_at=0, updates_per_agent_step=0.29), [100]) == 29


def test_number_does_not_drift_over_a_long_run() -> None:
    update_ratio = UpdateRatio(starts_at=0, updates_per_agent_step=0.1)
    assert run(update_ratio, [7] * 100_000) == 70_000


def test_restored_counts_continue() -> None:
    whole = UpdateRatio(starts_at=5, updates_per_agent_step=0.3)
    run(whole, [7, 7, 7, 7])
    first = UpdateRatio(starts_at=5, updates_per_agent_step=0.3)
    run(first, [7, 7])
    second = UpdateRatio(starts_at=5, updates_per_agent_step=0.3)
    second.set_state(first.get_state())
    assert run(second, [7, 7]) == whole.num_updates == 6  # 23 * 0.3 = 6.9
    assert second.get_state() == whole.get_state()


@pytest.mark.parametrize("ratio", [0.25, 2.0])
def test_restored_run_without_replay_first_collects_steps_that_cause_no_updates(
    ratio: float,
) -> None:
    update_ratio = UpdateRatio(starts_at=8, updates_per_agent_step=ratio)
    before = run(update_ratio, [20])
    update_ratio.pause(8)
    assert run(update_ratio, [8]) == before
    assert run(update_ratio, [4]) == before + int(4 * ratio)


def test_updates_at_start_are_made_once_as_in_sac_aes_code() -> None:
    update_ratio = UpdateRatio(starts_at=1_000, updates_per_agent_step=1.0, at_start=1_000)
    # The code makes 1,000 updates at step 1,000, and then one a step.
    for num, updates in ((999, 0), (1, 1_000), (1, 1_001), (9, 1_010)):
        assert run(update_ratio, [num]) == updates
    # A lost replay buffer does not start learning again.
    update_ratio.pause(100)
    assert run(update_ratio, [100]) == 1_010
    assert run(update_ratio, [5]) == 1_015


def test_updates_at_start_survive_a_restore() -> None:
    options = {"starts_at": 10, "updates_per_agent_step": 1.0, "at_start": 7}
    whole = UpdateRatio(**options)  # type: ignore[arg-type]
    for steps, updates in ((5, 0), (7, 9), (3, 12)):
        restored = UpdateRatio(**options)  # type: ignore[arg-type]
        restored.set_state(whole.get_state())
        whole = restored
        assert run(whole, [steps]) == updates


def test_runs_of_earlier_versions_that_have_learned_make_no_updates_at_start() -> None:
    old = UpdateRatio(starts_at=10, updates_per_agent_step=1.0)
    run(old, [20])
    state = old.get_state()
    del state["starting"]
    restored = UpdateRatio(starts_at=10, updates_per_agent_step=1.0, at_start=1_000)
    restored.set_state(state)
    assert restored.num_due == 0
