"""Notices what makes no progress: ends a trial, restarts its processes, or kills the trial's."""

import contextlib
import faulthandler
import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click
import ray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.tune import Callback
from ray.tune.experiment import Trial

from rlssl.clocks import ENV_STEPS, UPDATES, WORDS
from rlssl.errors import TrainingTimeoutError
from rlssl.experiment.fault_log import note_fault
from rlssl.ray_internals.cluster import (
    STARTING,
    actor_state,
    forget_note,
    id_of_actor,
    kill_actor,
    names_of_notes,
    note_of_job,
    read_note,
    write_note,
)
from rlssl.ray_internals.env_runner import actor_manager, learner_manager

logger = logging.getLogger(__name__)

#: Longest time between two checks, seconds.
_PERIOD_S = 1.0

#: Seconds in which the main thread must end the interrupted call; then the process ends.
GRACE_S = 10.0

#: The start and the end of a process may take this many times as long as a call without progress,
#: and at least so many seconds: the time of imports does not depend on the trial.
_SETUP_FACTOR = 10
LEAST_SETUP_S = 300.0

#: Seconds in which an EnvRunner or Learner must answer a request that does nothing.
ANSWER_S = 10.0

#: Name of the note by which the driver asks the trials for their results: the run ends.
ENDING = "ending"

#: Longest time between two signs of life of a trial's process, seconds.
_BEAT_PERIOD_S = 5.0


class _WaitInterruptedError(TrainingTimeoutError, KeyboardInterrupt):
    """Raised by the signal handler.

    Ray ends its waits for other processes only for a `KeyboardInterrupt`, and then raises a plain
    one. Any other exception stays pending until the wait returns.
    """


class Watchdog:
    """Raises ``TrainingTimeoutError`` in the main thread when progress stops.

    Construct it in the main thread. A signal handler raises the exception, so that it also
    interrupts a sleeping environment or a blocking wait for a remote process. If that has no
    effect, as in a deadlock inside C, the process ends, and Tune treats it like any dead process.

    Time during which this process is stopped (SIGSTOP, a paused machine) does not count.

    Args:
        limit_s: Seconds without progress that are allowed.
        done: Returns the work done so far in the current iteration, in any unit. Called from
            another thread once per second. An iteration of slow updates may take longer than
            ``limit_s``; the watchdog accepts it while this number changes.
        rescue: Called from that thread before the exception is raised, once between two signs of
            progress. It returns whether it has repaired something; then the trial gets
            ``limit_s`` once more.
        is_starting: Called from that thread before the exception is raised; returns whether a
            process of the trial is being started again. That may take as long as a setup.
        beat: Called from that thread at each check; shows that this process is not frozen.
        clock: What the trial counts; see `rlssl.clocks`.
    """

    def __init__(
        self,
        limit_s: float,
        done: Callable[[], int] = lambda: 0,
        *,
        rescue: Callable[[], bool] = lambda: False,
        is_starting: Callable[[], bool] = lambda: False,
        beat: Callable[[], None] = lambda: None,
        clock: str = ENV_STEPS,
    ) -> None:
        self.limit_s, self.clock = limit_s, clock
        self.env_steps = 0
        self._done, self._rescue, self._is_starting, self._beat = done, rescue, is_starting, beat
        self._setup_s = max(_SETUP_FACTOR * limit_s, LEAST_SETUP_S)
        # Seconds since the last progress in which a process was starting.
        self._starting_s = 0.0
        self._work = 0
        self._idle_s = 0.0
        self._is_setup = self._is_paused = self._was_rescued = self._has_interrupted = False
        self._stopped = threading.Event()
        # Held while the signal is sent: after `stop`, its default action would end the process.
        self._sending = threading.Lock()
        self._previous_handler = signal.signal(signal.SIGUSR2, self._raise)
        threading.Thread(target=self._watch, name="rlssl-watchdog", daemon=True).start()

    def report(self, env_steps: int) -> None:
        """Reports the env steps of the run after an iteration.

        Raises:
            TrainingTimeoutError: If iterations finish, but env steps have not increased for longer
                than ``limit_s``.
        """
        if env_steps != self.env_steps:
            self.env_steps = env_steps
            self.note_progress()
        elif self._idle_s > self.limit_s and not self._waits_for_start():
            # From here on, the other thread does not interrupt: one error ends the trial.
            self._is_paused = True
            raise self._error()

    def note_progress(self) -> None:
        """Starts the time limit again."""
        self._idle_s, self._was_rescued, self._starting_s = 0.0, False, 0.0

    @contextlib.contextmanager
    def setting_up(self) -> Iterator[None]:
        """Context of a trial's setup, which may take longer; an overdue setup ends the process."""
        self._is_setup = True
        try:
            yield
        except BaseException:
            self.stop()
            raise
        self._is_paused, self._is_setup = True, False
        self.note_progress()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Context of a call that is watched; between two of them, time does not count.

        Raises:
            TrainingTimeoutError: If progress stopped.
        """
        self._is_paused = False
        try:
            yield
        except KeyboardInterrupt as error:
            if not self._has_interrupted:
                raise
            raise self._error() from error
        finally:
            self._is_paused = True

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Context of a trial's end, in a process that goes on; an overdue end ends the process."""
        self.note_progress()
        self._is_setup, self._is_paused = True, False
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Stops the watchdog and restores the previous signal handler."""
        self._is_paused = True  # a signal that is on its way does nothing
        with self._sending:
            self._stopped.set()
        signal.signal(signal.SIGUSR2, self._previous_handler)

    def _watch(self) -> None:
        period_s = min(_PERIOD_S, self.limit_s / 10)
        before = time.monotonic()
        while not self._stopped.wait(period_s):
            elapsed_s, before = time.monotonic() - before, time.monotonic()
            self._beat()
            if self._is_paused:
                continue
            # A longer time means that this process was stopped.
            self._idle_s += min(elapsed_s, 2 * period_s)
            if not self._is_setup and (done := self._done()) != self._work:
                self._work = done
                self.note_progress()
            if self._idle_s > self._allowed_s:
                self._act()

    @property
    def _allowed_s(self) -> float:
        return self._setup_s if self._is_setup else self.limit_s

    def _act(self) -> None:
        if self._is_setup:
            self._end_process()
        elif not self._was_rescued and self._rescue():
            self._idle_s, self._was_rescued = 0.0, True
        elif self._waits_for_start():
            self._idle_s, self._starting_s = 0.0, self._starting_s + self.limit_s
        elif self._idle_s > self.limit_s:  # no progress during the rescue
            self._interrupt()

    def _waits_for_start(self) -> bool:
        return self._starting_s < self._setup_s and self._is_starting()

    def _interrupt(self) -> None:
        faulthandler.dump_traceback()
        with self._sending:
            if self._is_paused or self._stopped.is_set():  # while the traceback was written
                return
            self._has_interrupted = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
        deadline = time.monotonic() + GRACE_S
        while not self._is_paused and not self._stopped.wait(_PERIOD_S / 10):
            self._beat()
            if time.monotonic() > deadline:
                self._end_process()
                self._stopped.set()

    def _end_process(self) -> None:
        faulthandler.dump_traceback()
        if self._is_paused or self._stopped.is_set():  # while the traceback was written
            return
        in_actor = ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
        outcome = "its process ends" if in_actor else "still waiting: this process is no Ray actor"
        logger.error("%s The trial cannot be interrupted; %s.", self._error(), outcome)
        if in_actor:
            os._exit(1)

    def _raise(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        if not self._is_paused:
            raise _WaitInterruptedError(str(self._error()))

    def _error(self) -> TrainingTimeoutError:
        cause = "an environment hangs, or every EnvRunner is dead"
        if self.clock == UPDATES:
            cause = "the disk of the data set hangs, or a Learner is dead"
        return TrainingTimeoutError(
            f"no progress for more than {self._allowed_s:g} s (watchdog_s) at "
            f"{self.env_steps} {WORDS[self.clock]}; {cause}."
        )


def restart_frozen(
    algorithm: Algorithm,
    *,
    answer_s: float = ANSWER_S,
    meanwhile: Callable[[], None] = lambda: None,
) -> bool:
    """Kills the EnvRunners and Learners of a trial that do not answer; whether there were any.

    Ray starts such an EnvRunner again. The death of a Learner ends the trial, which Tune retries. A
    process that Ray knows to be dead, or is starting, is left alone.

    Args:
        algorithm: An Algorithm whose main thread may be waiting for these processes.
        answer_s: Seconds in which they must answer.
        meanwhile: Called once a second until they have answered.
    """
    # Ray sends a lambda by value: the other processes need not import this module first.
    requests = {actor.apply.remote(lambda _: None): actor for actor in _remote_actors(algorithm)}
    silent = list(requests)
    # Counts waits, not time: while this process is stopped, the others cannot answer it.
    for _ in range(math.ceil(answer_s / _PERIOD_S)):
        if not silent:
            return False
        _, silent = ray.wait(silent, num_returns=len(silent), timeout=_PERIOD_S)
        meanwhile()
    actors = (requests[request] for request in silent)
    frozen = [actor for actor in actors if actor_state(id_of_actor(actor)) == "ALIVE"]
    for actor in frozen:
        logger.warning("%s does not answer, and is killed.", actor)
        ray.kill(actor, no_restart=False)
    return bool(frozen)


def is_starting(algorithm: Algorithm) -> bool:
    """Whether Ray is starting an EnvRunner or Learner of a trial."""
    return any(actor_state(id_of_actor(actor)) in STARTING for actor in _remote_actors(algorithm))


def _remote_actors(algorithm: Algorithm) -> Iterator[Any]:
    groups = (algorithm.env_runner_group, algorithm.eval_env_runner_group)
    managers = [actor_manager(group) for group in groups if group is not None]
    for manager in [*managers, learner_manager(algorithm.learner_group)]:
        if manager is not None:
            yield from manager.actors().values()


class Heartbeat:
    """Signs of life of a trial's process, which the driver reads from Ray's head node.

    Args:
        trial_id: Tune's id of the trial.
        limit_s: Seconds of silence after which the driver kills this process.
        drained: Returns the id of a node that the trial has to leave; "" if there is none. Called
            with each sign of life.
    """

    def __init__(
        self, trial_id: str, limit_s: float, drained: Callable[[], str] = lambda: ""
    ) -> None:
        in_actor = ray.is_initialized()
        self._actor = ray.get_runtime_context().get_actor_id() if in_actor else None
        self._note = note_of(trial_id) if in_actor else ""
        self._limit_s = limit_s
        self._period_s = min(_BEAT_PERIOD_S, limit_s / 5)
        self._count, self._next = 0, 0.0
        self._lock = threading.Lock()
        self.is_asked_for_result = False
        self._drained, self.drained_node = drained, ""

    def beat(self) -> None:
        """Gives a sign of life, if the last one is some seconds old; hears whether a run ends."""
        with self._lock:
            if self._actor is not None and not self.is_asked_for_result:
                self.is_asked_for_result = read_note(note_of_job(ENDING)) is not None
            if self._actor is None or time.monotonic() < self._next:
                return
            self._next = time.monotonic() + self._period_s
            self._count += 1
            sign = {"actor": self._actor, "count": self._count, "limit_s": self._limit_s}
            write_note(self._note, json.dumps(sign))
            self.drained_node = self._drained()

    def stop(self) -> None:
        """Takes the signs of life back: from now on, this process belongs to another trial."""
        with self._lock:
            if self._actor is not None:
                forget_note(self._note)
            self._actor = None


def note_of(trial_id: str) -> str:
    """Name of the note on Ray's head node that holds the last sign of life of a trial."""
    return note_of_job(f"heartbeat/{trial_id}")


@dataclass
class _Silence:
    sign: str
    silent_s: float = 0.0
    was_killed: bool = False


class SilenceTimer(Callback):
    """Kills the process of a trial that gives no sign of life for ``watchdog_s``; Tune retries.

    Such a process is stopped (SIGSTOP), waits for a disk or for memory forever, or a call into C
    does not let its other threads run. So its own watchdog cannot end it.
    """

    #: Seconds between two looks at the signs of life.
    period_s = 2.0
    #: Seconds in which the process of an earlier trial must give the next trial's first sign.
    reuse_limit_s = 300.0

    def __init__(self) -> None:
        self._heard: dict[str, _Silence] = {}
        self._last_look = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment; a time of this process means nothing later."""
        return {"_heard": {}, "_last_look": 0.0}

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Tune's hook; called at least a few times a second."""
        elapsed_s = time.monotonic() - self._last_look
        if elapsed_s < self.period_s:
            return
        self._last_look += elapsed_s
        notes = set(names_of_notes(note_of("")))
        # A longer time means that this process was stopped.
        elapsed_s = min(elapsed_s, 2 * self.period_s)
        for trial in trials:
            if trial.status not in (Trial.RUNNING, Trial.PENDING):
                continue
            if note_of(trial.trial_id) in notes:
                self._look_at(trial, read_note(note_of(trial.trial_id)), elapsed_s)
            elif trial.status == Trial.PENDING and trial.temporary_state.ray_actor is not None:
                actor = id_of_actor(trial.temporary_state.ray_actor)
                sign = {"actor": actor, "count": 0, "limit_s": self.reuse_limit_s}
                self._look_at(trial, json.dumps(sign), elapsed_s)

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        """Tune's hook."""
        for trial_id in self._heard:
            forget_note(note_of(trial_id))

    def _look_at(self, trial: Trial, sign: str | None, elapsed_s: float) -> None:
        known = self._heard.get(trial.trial_id)
        if sign is None:
            return
        if known is None or known.sign != sign:
            self._heard[trial.trial_id] = _Silence(sign)
            return
        known.silent_s += elapsed_s
        last = json.loads(sign)
        if known.was_killed or known.silent_s <= last["limit_s"]:
            return
        known.was_killed = True
        if actor_state(last["actor"]) == "DEAD":
            return
        words = f"trial {trial.trial_id} was silent for {last['limit_s']:g} s"
        note_fault(Path(trial.storage.experiment_fs_path), "silent", words)
        click.echo(
            f"Trial {trial.trial_id} has given no sign of life for {last['limit_s']:g} s "
            "(watchdog_s). Its process is killed.",
            err=True,
        )
        kill_actor(last["actor"])
