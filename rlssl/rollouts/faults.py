"""Counts what environments do wrong, and decides whether to go on."""

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS

from rlssl.environments.observation_checks import BadObservationError
from rlssl.environments.timeout import EnvironmentTimeoutError
from rlssl.errors import EnvironmentFaultError
from rlssl.ray_internals.env_runner import watch_remote_results
from rlssl.ray_internals.errors import is_unbuilt_actor, raised_by_worker
from rlssl.rollouts.batch_checks import BadRewardError

logger = logging.getLogger(__name__)

#: First part of the metrics' names, in an EnvRunner's metrics and in results.
FAULTS_KEY = "faults"

#: What is counted: the kinds of faults, then the unfinished episodes that they cost.
FAULT_COUNTERS = (
    "env_crashes",
    "env_timeouts",
    "bad_observations",
    "bad_rewards",
    "episodes_dropped",
)

#: Faults in a row, without a finished episode between, that a slot is forgiven.
MAX_FAULTS_IN_A_ROW = 3

#: What a stall counts for: each one costs everybody the whole of env_step_timeout_s.
STALL_WEIGHT = 2

#: The slots lost within so many seconds are counted together, and may be this part of all.
LOSS_WINDOW_S = 60.0
MAX_LOST_PART = 0.1

#: Faults of a kind that are logged in full; all are counted.
_LOGGED_IN_FULL = 3

#: Longest quotation of an environment's own words, in characters.
_MAX_WORDS = 500

#: What an environment may raise without ending the process; `TrainingTimeoutError` is no fault.
ENVIRONMENTS_OWN = (Exception, SystemExit, EnvironmentTimeoutError)

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
    # Whose; None: of a vector environment that does not tell, or of the whole of it.
    slot: int | None = None

    @property
    def kind(self) -> str:
        """The counter that it belongs to."""
        return next(kind for cls, kind in _KINDS if isinstance(self.error, cls))

    @property
    def weight(self) -> int:
        """How many of the faults in a row it counts for."""
        return STALL_WEIGHT if self.kind == "env_timeouts" else 1

    def words(self, name: str, limit_s: float) -> str:
        """Says in one line what happened, in the environment's own words where it has any."""
        if self.kind == "env_timeouts":
            return (
                f"environment {name!r} stood still in {self.method}() for more than {limit_s:g} s "
                "(env_step_timeout_s)"
            )
        said = " ".join(str(self.error).split())[:_MAX_WORDS]
        if self.kind != "env_crashes":
            return f"environment {name!r}: {self.method}() gave {said}"
        return (
            f"environment {name!r} failed in {self.method}(): {type(self.error).__name__}: {said}"
        )


class FaultLedger:
    """The faults of one EnvRunner's environments.

    A slot's faults are forgiven once it finishes an episode. The run ends when a slot has more than
    `MAX_FAULTS_IN_A_ROW`. A slot that has come to this number, or stood still, is lost until it is
    forgiven: the run ends when two slots, and a tenth of all, are lost within a minute.
    """

    def __init__(self, name: str, num_slots: int, timeout_s: float) -> None:
        """Starts without faults.

        Args:
            name: The environment's id.
            num_slots: Environments of the runner.
            timeout_s: ``env_step_timeout_s``.
        """
        self._name, self._timeout_s = name, timeout_s
        #: Seconds that a call may take: half, while a slot that stalled has not recovered.
        self.limit_s = timeout_s
        self._in_a_row = np.zeros(num_slots, np.int64)
        self._has_stalled = np.zeros(num_slots, np.bool_)
        # Slot -> when, on the monotonic clock.
        self._lost_at: dict[int, float] = {}
        self._new: Counter[str] = Counter()
        self._logged: Counter[str] = Counter()

    def finished(self, slot: int) -> None:
        """Forgives a slot that has finished an episode."""
        self._in_a_row[slot] = 0
        self._lost_at.pop(slot, None)
        if self._has_stalled[slot]:
            self._has_stalled[slot] = False
            self._set_limit()

    def record(self, fault: Fault) -> None:
        """Counts a fault; returns if the slot is to be tried again.

        Raises:
            EnvironmentFaultError: If there were too many.
        """
        words = fault.words(self._name, self.limit_s)
        self._new[fault.kind] += 1
        self._log(fault.kind, words)
        slots: Any = slice(None) if fault.slot is None else fault.slot
        self._in_a_row[slots] += fault.weight
        self._has_stalled[slots] |= fault.kind == "env_timeouts"
        self._set_limit()
        in_a_row = int(np.max(self._in_a_row[slots]))
        if in_a_row > MAX_FAULTS_IN_A_ROW:
            who = "" if fault.slot is None else f"slot {fault.slot}: "
            self._end(
                fault,
                f"{words}; {who}more than {MAX_FAULTS_IN_A_ROW} faults in a row without a finished "
                "episode between (a stall counts twice).",
            )
        if fault.slot is not None and (in_a_row == MAX_FAULTS_IN_A_ROW or self._has_stalled[slots]):
            self._note_loss(fault, words)

    def drop_episodes(self, count: int) -> None:
        """Counts unfinished episodes that a fault cost."""
        self._new["episodes_dropped"] += count

    def log(self, metrics: Any) -> None:
        """Adds what is new to the lifetime counts in RLlib's MetricsLogger."""
        for name, count in self._new.items():
            metrics.log_value((FAULTS_KEY, name), count, reduce="lifetime_sum")
        self._new.clear()

    def _set_limit(self) -> None:
        self.limit_s = self._timeout_s / (2 if self._has_stalled.any() else 1)

    def _note_loss(self, fault: Fault, words: str) -> None:
        assert fault.slot is not None
        now = time.monotonic()
        self._lost_at[fault.slot] = now
        lost = sum(now - since <= LOSS_WINDOW_S for since in self._lost_at.values())
        slots = len(self._in_a_row)
        if lost >= max(2, math.ceil(MAX_LOST_PART * slots)):
            self._end(
                fault, f"{words}; {lost} of {slots} slots were lost within {LOSS_WINDOW_S:g} s."
            )

    def _end(self, fault: Fault, message: str) -> NoReturn:
        raise EnvironmentFaultError(message) from fault.error

    def _log(self, kind: str, words: str) -> None:
        self._logged[kind] += 1
        if self._logged[kind] <= _LOGGED_IN_FULL:
            logger.warning("%s; starting it anew (counted as faults/%s).", words, kind)


def raise_faults_of_remote_runners() -> None:
    """Makes RLlib raise, in this process, what remote runners give up on.

    It would log the error, go on without the runner and, at last, train on nothing. The same holds
    for a runner that cannot be built. Idempotent; errors of other actors are RLlib's as ever.
    """
    watch_remote_results(_raise_if_final)


def _raise_if_final(error: BaseException) -> None:
    # Ray's own error speaks of actors and tasks first.
    original = raised_by_worker(error)
    if isinstance(original, EnvironmentFaultError):
        raise EnvironmentFaultError(str(original)) from error
    if is_unbuilt_actor(error):
        raise original


def count_faults(results: Mapping[str, Any]) -> dict[str, int]:
    """Lifetime counts of all faults: the environments', then the Learners'.

    Args:
        results: One result of an RLlib Algorithm.
    """
    counts = dict.fromkeys((*FAULT_COUNTERS, "nonfinite_updates"), 0)
    for part in (ENV_RUNNER_RESULTS, LEARNER_RESULTS):
        given = results.get(part, {}).get(FAULTS_KEY, {})
        counts.update({name: int(count) for name, count in given.items()})
    return counts
