"""Fails a run that makes no progress, even while a step of the environment hangs."""

import faulthandler
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from rlssl.errors import TrainingTimeoutError

#: Seconds between checks of the clock.
_PERIOD_S = 1.0


class Watchdog:
    """Raises ``TrainingTimeoutError`` in the main thread when progress stops.

    Construct it in the main thread. A signal handler raises the exception, so that it also
    interrupts a sleeping environment or a blocking wait for a remote process.

    Args:
        limit_s: Seconds without progress that are allowed.
        done: Returns the work done so far in the current iteration, in any unit. Called from
            another thread once per second. An iteration of slow updates may take longer than
            ``limit_s``; the watchdog accepts it while this number changes.
    """

    def __init__(self, limit_s: float, done: Callable[[], int] = lambda: 0) -> None:
        self.limit_s = limit_s
        self.env_steps = 0
        self._done, self._seen = done, 0
        self._last_progress = time.monotonic()
        self._stopped = threading.Event()
        self._previous_handler = signal.signal(signal.SIGUSR2, self._raise)
        threading.Thread(target=self._watch, name="rlssl-watchdog", daemon=True).start()

    def report(self, env_steps: int) -> None:
        """Reports the env steps of the run after an iteration.

        Raises:
            TrainingTimeoutError: If iterations finish, but env steps have not increased for longer
                than ``limit_s``.
        """
        if env_steps != self.env_steps:
            self.env_steps = env_steps
            self._last_progress = time.monotonic()
        elif self._overdue():
            raise self._error()

    def stop(self) -> None:
        """Stops the watchdog and restores the previous signal handler."""
        self._stopped.set()
        signal.signal(signal.SIGUSR2, self._previous_handler)

    def _watch(self) -> None:
        while not self._stopped.wait(_PERIOD_S):
            if (done := self._done()) != self._seen:
                self._seen, self._last_progress = done, time.monotonic()
            if self._overdue():
                faulthandler.dump_traceback()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
                return

    def _overdue(self) -> bool:
        return time.monotonic() - self._last_progress > self.limit_s

    def _raise(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        raise self._error()

    def _error(self) -> TrainingTimeoutError:
        return TrainingTimeoutError(
            f"no progress for more than {self.limit_s:g} s (watchdog_s) at {self.env_steps} env "
            "steps; an environment hangs, or every EnvRunner is dead."
        )
