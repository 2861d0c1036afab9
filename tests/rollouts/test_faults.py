"""The rules by which a run goes on after an environment's fault, or ends."""

from typing import Any

import pytest
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rlssl.environments.observation_checks import BadObservationError
from rlssl.environments.timeout import EnvironmentTimeoutError
from rlssl.errors import EnvironmentFaultError
from rlssl.rollouts import faults
from rlssl.rollouts.batch_checks import BadRewardError
from rlssl.rollouts.faults import Fault, FaultLedger


def crash(slot: int | None) -> Fault:
    return Fault("step", KeyError("gone"), slot)


def stall(slot: int | None) -> Fault:
    return Fault("step", EnvironmentTimeoutError(), slot)


def ledger(num_slots: int) -> FaultLedger:
    return FaultLedger("lab/Arm", num_slots, 8.0)


def test_the_fourth_fault_in_a_row_ends_the_run() -> None:
    book = ledger(1)
    for _ in range(3):
        book.record(crash(0))
    words = "environment 'lab/Arm' failed in step(): KeyError: 'gone'; slot 0: more than 3 faults"
    with pytest.raises(EnvironmentFaultError) as raised:
        book.record(crash(0))
    assert str(raised.value).startswith(words)
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_finished_episode_between_forgives_its_own_slot_alone() -> None:
    book = ledger(2)
    for _ in range(20):
        book.record(crash(0))
        book.finished(0)
    for _ in range(3):
        book.record(crash(0))
        book.finished(1)
    with pytest.raises(EnvironmentFaultError):
        book.record(crash(0))


@pytest.mark.parametrize("num_slots, lost_at", [(2, 2), (8, 2), (20, 2), (21, 3), (64, 7)])
def test_a_tenth_of_the_slots_lost_within_a_minute_ends_the_run(
    num_slots: int, lost_at: int
) -> None:
    # Three faults in a row: forgiven once more, but lost for the time being. A tenth of 21 is 2.1.
    book = ledger(num_slots)
    for slot in range(lost_at - 1):
        for _ in range(3):
            book.record(crash(slot))
    last = lost_at - 1
    book.record(crash(last))
    book.record(crash(last))
    with pytest.raises(EnvironmentFaultError, match=f"{lost_at} of {num_slots} slots were lost"):
        book.record(crash(last))


def test_slots_lost_minutes_apart_do_not_add_up(monkeypatch: Any) -> None:
    now = [0.0]
    monkeypatch.setattr(faults.time, "monotonic", lambda: now[0])
    book = ledger(8)
    for slot in range(8):
        for _ in range(3):
            book.record(crash(slot))
        now[0] += 61.0


def test_a_slot_that_finishes_an_episode_is_not_lost_any_more() -> None:
    book = ledger(8)
    for slot in range(8):
        book.record(stall(slot))
        book.finished(slot)


def test_a_stall_counts_twice_and_the_next_one_has_half_the_time() -> None:
    book = ledger(30)
    book.record(stall(4))
    assert book.limit_s == 4.0
    # 2 + 1: forgiven still.
    book.record(crash(4))
    with pytest.raises(EnvironmentFaultError, match=r"timed out in step\(\) after 4 s"):
        book.record(stall(4))
    other = ledger(30)
    other.record(stall(4))
    other.finished(4)
    assert other.limit_s == 8.0


def test_faults_of_nobody_in_particular_are_everybodys() -> None:
    book = ledger(2)
    for _ in range(3):
        book.record(crash(None))
        book.finished(0)
    with pytest.raises(EnvironmentFaultError):
        book.record(crash(None))


def test_counts_add_up_over_reports_by_kind() -> None:
    book, metrics = ledger(9), MetricsLogger(root=True)
    errors = [KeyError(), SystemExit(1), EnvironmentTimeoutError()]
    errors += [BadObservationError("an observation"), BadRewardError("a reward")]
    for slot, error in enumerate(errors):
        book.record(Fault("step", error, slot))
    book.drop_episodes(5)
    book.log(metrics)
    book.record(crash(8))
    book.log(metrics)
    assert {name: count.peek() for name, count in metrics.stats["faults"].items()} == {
        "env_crashes": 3,
        "env_timeouts": 1,
        "bad_observations": 1,
        "bad_rewards": 1,
        "episodes_dropped": 5,
    }


def test_words_of_many_lines_become_one_line_that_fits_a_screen() -> None:
    words = Fault("reset", ValueError("a\nb " + "x" * 9999)).message("lab/Arm", 8.0)
    assert words.startswith("environment 'lab/Arm' failed in reset(): ValueError: a b xxx")
    assert len(words) < 600
