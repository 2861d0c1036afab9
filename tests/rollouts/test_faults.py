"""The rules by which a run continues or ends after an environment's fault."""

from typing import Any

import pytest
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rlssl.environments.observation_checks import BadObservationError
from rlssl.environments.timeout import EnvironmentTimeoutError
from rlssl.errors import EnvironmentFaultError
from rlssl.rollouts.batch_checks import BadRewardError
from rlssl.rollouts.faults import Fault, FaultLedger


def crash(slot: int | None) -> Fault:
    return Fault("step", KeyError("gone"), slot)


def timeout(slot: int | None) -> Fault:
    return Fault("step", EnvironmentTimeoutError(), slot)


def make_ledger(num_slots: int, **options: Any) -> FaultLedger:
    return FaultLedger("lab/Arm", num_slots, 8.0, **options)


def test_the_fourth_fault_in_a_row_ends_the_run() -> None:
    ledger = make_ledger(1)
    for _ in range(3):
        ledger.record(crash(0))
    start = "environment 'lab/Arm' failed in step(): KeyError: 'gone'; slot 0: more than 3 faults"
    with pytest.raises(EnvironmentFaultError) as raised:
        ledger.record(crash(0))
    assert str(raised.value).startswith(start)
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_finished_episode_resets_the_count_of_its_own_slot_only() -> None:
    ledger = make_ledger(2)
    for _ in range(20):
        ledger.record(crash(0))
        ledger.finished(0)
    for _ in range(3):
        ledger.record(crash(0))
        ledger.finished(1)
    with pytest.raises(EnvironmentFaultError):
        ledger.record(crash(0))


@pytest.mark.parametrize("num_slots, lost_at", [(2, 2), (8, 2), (20, 2), (21, 3), (64, 7)])
def test_a_tenth_of_the_slots_lost_within_a_minute_ends_the_run(
    num_slots: int, lost_at: int
) -> None:
    # After three faults in a row a slot continues, but counts as lost. A tenth of 21 is 2.1.
    ledger = make_ledger(num_slots)
    for slot in range(lost_at - 1):
        for _ in range(3):
            ledger.record(crash(slot))
    last = lost_at - 1
    ledger.record(crash(last))
    ledger.record(crash(last))
    with pytest.raises(EnvironmentFaultError, match=f"{lost_at} of {num_slots} slots were lost"):
        ledger.record(crash(last))


def test_slots_lost_minutes_apart_do_not_add_up() -> None:
    now = [0.0]
    ledger = make_ledger(8, clock=lambda: now[0])
    for slot in range(8):
        for _ in range(3):
            ledger.record(crash(slot))
        now[0] += 61.0


def test_a_slot_that_finishes_an_episode_is_no_longer_lost() -> None:
    ledger = make_ledger(8)
    for slot in range(8):
        ledger.record(timeout(slot))
        ledger.finished(slot)


def test_a_timeout_counts_twice_and_halves_the_time_limit() -> None:
    ledger = make_ledger(30)
    ledger.record(timeout(4))
    assert ledger.limit_s == 4.0
    # 2 + 1 faults: the run continues.
    ledger.record(crash(4))
    with pytest.raises(EnvironmentFaultError, match=r"timed out in step\(\) after 4 s"):
        ledger.record(timeout(4))
    other = make_ledger(30)
    other.record(timeout(4))
    other.finished(4)
    assert other.limit_s == 8.0


def test_faults_without_a_slot_count_for_every_slot() -> None:
    ledger = make_ledger(2)
    for _ in range(3):
        ledger.record(crash(None))
        ledger.finished(0)
    with pytest.raises(EnvironmentFaultError):
        ledger.record(crash(None))


def test_counts_add_up_over_reports_by_kind() -> None:
    ledger, metrics = make_ledger(9), MetricsLogger(root=True)
    errors = [KeyError(), SystemExit(1), EnvironmentTimeoutError()]
    errors += [BadObservationError("an observation"), BadRewardError("a reward")]
    for slot, error in enumerate(errors):
        ledger.record(Fault("step", error, slot))
    ledger.drop_episodes(5)
    ledger.log(metrics)
    ledger.record(crash(8))
    ledger.log(metrics)
    assert {name: count.peek() for name, count in metrics.stats["faults"].items()} == {
        "env_crashes": 3,
        "env_timeouts": 1,
        "bad_observations": 1,
        "bad_rewards": 1,
        "episodes_dropped": 5,
    }


def test_an_error_of_many_lines_becomes_one_line_that_fits_a_screen() -> None:
    message = Fault("reset", ValueError("a\nb " + "x" * 9999)).message("lab/Arm", 8.0)
    assert message.startswith("environment 'lab/Arm' failed in reset(): ValueError: a b xxx")
    assert len(message) < 600
