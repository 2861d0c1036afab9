"""Interrupts an environment that stands still, at no cost to one that does not."""

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

#: Ignored by processes that do not ask for it: one that comes too late harms nobody.
_SIGNAL = signal.SIGURG

#: Seconds that an interrupted call has to come back before its process is given up.
GRACE_S = 10.0


class EnvironmentTimeoutError(BaseException):
    """Raised inside the call that stands still.

    No `Exception`: an environment that tries again after any of those would swallow it.
    """


class TimeoutWatch:
    """Times calls into environments by a thread that looks at a counter now and then.

    A call that makes the counter stand still for longer than its limit gets an
    `EnvironmentTimeoutError` from a signal handler, which also ends a sleep or a blocking read.
    What ignores even that, such as a deadlock in C, ends the process if it is a Ray actor's: its
    owner then treats it as any dead process. Signals reach the main thread alone; in other threads
    nothing is interrupted.
    """

    def __init__(self) -> None:
        #: Increase it to say that the call goes on: its time starts anew.
        self.beats = 0
        self._limit_s = float("inf")
        self._is_busy = False
        self._overdue_beat = -1
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def call(self, limit_s: float, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Calls ``function``.

        Args:
            limit_s: Seconds that may pass between two beats.
            function: What may stand still.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Raises:
            EnvironmentTimeoutError: If it stood still for longer.
        """
        self._limit_s = limit_s
        self.beats += 1
        if self._thread is None:
            self._start()
        self._is_busy = True
        try:
            return function(*args, **kwargs)
        finally:
            self._is_busy = False

    def stop(self) -> None:
        """Ends the thread; a later call starts another."""
        self._stopped.set()
        self._thread = None

    def interrupt(self) -> None:
        """Called by the signal's handler.

        Raises:
            EnvironmentTimeoutError: If the call that is overdue still goes on.
        """
        if self._is_busy and self.beats == self._overdue_beat:
            self._overdue_beat = -1
            raise EnvironmentTimeoutError

    def look(self, seen_beat: int, seen_at: float, signalled_at: float | None) -> float | None:
        """Compares with what was seen before; says when the call was signalled, if it was."""
        now = time.monotonic()
        if signalled_at is not None:
            if now - signalled_at <= GRACE_S:
                return signalled_at
            _give_up(self._limit_s)
            # Said once.
            return math.inf
        if now - seen_at <= self._limit_s:
            return None
        self._overdue_beat = seen_beat
        _overdue.add(self)
        signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)
        return now

    @property
    def period_s(self) -> float:
        """Seconds between two looks."""
        return min(max(self._limit_s / 20, 0.01), 1.0)

    @property
    def busy_beat(self) -> int | None:
        """The counter during a call; None between calls."""
        return self.beats if self._is_busy else None

    def _start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(_SIGNAL, _on_signal)
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=_watch,
            args=(weakref.ref(self), self._stopped),
            daemon=True,
            name="rlssl-timeouts",
        )
        self._thread.start()


#: Watches whose call is to be interrupted by the signal under way.
_overdue: "weakref.WeakSet[TimeoutWatch]" = weakref.WeakSet()


def _on_signal(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    for watch in list(_overdue):
        _overdue.discard(watch)
        watch.interrupt()


def _watch(reference: "weakref.ref[TimeoutWatch]", stopped: threading.Event) -> None:
    """The thread: it keeps no watch alive, so that one that is forgotten ends it."""
    seen_beat, seen_at, signalled_at, period_s = None, 0.0, None, 0.01
    while not stopped.wait(period_s):
        watch = reference()
        if watch is None:
            return
        period_s = watch.period_s
        if watch.busy_beat is None or watch.busy_beat != seen_beat:
            seen_beat, seen_at, signalled_at = watch.busy_beat, time.monotonic(), None
        else:
            signalled_at = watch.look(seen_beat, seen_at, signalled_at)
        del watch


def _give_up(limit_s: float) -> None:
    faulthandler.dump_traceback()
    in_actor = ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
    logger.error(
        "an environment has stood still for more than %g s (env_step_timeout_s) and cannot be "
        "interrupted; %s.",
        limit_s,
        "its process ends" if in_actor else "waiting on, since this process is no Ray actor",
    )
    if in_actor:
        os._exit(1)
