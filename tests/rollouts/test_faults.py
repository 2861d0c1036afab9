"""The rules by which a run continues or ends after an environment's fault."""

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rlssl.environments.observation_checks import BadObservationError
from rlssl.environments.timeout import EnvironmentTimeoutError
from rlssl.errors import EnvironmentFaultError
from rlssl.rollouts.batch_checks import BadRewardError
from rlssl.rollouts.faults import LATEST_FAULT_KEY, Fault, FaultLedger, check_crash_rate


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


def raised(error: Exception) -> Fault:
    try:
        raise error
    except Exception as caught:
        return Fault("step", caught, 0)


def test_the_first_traceback_of_each_kind_is_kept_and_later_ones_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "env_faults"
    ledgers = [make_ledger(1, folder=folder) for _ in range(2)]  # two EnvRunners
    for number, ledger in enumerate(ledgers):
        ledger.record(raised(KeyError(f"lost {number}")))
        ledger.finished(0)
    ledgers[1].record(raised(OSError("no server")))
    ledgers[1].record(raised(BadRewardError("a reward of nan")))
    files = {path.name: path.read_text() for path in folder.iterdir()}
    assert files.keys() == {
        "env_crashes-KeyError.txt",
        "env_crashes-OSError.txt",
        "bad_rewards-BadRewardError.txt",
    }
    text = files["env_crashes-KeyError.txt"]
    line = (
        r"environment 'lab/Arm' failed in step\(\): KeyError: 'lost 0' \(.*_faults.py, line \d+\)\n"
    )
    assert re.match(line, text)
    assert "Traceback (most recent call last)" in text and text.endswith("KeyError: 'lost 0'\n")


def test_a_folder_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    make_ledger(1, folder=tmp_path / "file" / "env_faults").record(crash(0))


def test_the_latest_fault_of_an_iteration_is_logged_as_text() -> None:
    ledger, metrics = make_ledger(2), MetricsLogger(root=True)
    ledger.record(crash(0))
    ledger.record(raised(ValueError("no\nserver")))
    ledger.log(metrics)
    (latest,) = metrics.peek(LATEST_FAULT_KEY)
    assert latest.startswith("environment 'lab/Arm' failed in step(): ValueError: no server (")
    assert re.search(r"test_faults.py, line \d+\)$", latest)
    metrics.reduce()
    ledger.log(metrics)
    assert not isinstance(np.atleast_1d(metrics.peek(LATEST_FAULT_KEY, default=[])).tolist(), str)


@pytest.mark.parametrize(
    "crashes, env_steps, most, ends",
    [
        (9, 100, 1.0, False),  # judged from the tenth crash on
        (10, 10_000, 1.0, False),  # 1 per 1,000
        (10, 9_999, 1.0, True),
        (10, 1_000_000, 0.0, True),
        (1_000, 0, 1e9, False),
    ],
)
def test_crashes_end_a_run_by_their_rate(
    crashes: int, env_steps: int, most: float, ends: bool
) -> None:
    with pytest.raises(EnvironmentFaultError) if ends else contextlib.nullcontext():
        check_crash_rate(crashes, env_steps, most, "")
