"""The watchdog ends a run without progress."""

import itertools
import time
from collections.abc import Iterator

import pytest

from rlssl.errors import TrainingTimeoutError
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
