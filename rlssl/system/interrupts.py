"""Ctrl-C and SIGTERM end a command, also if a library swallows the KeyboardInterrupt."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

# Whether a signal has come since the command began.
_has_come = False


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Inside this context, SIGTERM raises KeyboardInterrupt, as Ctrl-C does.

    Batch systems send SIGTERM.
    """
    global _has_come
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    _has_come = False
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _interrupt)}
    # A shell lets commands in the background ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_if_interrupted() -> None:
    """Raises the KeyboardInterrupt again that has not ended the command.

    Python drops an error in a destructor or in a callback, and so may a library.

    Raises:
        KeyboardInterrupt: If a signal has come since `signals_interrupt` was entered.

    Example:
        >>> with signals_interrupt():
        ...     raise_if_interrupted()
    """
    if _has_come:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: Any) -> None:
    global _has_come
    _has_come = True
    raise KeyboardInterrupt
