"""Sends the files of a run to its object store while the run's driver writes them."""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import click
from ray.tune import Callback
from ray.tune.experiment import Trial

from rlssl.errors import ExitCode
from rlssl.experiment.checkpoints.manifest import newest_valid
from rlssl.experiment.fault_log import note_fault
from rlssl.experiment.remote import checkpoints
from rlssl.experiment.remote.fetch import WRITER, WRITER_FILE, is_writer
from rlssl.experiment.remote.logs import PARTS, Sent, is_log, parts_of
from rlssl.run_files import LOCK_FILE, TRIAL_FILE
from rlssl.system.stores.objects import ObjectInfo, Objects, refused, why
from rlssl.system.stores.places import Place, place_of_folder

#: Seconds between two looks at the files.
PERIOD_S = 5.0
#: A file that grows gets its next part after so many seconds, or after this share of its age if
#: that is longer. So a long run does not consist of thousands of parts. A checkpoint of a trial
#: sends the files of the trial at once.
PART_S, PART_SHARE = 15.0, 0.05
#: Seconds after the end of a run in which a store that does not answer is tried again.
FINAL_S = 180.0

#: Files and folders that stay on the machine: Tune's own state, locks, files being written.
_NOT_SENT = (
    *("*.pkl", "*.tmp", "*.damaged", "*.old", "*.writing"),
    *("experiment_state-*", "search_gen_state-*", "basic-variant-state-*", f"{LOCK_FILE}*"),
)
#: W&B appends to its files for the whole run; they are sent at its end.
_AT_THE_END = ("wandb",)


class RunUploads(Callback):
    """Sends what changes in the local copy of a run; does nothing for a run in a plain folder.

    A failed request never ends the run: the files are sent later.

    Args:
        folder: The run's folder.
        keep: Number of checkpoints of each trial that stay on the store.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._place = place_of_folder(folder)
        self._wake = threading.Event()
        self._has_ended = False
        # Trials with a new checkpoint.
        self._hurried: set[str] = set()
        self._told = ""

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment; a later process makes its own."""
        return {"_folder": self._folder, "_keep": self._keep, "_place": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a callback that does nothing; `output` makes the one that works."""
        self.__init__(state["_folder"], state["_keep"])  # type: ignore[misc]

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Tune's hook: the rows up to a checkpoint should be on the store with it."""
        if self._place is not None:
            self._hurried.add(Path(trial.storage.trial_fs_path).name)
            self._wake.set()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Inside this context, the files of the run are sent; Tune must run inside it.

        Raises:
            ResourceError: If the store cannot be written to at the beginning.
        """
        if self._place is None:
            yield
            return
        with refused(self._place, "run"):
            become_writer(self._folder, self._place)
            self._files = _Files(self._folder, self._place)
            self._files.send_changes(set(), is_last=False)
        thread = threading.Thread(target=self._send_all, name="uploads", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._has_ended = True
            self._wake.set()
            thread.join()
            self._send_the_rest()

    def _send_all(self) -> None:
        while not self._has_ended:
            self._wake.wait(PERIOD_S)
            self._wake.clear()
            hurried = set(self._hurried)
            if self._try(hurried, is_last=False):
                self._hurried -= hurried

    def _send_the_rest(self) -> None:
        deadline = time.monotonic() + FINAL_S
        is_sent = False
        with contextlib.suppress(KeyboardInterrupt):  # the user does not want to wait
            is_sent = self._try(set(), is_last=True)
            while not is_sent and time.monotonic() < deadline:
                time.sleep(PERIOD_S)
                is_sent = self._try(set(), is_last=True)
        if not is_sent:
            click.echo(_not_sent(self._folder, self._place), err=True)

    def _try(self, hurried: set[str], *, is_last: bool) -> bool:
        assert self._place is not None
        try:
            self._files.send_changes(hurried, is_last=is_last)
            if is_last:
                send_checkpoints(self._folder, self._place, self._keep)
        except OSError as error:
            words = why(self._place, error)
            if not self._told:
                click.echo(
                    f"Cannot write to {self._place.uri}: {words}. The run goes on in "
                    f"{self._folder}, and tries again.",
                    err=True,
                )
                note_fault(self._folder, "upload", words)
            self._told = words
            return False
        if self._told:
            click.echo(f"All is written to {self._place.uri} again.", err=True)
            self._told = ""
        return True


class _Files:
    """The files of a run's local copy, and what of them is on the store."""

    def __init__(self, folder: Path, place: Place) -> None:
        self._folder, self._run = folder, Objects(place)
        listing = self._run.listing()
        self._parts = parts_of(listing)
        self._logs: dict[str, Sent] = {}
        # File -> size and time of the last change, when it was sent.
        self._whole = {
            name: it for name, it in _whole_files(folder) if _is_there(it, name, listing)
        }
        # Growing file -> when its first and its last part were sent.
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def send_changes(self, hurried: set[str], *, is_last: bool) -> None:
        """Sends what has changed.

        Args:
            hurried: Names of trials whose growing files are sent at once.
            is_last: Whether everything is sent.

        Raises:
            OSError: If the store does not answer.
        """
        changed = [
            name for name, it in _whole_files(self._folder, is_last) if self._whole.get(name) != it
        ]
        logs = [
            name
            for name in _log_files(self._folder)
            if is_last or name.partition("/")[0] in hurried or self._is_due(name)
        ]
        with ThreadPoolExecutor(checkpoints.THREADS) as pool:
            list(pool.map(self._send_whole, changed))
            list(pool.map(self._send_log, logs))
            list(pool.map(self._delete_log, self._deleted_logs()))

    def _is_due(self, name: str) -> bool:
        now = time.monotonic()
        age = now - self._first.get(name, now)
        return now - self._last.get(name, 0.0) >= max(PART_S, PART_SHARE * age)

    def _send_whole(self, name: str) -> None:
        path = self._folder / name
        try:
            found, data = _state(path), path.read_bytes()
        except FileNotFoundError:
            return
        self._run.put(name, data)
        self._whole[name] = found

    def _send_log(self, name: str) -> None:
        path = self._folder / name
        try:
            sent = self._logs.get(name)
            if sent is None:
                earlier = self._parts.get(name)
                sent = Sent.find(earlier, path) if earlier else Sent(0, -1, 0, b"")
                self._logs[name] = sent
            found = sent.next_part(path)
            if found is None:
                return
            part, data = found
            before = sent.generation
            self._run.put(f"{name}{PARTS}/{part.name}", data)
            sent.note(part, data, path)
        except FileNotFoundError:
            return
        now = time.monotonic()
        self._first.setdefault(name, now)
        self._last[name] = now
        if before and part.generation != before:
            self._delete_earlier(name, part.generation)

    def _deleted_logs(self) -> list[str]:
        """Growing files on the store that the run has deleted, as TensorBoard's earlier files."""
        known = self._parts.keys() | self._logs.keys()
        return [name for name in known if not (self._folder / name).exists()]

    def _delete_log(self, name: str) -> None:
        self._run.delete_all(f"{name}{PARTS}")
        self._parts.pop(name, None)
        self._logs.pop(name, None)

    def _delete_earlier(self, name: str, generation: int) -> None:
        for other in self._run.listing(f"{name}{PARTS}"):
            if PurePosixPath(other).name < f"{generation:06d}":
                self._run.delete(other)


def become_writer(folder: Path, place: Place) -> None:
    """Notes on the store that this local copy is ahead of it from now on.

    Raises:
        OSError: If the store does not answer.
    """
    if is_writer(Objects(place), folder):
        return
    who = {"copy": uuid.uuid4().hex, "host": socket.gethostname(), "folder": str(folder)}
    content = json.dumps(who).encode()
    Objects(place).put(WRITER, content)
    (folder / WRITER_FILE).write_bytes(content)


def send_checkpoints(folder: Path, place: Place, keep: int) -> None:
    """Sends the newest checkpoints of this machine that are not on the store.

    Their trials have been ended before they could.

    Raises:
        OSError: If the store does not answer.
    """
    for marker in folder.glob(f"*/{TRIAL_FILE}"):
        newest = newest_valid(marker.parent)
        trial = Objects(place.child(marker.parent.name))
        if newest is not None:
            known = checkpoints.committed(trial)
            if not known or known[0].env_steps < newest.env_steps:
                checkpoints.send(trial, newest.path, set(), keep)


def send_results(folder: Path, keep: int = 0) -> int:
    """Sends the files that a command has written into a run: tables, pictures.

    Does nothing for a run in a plain folder, and for a local copy that only reads.

    Args:
        folder: The run's folder.
        keep: Number of checkpoints of each trial on the store; 0: no checkpoints are sent.

    Returns:
        The exit code: 3 if the store cannot be written to.
    """
    place = place_of_folder(folder)
    if place is None:
        return ExitCode.OK
    try:
        if is_writer(Objects(place), folder):
            _Files(folder, place).send_changes(set(), is_last=True)
            if keep:
                send_checkpoints(folder, place, keep)
            click.echo(place.uri)
    except OSError as error:
        click.echo(f"{_not_sent(folder, place)} {why(place, error)}.", err=True)
        return ExitCode.NO_RESOURCES
    return ExitCode.OK


def _not_sent(folder: Path, place: Place | None) -> str:
    assert place is not None
    return (
        f"The newest files of {folder} are not at {place.uri}. Send them when the store answers: "
        f"rlssl resume '{place.uri}'"
    )


def _all_files(folder: Path, is_last: bool) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "checkpoint_")) and (is_last or name not in _AT_THE_END)
        ]
        for name in files:
            is_sent = not any(PurePosixPath(name).match(pattern) for pattern in _NOT_SENT)
            if is_sent and not name.startswith("."):
                yield Path(root, name).relative_to(folder).as_posix()


def _log_files(folder: Path) -> list[str]:
    return [name for name in _all_files(folder, False) if is_log(name)]


def _whole_files(folder: Path, is_last: bool = False) -> Iterator[tuple[str, tuple[int, int]]]:
    for name in _all_files(folder, is_last):
        if not is_log(name):
            with contextlib.suppress(FileNotFoundError):
                yield name, _state(folder / name)


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _is_there(state: tuple[int, int], name: str, listing: dict[str, ObjectInfo]) -> bool:
    """Whether the store has a file of a trial already; those of the run are few."""
    info = listing.get(name)
    size, mtime_ns = state
    is_of_trial = "/" in name
    return is_of_trial and info is not None and info.size == size and info.mtime >= mtime_ns / 1e9
