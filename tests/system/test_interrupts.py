"""A signal ends a command also if its KeyboardInterrupt is swallowed."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlssl.experiment.tuning.interruption import Interruption
from rlssl.system.interrupts import raise_if_interrupted, signals_interrupt


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Python's own handler of Ctrl-C; a shell may have started this process without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_swallowed_interrupt_is_raised_again(number: int) -> None:
    before = signal.getsignal(number)
    with signals_interrupt():
        raise_if_interrupted()
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            raise_if_interrupted()
    assert signal.getsignal(number) is before
    with signals_interrupt():
        raise_if_interrupted()  # an earlier command's signal


def test_a_run_does_not_begin_after_a_swallowed_interrupt(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals_interrupt():
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), Interruption(1.0, tmp_path).handles_signals():
            pytest.fail("the run has begun")
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_that_the_shell_lets_a_command_ignore_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with signals_interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        raise_if_interrupted()
