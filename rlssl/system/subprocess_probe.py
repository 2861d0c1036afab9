"""Runs Python code that may crash or hang in a separate process."""

import os
import signal
import subprocess
import sys
import time

#: Seconds after which code that has not ended counts as failed.
TIMEOUT_S = 15.0
#: Start of the message of code that has not ended in time.
NO_ANSWER = "no answer within"
#: Seconds that it then has to terminate before it is killed.
_GRACE_S = 2.0


class SubprocessCheck:
    """Python code that runs in a separate process, because it may crash or hang.

    Example:
        >>> SubprocessCheck("print('fine')").answer()
        (True, 'fine')
    """

    def __init__(self, code: str, *, timeout_s: float = TIMEOUT_S, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s

    def answer(self) -> tuple[bool, str]:
        """Waits; returns whether the code succeeded, and the last line that it printed."""
        try:
            left = max(0.0, self._deadline - time.monotonic())
            printed, errors = self._process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            self._end()
            return False, f"{NO_ANSWER} {self._timeout_s:g} s"
        ok = self._process.returncode == 0
        lines = (printed if ok else errors).strip().splitlines()
        if not lines and not ok:
            lines = [f"ended with code {self._process.returncode}"]
        return ok, lines[-1] if lines else ""

    def _end(self) -> None:
        """Terminates before killing, so that Ray can end the processes that it has started."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
