"""The driver's side of a tracker: a process that gets messages, and never delays the driver."""

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from rlssl.experiment.tracking.messages import Message

#: At most so many messages wait for the process. Further results are left out.
MAX_WAITING = 20_000

#: Seconds that the process may take at the end of a run to send what waits.
END_S = 60.0


class TrackerProcess:
    """Sends messages to the process of a tracker; counts what it could not send.

    The process has a session of its own: a signal to the driver's process group does not reach it.
    When the driver dies, it sends what it has, and ends.

    Args:
        name: Name of the tracker.
        options: Arguments of its class in `rlssl.experiment.tracking.worker`.
        log: The file of what the tracker's library prints.
    """

    def __init__(self, name: str, options: Mapping[str, Any], log: Path) -> None:
        self.name, self.log = name, log
        #: Messages that were not sent, and the error of the last one.
        self.num_lost = 0
        self.last_error = ""
        self._waiting: queue.Queue[Message | None] = queue.Queue(MAX_WAITING)
        command = [sys.executable, "-m", "rlssl.experiment.tracking.worker", name]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, json.dumps(dict(options))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        threads = [
            threading.Thread(target=self._write, args=(self._process.stdin,), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
        ]
        self._writer, self._reader = threads
        for thread in threads:
            thread.start()

    def send(self, message: Message) -> None:
        """Takes a message, and returns at once."""
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._lose("it is too slow")

    def close(self, wait_s: float = END_S) -> None:
        """Waits until the process has sent everything; after ``wait_s`` seconds, kills it."""
        end = time.monotonic() + wait_s
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=wait_s)
        try:
            self._process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            reason: str | None = f"it had not sent everything after {wait_s:g} s"
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=1.0)
        else:
            reason = None
        # What the process did not read is counted there.
        self._writer.join(1.0)
        if reason is not None:
            self._lose(reason)
        self._reader.join(1.0)

    def _write(self, pipe: IO[str]) -> None:
        has_ended = False
        while (message := self._waiting.get()) is not None:
            try:
                if not has_ended:
                    pipe.write(json.dumps(message) + "\n")
                    pipe.flush()
            except OSError:
                has_ended = True
            if has_ended:
                self._lose(f"its process has ended; see {self.log}")
        with contextlib.suppress(OSError):
            pipe.close()

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            self._lose(json.loads(line))

    def _lose(self, error: str) -> None:
        self.num_lost += 1
        self.last_error = error
