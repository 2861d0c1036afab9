"""Ctrl-C and SIGTERM: every running trial saves a checkpoint, within a bounded time."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.result import SHOULD_CHECKPOINT

from rlssl.clocks import WORDS, clock_of, steps_of
from rlssl.errors import ExitCode
from rlssl.experiment.tuning.watchdog import ENDING
from rlssl.ray_internals.cluster import forget_note, note_of_job, write_note
from rlssl.system.interrupts import raise_if_interrupted

#: Signals that end a run.
SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: Seconds in which a second signal is taken for the same one: GNU's ``timeout`` sends two.
_SAME_S = 0.3

#: Seconds that Tune may take to end after the checkpoints. After that the process just ends.
_ENDING_S = 15.0


class Interruption(Callback):
    """Ends a run at the first signal, after its trials have saved; at once at the second signal.

    Tune alone ends a run without checkpoints: everything since the last ones is lost.

    Args:
        limit_s: Seconds that the checkpoints may take.
        folder: The run's folder.
    """

    def __init__(self, limit_s: float, folder: Path) -> None:
        self._limit_s, self._folder = limit_s, folder
        self._signaled_at: float | None = None
        # Trials that still have to save; None before the signal is handled.
        self._unsaved: set[str] | None = None
        self._num_trials = 0

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment; a signal ends only the run that got it."""
        state = {**vars(self), "_signaled_at": None, "_unsaved": None}
        state.pop("_deadline", None)
        return state

    @contextlib.contextmanager
    def handles_signals(self) -> Iterator[None]:
        """Inside this context, signals end the run as described above; Tune must run inside it."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread gets signals
            return
        # Tune's own handler would end the run at the first Ctrl-C.
        before = os.environ.get("TUNE_DISABLE_SIGINT_HANDLER")
        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
        handlers = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        tunes_signal = signal.getsignal(signal.SIGUSR1)
        self._deadline = threading.Timer(self._limit_s + _ENDING_S, self._end_at_once)
        self._deadline.daemon = True
        try:
            # Only now can no signal be lost any more.
            raise_if_interrupted()
            yield
        finally:
            self._deadline.cancel()
            for number, handler in [*handlers.items(), (signal.SIGUSR1, tunes_signal)]:
                signal.signal(number, handler)
            os.environ.pop("TUNE_DISABLE_SIGINT_HANDLER")
            if before is not None:
                os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = before

    def _on_signal(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self._signaled_at is None:
            self._signaled_at = now
            self._deadline.start()
        elif now - self._signaled_at > _SAME_S:
            self._end_at_once()

    def _end_at_once(self) -> None:
        # Not `click.echo`: a signal may interrupt another print.
        os.write(sys.stderr.fileno(), f"\nContinue with: rlssl resume {self._folder}\n".encode())
        os._exit(ExitCode.INTERRUPTED)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Tune's hook; Tune saves the trial if the result asks for it."""
        if self._signaled_at is not None:
            result[SHOULD_CHECKPOINT] = True

    def on_trial_save(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Tune's hook."""
        if self._unsaved is not None and trial.trial_id in self._unsaved:
            self._unsaved.remove(trial.trial_id)
            done = self._num_trials - len(self._unsaved)
            last = trial.last_result or {}
            words = f"{steps_of(last, 0):,} {WORDS[clock_of(last)]}"
            click.echo(f"Saved {done} of {self._num_trials}: {words}", err=True)

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        """Tune's hook; a script may run another experiment in this job."""
        if self._unsaved is not None:
            forget_note(note_of_job(ENDING))

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Tune's hook; called at least a few times a second."""
        if self._signaled_at is None:
            return
        running = {trial.trial_id for trial in trials if trial.status == Trial.RUNNING}
        if self._unsaved is None:
            # Trials that report rarely do so now.
            write_note(note_of_job(ENDING), "")
            self._unsaved, self._num_trials = running, len(running)
            click.echo(
                f"Interrupted. Saving a checkpoint of each running trial ({len(running)}), for at "
                f"most {self._limit_s:g} s; another Ctrl-C ends at once.",
                err=True,
            )
        self._unsaved &= running
        is_late = time.monotonic() - self._signaled_at > self._limit_s
        if is_late and self._unsaved:
            click.echo(
                f"{len(self._unsaved)} trials did not save in time; they continue from older "
                "checkpoints.",
                err=True,
            )
        if is_late or not self._unsaved:
            # Tune ends at this signal: it saves the state of the experiment and stops the trials.
            signal.raise_signal(signal.SIGUSR1)
