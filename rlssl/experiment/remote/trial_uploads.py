"""Sends the checkpoints of a trial to the store, from the trial's process."""

import threading
import time
from pathlib import Path

from rlssl.errors import ResourceError
from rlssl.experiment.remote.checkpoints import fetch_newest, send
from rlssl.experiment.remote.fetch import fetch_logs
from rlssl.system.stores.objects import Objects, why
from rlssl.system.stores.places import Place

#: Key of a trial's config: the URI of its run; missing without an object store.
RUN_URI_KEY = "run_uri"

#: Seconds for which a trial waits until a checkpoint is on the store; it is sent anyway.
WAIT_S = 10.0
#: The same for its last checkpoint, and for the newest checkpoint when it begins.
PATIENCE_S = 150.0
#: Seconds until a checkpoint that could not be sent is tried again.
RETRY_S = 5.0


class TrialUploads:
    """The checkpoints of a trial and an object store.

    Sending never raises. If a checkpoint is finished while an older one waits, only the newer one
    is sent.

    Args:
        place: The trial on the store.
        folder: The trial's folder on this machine.
        keep: Number of checkpoints that stay on the store.
    """

    #: Why the newest checkpoint is not on the store yet; "" if it is.
    error = ""

    def __init__(self, place: Place, folder: Path, keep: int) -> None:
        self._trial, self._folder, self._keep = Objects(place), folder, keep
        self._newest: Path | None = None
        self._has_ended = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def fetch(self) -> None:
        """Fetches the newest checkpoint and the log, if another node has written them.

        Raises:
            OSError: If the store does not answer.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                fetch_newest(self._trial, self._folder)
                fetch_logs(self._trial, self._folder)
                return
            except (OSError, ResourceError) as error:
                if time.monotonic() > deadline:
                    raise OSError(f"cannot read {self._trial.place.uri}: {error}") from error
                time.sleep(RETRY_S)

    def send(self, folder: Path, *, is_last: bool) -> None:
        """Sends a checkpoint; waits a bounded time until it is on the store.

        Args:
            folder: The trial's newest checkpoint, finished.
            is_last: Whether the trial is at its end.
        """
        with self._changed:
            self._newest = folder
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_all, name="uploads", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            limit_s = PATIENCE_S if is_last else WAIT_S
            self._changed.wait_for(lambda: self._newest is None, limit_s)

    def close(self) -> None:
        """Ends the thread, after the current attempt."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _send_all(self) -> None:
        sent: tuple[Path | None, set[str]] = (None, set())
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._has_ended)
                folder = self._newest
            if folder is None:
                return
            if sent[0] != folder:
                sent = (folder, set())
            if not self._try(folder, sent[1]):
                with self._changed:
                    self._changed.wait_for(lambda: self._has_ended, RETRY_S)
                    if self._has_ended:
                        return
                continue
            with self._changed:
                if self._newest == folder:
                    self._newest = None
                    self._changed.notify_all()

    def _try(self, folder: Path, sent: set[str]) -> bool:
        try:
            send(self._trial, folder, sent, self._keep)
        except OSError as error:
            if not folder.is_dir():
                return True  # pruned: there is a newer one
            self.error = (
                f"checkpoint {folder.name} is not at {self._trial.place.uri}: "
                f"{why(self._trial.place, error)}. The trial trains on, and tries again."
            )
            return False
        self.error = ""
        return True
