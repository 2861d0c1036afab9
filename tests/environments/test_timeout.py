"""Calls that take too long are interrupted; other calls are not."""

import gc
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from rlssl.environments.timeout import EnvironmentTimeoutError, TimeoutWatch


def test_a_sleep_is_interrupted_at_its_limit() -> None:
    watch, start = TimeoutWatch(), time.monotonic()
    with pytest.raises(EnvironmentTimeoutError):
        watch.call(0.3, time.sleep, 30)
    assert 0.3 <= time.monotonic() - start < 3
    # The next call has its own time limit.
    with pytest.raises(EnvironmentTimeoutError):
        watch.call(0.3, time.sleep, 30)
    watch.stop()


def test_calls_within_the_limit_return_their_results() -> None:
    watch = TimeoutWatch()
    assert watch.call(0.5, lambda a, b: a + b, 1, b=2) == 3
    # The time between two calls does not count.
    time.sleep(0.8)
    assert watch.call(0.5, sum, [1, 2]) == 3

    def many_heartbeats() -> str:
        for _ in range(10):
            watch.heartbeats += 1
            time.sleep(0.1)
        return "done"

    assert watch.call(0.5, many_heartbeats) == "done"
    watch.stop()


def test_errors_of_the_call_are_raised_and_the_watch_ends() -> None:
    watch = TimeoutWatch()
    with pytest.raises(ZeroDivisionError):
        watch.call(0.3, lambda: 1 / 0)
    time.sleep(0.5)
    watch.stop()


def test_the_thread_of_a_deleted_watch_ends() -> None:
    before = set(threading.enumerate())
    watch = TimeoutWatch()
    watch.call(0.2, int)
    (thread,) = set(threading.enumerate()) - before
    del watch
    gc.collect()
    thread.join(timeout=5)
    assert not thread.is_alive()


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(180)
def test_a_call_that_cannot_be_interrupted_ends_its_actor_only() -> None:
    script = textwrap.dedent(
        """
        import ctypes, time
        import ray
        from rlssl.environments import timeout

        def deadlock():
            libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
            libc.pthread_mutex_lock(mutex)
            libc.pthread_mutex_lock(mutex)

        @ray.remote
        class Runner:
            def sample(self):
                timeout.GRACE_S = 1.0
                timeout.TimeoutWatch().call(0.3, deadlock)

        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
        runner = Runner.remote()
        ray.get(runner.__ray_ready__.remote())
        start = time.monotonic()
        try:
            ray.get(runner.sample.remote(), timeout=60)
        except ray.exceptions.RayActorError:
            print("DIED", time.monotonic() - start < 30)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "DIED True" in done.stdout, done.stdout + done.stderr
