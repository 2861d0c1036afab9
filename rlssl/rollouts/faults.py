"""Counts the faults of environments, and decides whether the run continues."""

import logging
import math
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS

from rlssl.environments.observation_checks import BadObservationError
from rlssl.environments.timeout import EnvironmentTimeoutError
from rlssl.errors import EnvironmentFaultError
from rlssl.plugins import with_line
from rlssl.ray_internals.env_runner import watch_remote_results
from rlssl.ray_internals.errors import is_unbuilt_actor, raised_by_worker
from rlssl.rollouts.batch_checks import BadRewardError

logger = logging.getLogger(__name__)

#: First part of the names of fault counters, in an EnvRunner's metrics and in results.
FAULTS_KEY = "faults"

#: Counters: the kinds of faults, then the unfinished episodes lost to faults.
FAULT_COUNTERS = (
    "env_crashes",
    "env_timeouts",
    "bad_observations",
    "bad_rewards",
    "episodes_dropped",
)

#: Key of the line that says what the latest fault was, in an EnvRunner's metrics and in results.
LATEST_FAULT_KEY = "rlssl_latest_fault"
LATEST_FAULT = "latest_env_fault"

#: Crashes from which on their rate is judged, and the rate that ends a run unless the config says
#: otherwise.
MIN_CRASHES_JUDGED = 10
MAX_CRASHES_PER_1000_ENV_STEPS = 1.0

#: Consecutive faults that a slot may have without a finished episode between them.
MAX_FAULTS_IN_A_ROW = 3

#: Faults that one timeout counts as: all environments wait env_step_timeout_s for it.
TIMEOUT_WEIGHT = 2

#: The run ends if more than this fraction of all slots is lost within this many seconds.
LOSS_WINDOW_S = 60.0
MAX_LOST_PART = 0.1

#: Faults of each kind that are logged; all of them are counted.
_LOGGED_IN_FULL = 3

#: Most files of tracebacks that one process writes.
_MAX_TRACEBACKS = 20

#: Longest quotation of an environment's error message, in characters.
_MAX_QUOTED_CHARACTERS = 500

#: Errors of an environment that do not end the process. A `TrainingTimeoutError` is no fault.
ENVIRONMENT_ERRORS = (Exception, SystemExit, EnvironmentTimeoutError)

_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (EnvironmentTimeoutError, "env_timeouts"),
    (BadObservationError, "bad_observations"),
    (BadRewardError, "bad_rewards"),
    (BaseException, "env_crashes"),
)


@dataclass(frozen=True)
class Fault:
    """One failure of an environment."""

    # "make", "reset" or "step".
    method: str
    error: BaseException
    # Slot of the environment; None if the whole vector environment failed, or the slot is unknown.
    slot: int | None = None

    @property
    def kind(self) -> str:
        """Name of the counter of this fault."""
        return next(kind for cls, kind in _KINDS if isinstance(self.error, cls))

    @property
    def weight(self) -> int:
        """Number of consecutive faults that it counts as."""
        return TIMEOUT_WEIGHT if self.kind == "env_timeouts" else 1

    def message(self, name: str, limit_s: float) -> str:
        """Says in one line what happened, and quotes the environment's error message.

        Args:
            name: The environment's id.
            limit_s: Seconds that the call was allowed to take.
        """
        if self.kind == "env_timeouts":
            return (
                f"environment {name!r} timed out in {self.method}() after {limit_s:g} s "
                "(env_step_timeout_s)"
            )
        said = " ".join(str(self.error).split())[:_MAX_QUOTED_CHARACTERS]
        if self.kind != "env_crashes":
            return f"environment {name!r}: {self.method}() gave {said}"
        error = f"{type(self.error).__name__}: {said}"
        return with_line(f"environment {name!r} failed in {self.method}(): {error}", self.error)


class FaultLedger:
    """The faults of the environments of one EnvRunner.

    A finished episode resets the slot's count of consecutive faults. The run ends when a slot has
    more than `MAX_FAULTS_IN_A_ROW`. A slot that reaches this number, or times out, counts as lost
    until it finishes an episode. The run also ends when at least two slots, and at least a tenth of
    all slots, are lost within a minute.
    """

    def __init__(
        self,
        name: str,
        num_slots: int,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        folder: Path | None = None,
    ) -> None:
        """Starts without faults.

        Args:
            name: The environment's id.
            num_slots: Number of environments of the runner.
            timeout_s: ``env_step_timeout_s``.
            clock: Returns the time in seconds.
            folder: Where the first traceback of each kind is saved; None: nowhere.
        """
        self._name, self._timeout_s, self._clock = name, timeout_s, clock
        self._tracebacks = FirstTracebacks(folder)
        self._latest = ""
        #: Seconds that a call may take. Half the timeout, until every slot that timed out has
        #: finished an episode.
        self.limit_s = timeout_s
        self._in_a_row = np.zeros(num_slots, np.int64)
        self._has_timed_out = np.zeros(num_slots, np.bool_)
        # Slot -> time at which it was lost.
        self._lost_at: dict[int, float] = {}
        self._new: Counter[str] = Counter()
        self._logged: Counter[str] = Counter()

    def finished(self, slot: int) -> None:
        """Resets the count of a slot that has finished an episode."""
        self._in_a_row[slot] = 0
        self._lost_at.pop(slot, None)
        if self._has_timed_out[slot]:
            self._has_timed_out[slot] = False
            self._set_limit()

    def record(self, fault: Fault) -> None:
        """Counts a fault; returns if the environment should be replaced.

        Raises:
            EnvironmentFaultError: If there were too many faults.
        """
        message = fault.message(self._name, self.limit_s)
        self._new[fault.kind] += 1
        self._latest = message
        self._log(fault.kind, message)
        self._tracebacks.save(fault, message)
        slots: Any = slice(None) if fault.slot is None else fault.slot
        self._in_a_row[slots] += fault.weight
        self._has_timed_out[slots] |= fault.kind == "env_timeouts"
        self._set_limit()
        in_a_row = int(np.max(self._in_a_row[slots]))
        if in_a_row > MAX_FAULTS_IN_A_ROW:
            who = "" if fault.slot is None else f"slot {fault.slot}: "
            self._end(
                fault,
                f"{message}; {who}more than {MAX_FAULTS_IN_A_ROW} faults in a row without a "
                "finished episode between them (a timeout counts twice).",
            )
        is_lost = in_a_row == MAX_FAULTS_IN_A_ROW or np.any(self._has_timed_out[slots])
        if fault.slot is not None and is_lost:
            self._note_loss(fault, message)

    def drop_episodes(self, count: int) -> None:
        """Counts unfinished episodes that were lost to a fault."""
        self._new["episodes_dropped"] += count

    def log(self, metrics: Any) -> None:
        """Adds the faults since the last call to the lifetime counts in RLlib's MetricsLogger.

        The latest fault is logged as a line of text.
        """
        if self._latest:
            metrics.log_value(LATEST_FAULT_KEY, self._latest, reduce="item_series")
            self._latest = ""
        for name, count in self._new.items():
            metrics.log_value((FAULTS_KEY, name), count, reduce="lifetime_sum")
        self._new.clear()

    def _set_limit(self) -> None:
        self.limit_s = self._timeout_s / (2 if self._has_timed_out.any() else 1)

    def _note_loss(self, fault: Fault, message: str) -> None:
        assert fault.slot is not None
        now = self._clock()
        self._lost_at[fault.slot] = now
        lost = sum(now - since <= LOSS_WINDOW_S for since in self._lost_at.values())
        slots = len(self._in_a_row)
        if lost >= max(2, math.ceil(MAX_LOST_PART * slots)):
            self._end(
                fault, f"{message}; {lost} of {slots} slots were lost within {LOSS_WINDOW_S:g} s."
            )

    def _end(self, fault: Fault, message: str) -> NoReturn:
        raise EnvironmentFaultError(message) from fault.error

    def _log(self, kind: str, message: str) -> None:
        self._logged[kind] += 1
        if self._logged[kind] <= _LOGGED_IN_FULL:
            logger.warning("%s; building a new one (counted as faults/%s).", message, kind)


class FirstTracebacks:
    """Saves the first traceback of each kind of fault and error, for all EnvRunners of a run."""

    def __init__(self, folder: Path | None) -> None:
        """Saves into ``folder``; nowhere if it is None."""
        self._folder = folder
        self._seen: set[str] = set()

    def save(self, fault: Fault, message: str) -> None:
        """Writes a file, unless this process or another one has written it."""
        name = f"{fault.kind}-{re.sub(r'[^A-Za-z0-9_]', '_', type(fault.error).__name__)}"
        if self._folder is None or name in self._seen or len(self._seen) >= _MAX_TRACEBACKS:
            return
        self._seen.add(name)
        trace = "".join(traceback.format_exception(fault.error))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / f"{name}.txt").open("x", encoding="utf-8") as file:
                file.write(f"{message}\n\n{trace}")
        except FileExistsError:
            pass  # another EnvRunner had this fault before
        except OSError as error_of_disk:
            logger.warning("The traceback of a fault was not saved: %s.", error_of_disk)


def check_crash_rate(crashes: int, env_steps: int, most: float, latest: str) -> None:
    """Ends a run whose environments crash too often to learn from what is left.

    Args:
        crashes: Crashes since the start of the run.
        env_steps: Env steps since the start of the run.
        most: Crashes per 1,000 env steps that are allowed.
        latest: What the latest crash was.

    Raises:
        EnvironmentFaultError: From the tenth crash on, if there are more.

    Example:
        >>> check_crash_rate(9, 1_000, 1.0, "")
        >>> check_crash_rate(10, 4_000, 1.0, "KeyError: 'gone'")
        Traceback (most recent call last):
        rlssl.errors.EnvironmentFaultError: environments crashed 10 times in 4,000 env steps, 2.5 \
times per 1,000; at most 1 is allowed. The latest: KeyError: 'gone'. Correct the environment, or \
raise max_env_crashes_per_1000_env_steps.
    """
    rate = 1_000 * crashes / max(1, env_steps)
    if crashes >= MIN_CRASHES_JUDGED and rate > most:
        raise EnvironmentFaultError(
            f"environments crashed {crashes:,} times in {env_steps:,} env steps, {rate:.3g} times "
            f"per 1,000; at most {most:g} is allowed. The latest: {latest}. Correct the "
            "environment, or raise max_env_crashes_per_1000_env_steps."
        )


def raise_faults_of_remote_runners() -> None:
    """Lets RLlib raise the final errors of remote runners in this process.

    RLlib itself logs such an error and continues without the runner; in the end it trains without
    any data. It does the same with a runner that cannot be built. Idempotent. The errors of other
    actors are left to RLlib.
    """
    watch_remote_results(_raise_if_final)


def _raise_if_final(error: BaseException) -> None:
    # Ray's error message begins with actors and tasks.
    original = raised_by_worker(error)
    if isinstance(original, EnvironmentFaultError):
        raise EnvironmentFaultError(str(original)) from error
    if is_unbuilt_actor(error):
        raise original


def count_faults(results: Mapping[str, Any]) -> dict[str, int]:
    """Lifetime counts of all faults of environments and Learners.

    Args:
        results: One result of an RLlib Algorithm.
    """
    counts = dict.fromkeys((*FAULT_COUNTERS, "nonfinite_updates"), 0)
    for part in (ENV_RUNNER_RESULTS, LEARNER_RESULTS):
        given = results.get(part, {}).get(FAULTS_KEY, {})
        counts.update({name: int(count) for name, count in given.items()})
    return counts
