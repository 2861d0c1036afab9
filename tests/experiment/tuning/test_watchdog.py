"""The watchdog ends a run without progress."""

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from rlssl.errors import TrainingTimeoutError
from rlssl.experiment.tuning import watchdog as watchdog_module
from rlssl.experiment.tuning.watchdog import Watchdog


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    made = Watchdog(limit_s=0.3)
    yield made
    made.stop()


def test_hanging_step_is_interrupted_within_seconds(watchdog: Watchdog) -> None:
    watchdog.report(128)
    start = time.monotonic()
    with pytest.raises(
        TrainingTimeoutError, match=r"no progress for more than 0\.3 s .* at 128 env"
    ):
        time.sleep(30)
    assert time.monotonic() - start < 5


def test_iterations_without_env_steps_fail(watchdog: Watchdog) -> None:
    watchdog.report(128)
    with pytest.raises(TrainingTimeoutError):
        for _ in range(100):
            time.sleep(0.01)
            watchdog.report(128)


def test_reported_timeout_is_not_followed_by_an_interrupt() -> None:
    made = Watchdog(limit_s=0.05)
    try:
        made.report(128)
        # `report` finds the timeout while the other thread is about to interrupt.
        made._idle_s = 1.0
        with pytest.raises(TrainingTimeoutError) as caught:
            made.report(128)
        assert not isinstance(caught.value, KeyboardInterrupt)
        time.sleep(0.5)
    finally:
        made.stop()


def test_new_env_steps_count_as_progress(watchdog: Watchdog) -> None:
    for env_steps in range(1, 200):
        watchdog.report(env_steps)
        time.sleep(0.01)


def test_work_within_an_iteration_counts_as_progress_until_it_stops() -> None:
    updates = itertools.count()
    busy = True
    made = Watchdog(limit_s=2.0, done=lambda: next(updates) if busy else 0)
    try:
        time.sleep(4)
        busy = False
        with pytest.raises(TrainingTimeoutError):
            time.sleep(30)
    finally:
        made.stop()


def test_time_between_watched_calls_does_not_count() -> None:
    made = Watchdog(limit_s=0.5)
    try:
        with made.watching():
            pass
        time.sleep(2)  # as while the driver is busy
        with made.watching():
            time.sleep(0.1)
        with pytest.raises(TrainingTimeoutError), made.watching():
            time.sleep(30)
    finally:
        made.stop()


def test_rescue_gives_the_limit_once_more() -> None:
    rescues: list[float] = []

    def rescue() -> bool:
        rescues.append(time.monotonic())
        return True

    made = Watchdog(limit_s=0.5, rescue=rescue)
    try:
        with pytest.raises(TrainingTimeoutError), made.watching():
            time.sleep(30)
        (rescued_at,) = rescues
        assert time.monotonic() - rescued_at >= 0.4
    finally:
        made.stop()


def test_wait_that_only_a_keyboard_interrupt_ends_becomes_the_watchdogs_error() -> None:
    # Ray ends its waits for a KeyboardInterrupt, whatever its class, and raises a plain one.
    made = Watchdog(limit_s=0.3)
    try:
        words = "no progress for more than"
        with pytest.raises(TrainingTimeoutError, match=words), made.watching():
            try:
                time.sleep(30)
            except KeyboardInterrupt:
                raise KeyboardInterrupt from None
    finally:
        made.stop()


STOPPED = """
import time
from rlssl.experiment.tuning.watchdog import Watchdog

watchdog = Watchdog(limit_s=1.0)
print("ready", flush=True)
for env_steps in range(40):
    with watchdog.watching():
        time.sleep(0.1)
    watchdog.report(env_steps)
"""


def test_time_of_a_stopped_process_does_not_count() -> None:
    process = subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=60) == 0


def test_time_in_which_a_process_starts_does_not_count() -> None:
    answers = iter([True, True, True])
    made = Watchdog(limit_s=0.3, is_starting=lambda: next(answers, False))
    try:
        begin = time.monotonic()
        with pytest.raises(TrainingTimeoutError), made.watching():
            time.sleep(30)
        assert time.monotonic() - begin >= 4 * 0.3
    finally:
        made.stop()


def test_process_that_starts_forever_fails_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog_module, "LEAST_SETUP_S", 1.0)
    made = Watchdog(limit_s=0.1, is_starting=lambda: True)
    try:
        with pytest.raises(TrainingTimeoutError), made.watching():
            time.sleep(30)
    finally:
        made.stop()


def test_signs_of_life_go_on_while_the_interrupted_call_ends() -> None:
    beats: list[float] = []
    made = Watchdog(limit_s=0.3, beat=lambda: beats.append(time.monotonic()))
    try:
        with pytest.raises(TrainingTimeoutError), made.watching():
            try:
                time.sleep(30)
            finally:
                interrupted_at = time.monotonic()
                time.sleep(1)
        assert any(beat > interrupted_at + 0.5 for beat in beats)
    finally:
        made.stop()


SLOW_TRACEBACK = """
import faulthandler, time
from rlssl.experiment.tuning.watchdog import Watchdog
faulthandler.dump_traceback = lambda: (print("overdue", flush=True), time.sleep(0.5))
watchdog = Watchdog(0.1)
time.sleep(0.3)
watchdog.stop()
time.sleep(0.5)
"""


def test_a_watchdog_that_was_stopped_sends_no_signal() -> None:
    done = subprocess.run([sys.executable, "-c", SLOW_TRACEBACK], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "overdue\n"), done.stderr


SLOW_TRACEBACK_OF_A_SETUP = """
import faulthandler, time
from rlssl.experiment.tuning import watchdog as module
module.LEAST_SETUP_S = 0.1
faulthandler.dump_traceback = lambda: (print("overdue", flush=True), time.sleep(0.5))
watchdog = module.Watchdog(0.1)
with watchdog.setting_up():
    time.sleep(1.3)
time.sleep(0.5)
watchdog.stop()
"""


def test_a_setup_that_ends_while_it_is_found_overdue_does_not_end_the_process() -> None:
    code = [sys.executable, "-c", SLOW_TRACEBACK_OF_A_SETUP]
    done = subprocess.run(code, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "overdue\n"), done.stderr
    assert "cannot be interrupted" not in done.stderr
