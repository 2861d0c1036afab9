"""Lets the driver outlive a disk that is full or read-only: what cannot be written now, waits."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from ray.tune import Callback
from ray.tune.experiment import Trial

from rlssl.experiment.fault_log import note_fault
from rlssl.experiment.packed_results import FOR_FILES, whole
from rlssl.experiment.tuning.callbacks import MOVED_KEYS
from rlssl.experiment.tuning.trainable import CHECKPOINT_ERROR
from rlssl.system.files import free_space

#: Seconds until a file that could not be written is tried again.
RETRY_S = 10.0

#: At most so many results wait. Beyond, every trial keeps its newest ones, and all its episodes.
MAX_WAITING = 2_000

_RESULT = "on_trial_result"


@dataclass
class _Event:
    """A call of a hook that the callbacks from ``begin`` on have not seen yet."""

    hook: str
    trial: Trial
    info: dict[str, Any]
    begin: int = 0


@dataclass(frozen=True)
class _Failure:
    """A disk that cannot be written to: why, and since when in this process's time."""

    words: str
    since: float


class PatientFiles(Callback):
    """Calls other callbacks, which write the files of trials, again if the disk fails them.

    An ``OSError`` of theirs does not end the run. The event waits, and all later ones behind it, so
    that files keep their order. One line names the folder and the free space.

    Args:
        callbacks: They must leave no trace of a call that raised an ``OSError``.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = list(callbacks)
        self._waiting: deque[_Event] = deque()
        self._next_try = 0.0
        # Folders that cannot be written to, and trials without a checkpoint, as the user was told.
        self._folders: dict[str, _Failure] = {}
        self._trials: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment; events of this process mean nothing later."""
        fresh = PatientFiles(self._callbacks)
        return dict(fresh.__dict__)

    def setup(self, **info: Any) -> None:
        """Tune's hook."""
        for callback in self._callbacks:
            callback.setup(**info)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Tune's hook."""
        self._take(_Event("on_trial_start", trial, {}))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Tune's hook; removes what goes into files from the result, which Tune keeps."""
        self._warn_of_checkpoint(trial, result)
        kept = whole(result)
        for key in (*MOVED_KEYS, FOR_FILES):
            result.pop(key, None)
        self._take(_Event(_RESULT, trial, {"result": kept}))
        if len(self._waiting) > MAX_WAITING:
            self._merge_oldest()

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        """Tune's hook."""
        self._take(_Event("on_trial_complete", trial, {}))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Tune's hook."""
        self._take(_Event("on_trial_error", trial, {}))

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Tune's hook; called at least a few times a second."""
        if self._waiting and time.monotonic() >= self._next_try:
            self._try_all()

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        """Tune's hook."""
        self._try_all()
        if self._waiting:
            folder = trial_path(self._waiting[0].trial).parent
            click.echo(
                f"The last {len(self._waiting)} events of trials are not in {folder}. Free space "
                f"there, then: rlssl resume {folder}",
                err=True,
            )
        for callback in self._callbacks:
            callback.on_experiment_end(trials=trials)

    def _take(self, event: _Event) -> None:
        self._waiting.append(event)
        if len(self._waiting) == 1:
            self._try_all()

    def _try_all(self) -> None:
        while self._waiting:
            event = self._waiting[0]
            try:
                self._call(event)
            except OSError as error:
                self._next_try = time.monotonic() + RETRY_S
                self._warn(trial_path(event.trial), error)
                return
            self._waiting.popleft()
        if self._folders:
            click.echo(f"All is written to {', '.join(self._folders)} again.", err=True)
        for folder, failure in self._folders.items():
            after_s = time.monotonic() - failure.since
            words = f"{failure.words}; all was written {after_s:,.0f} s later"
            note_fault(Path(folder), "disk", words)
        self._folders.clear()

    def _call(self, event: _Event) -> None:
        while event.begin < len(self._callbacks):
            hook = getattr(self._callbacks[event.begin], event.hook)
            hook(iteration=0, trials=[event.trial], trial=event.trial, **event.info)
            event.begin += 1

    def _merge_oldest(self) -> None:
        """Drops the oldest waiting result that has a newer one, which gets its episodes."""
        newer: dict[str, _Event] = {}
        found: tuple[_Event, _Event] | None = None
        for event in reversed(self._waiting):
            if event.hook != _RESULT or event.begin:
                newer.pop(event.trial.trial_id, None)
                continue
            if event.trial.trial_id in newer:
                found = event, newer[event.trial.trial_id]
            newer[event.trial.trial_id] = event
        if found is not None:
            old, new = found
            new.info["result"]["episodes"] = [
                *old.info["result"].get("episodes", []),
                *new.info["result"].get("episodes", []),
            ]
            self._waiting.remove(old)

    def _warn(self, folder: Path, error: OSError) -> None:
        if str(folder.parent) not in self._folders:
            words = f"{error.strerror or error}, {free_space(folder)} free"
            self._folders[str(folder.parent)] = _Failure(words, time.monotonic())
            click.echo(
                f"Cannot write to {folder}: {words}. "
                f"The run goes on, and tries again every {RETRY_S:g} s.",
                err=True,
            )

    def _warn_of_checkpoint(self, trial: Trial, result: dict[str, Any]) -> None:
        words = result.get(CHECKPOINT_ERROR)
        if not words:
            self._trials.discard(trial.trial_id)
        elif trial.trial_id not in self._trials:
            self._trials.add(trial.trial_id)
            note_fault(trial_path(trial).parent, "checkpoint", f"trial {trial.trial_id}: {words}")
            click.echo(f"Trial {trial.trial_id}: {words}", err=True)


def trial_path(trial: Trial) -> Path:
    """The folder of a trial, which may not exist."""
    return Path(trial.storage.trial_fs_path)
