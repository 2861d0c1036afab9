"""Interrupts a call into an environment that takes too long, at no cost to other calls."""

import faulthandler
import logging
import math
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import ray

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Processes ignore this signal by default, so a late signal has no effect.
_SIGNAL = signal.SIGURG

#: Seconds that an interrupted call has to return before its process is ended.
GRACE_S = 10.0


class EnvironmentTimeoutError(BaseException):
    """Raised inside the call that takes too long.

    It is not an `Exception`, because an environment that retries after any `Exception` would
    swallow it.
    """


class TimeoutWatch:
    """Limits the time of calls into environments; a thread checks a counter of heartbeats.

    A call without a heartbeat for longer than its limit gets an `EnvironmentTimeoutError` from a
    signal handler, which also ends a sleep or a blocking read. A call that ignores the error, such
    as a deadlock in C, ends the process if it is a Ray actor; its owner then treats it like any
    dead process. Signals reach the main thread only, so calls in other threads are not interrupted.
    """

    def __init__(self) -> None:
        #: Increase it to report progress: the time limit of the call starts again.
        self.heartbeats = 0
        self._limit_s = float("inf")
        self._is_busy = False
        self._overdue_heartbeat = -1
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def call(self, limit_s: float, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Calls ``function``.

        Args:
            limit_s: Seconds that may pass between two heartbeats.
            function: The function, which may take too long.
            *args: Arguments of the function.
            **kwargs: Keyword arguments of the function.

        Raises:
            EnvironmentTimeoutError: If more time passed without a heartbeat.
        """
        self._limit_s = limit_s
        self.heartbeats += 1
        if self._thread is None:
            self._start()
        self._is_busy = True
        try:
            return function(*args, **kwargs)
        finally:
            self._is_busy = False

    def stop(self) -> None:
        """Ends the thread; a later call starts a new one."""
        self._stopped.set()
        self._thread = None

    def interrupt(self) -> None:
        """Called by the signal's handler.

        Raises:
            EnvironmentTimeoutError: If the overdue call is still running.
        """
        if self._is_busy and self.heartbeats == self._overdue_heartbeat:
            self._overdue_heartbeat = -1
            raise EnvironmentTimeoutError

    def check(self, seen_heartbeat: int, since_s: float, signaled_s: float | None) -> float | None:
        """Interrupts the call if its last heartbeat is too old.

        Args:
            seen_heartbeat: The number of heartbeats, which has not changed since ``since_s``.
            since_s: When the thread saw this number first, on the monotonic clock.
            signaled_s: When the call was interrupted; None if it was not.

        Returns:
            When the call was interrupted, now or earlier; None if it was not.
        """
        now = time.monotonic()
        if signaled_s is not None:
            if now - signaled_s <= GRACE_S:
                return signaled_s
            _end_process(self._limit_s)
            # Logged once.
            return math.inf
        if now - since_s <= self._limit_s:
            return None
        self._overdue_heartbeat = seen_heartbeat
        _overdue.add(self)
        signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)
        return now

    @property
    def period_s(self) -> float:
        """Seconds between two checks."""
        return min(max(self._limit_s / 20, 0.01), 1.0)

    @property
    def busy_heartbeat(self) -> int | None:
        """The number of heartbeats during a call; None between calls."""
        return self.heartbeats if self._is_busy else None

    def _start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(_SIGNAL, _on_signal)
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=_watch_thread,
            args=(weakref.ref(self), self._stopped),
            daemon=True,
            name="rlssl-timeouts",
        )
        self._thread.start()


#: Watches whose call the pending signal must interrupt.
_overdue: "weakref.WeakSet[TimeoutWatch]" = weakref.WeakSet()


def _on_signal(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    for watch in list(_overdue):
        _overdue.discard(watch)
        watch.interrupt()


def _watch_thread(reference: "weakref.ref[TimeoutWatch]", stopped: threading.Event) -> None:
    """The thread of a watch. It holds a weak reference, so it ends when the watch is deleted."""
    seen_heartbeat, since_s, signaled_s, period_s = None, 0.0, None, 0.01
    while not stopped.wait(period_s):
        watch = reference()
        if watch is None:
            return
        period_s = watch.period_s
        if watch.busy_heartbeat is None or watch.busy_heartbeat != seen_heartbeat:
            seen_heartbeat, since_s, signaled_s = watch.busy_heartbeat, time.monotonic(), None
        else:
            signaled_s = watch.check(seen_heartbeat, since_s, signaled_s)
        del watch


def _end_process(limit_s: float) -> None:
    faulthandler.dump_traceback()
    in_actor = ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
    logger.error(
        "an environment timed out after %g s (env_step_timeout_s) and cannot be interrupted; %s.",
        limit_s,
        "its process ends" if in_actor else "still waiting, because this process is no Ray actor",
    )
    if in_actor:
        os._exit(1)
