"""Fails a run whose env steps stand still, even while a step of the environment hangs."""

import faulthandler
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from rlssl.errors import TrainingTimeoutError

#: Seconds between looks at the clock.
_PERIOD_S = 1.0


class Watchdog:
    """Raises ``TrainingTimeoutError`` in the main thread when progress stops.

    Start it in the main thread: the exception is raised from a signal handler, which also
    interrupts a sleeping environment or a blocking wait for a remote one.

    Args:
        limit_s: Seconds without progress that are allowed.
        done: What the current iteration has done so far, in any unit; looked at now and then, from
            another thread. An iteration of slow updates may well take longer than ``limit_s``.
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
        """Tells how far the run has come.

        Raises:
            TrainingTimeoutError: If iterations go on, but the env steps have stood still too long.
        """
        if env_steps != self.env_steps:
            self.env_steps = env_steps
            self._last_progress = time.monotonic()
        elif self._overdue():
            raise self._error()

    def stop(self) -> None:
        """Ends the watch; further signals are the previous handler's."""
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
            f"env steps have stood still at {self.env_steps} for more than {self.limit_s:g} s "
            "(watchdog_s); an environment hangs, or every EnvRunner is dead."
        )
