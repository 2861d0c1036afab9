"""The driver's pool of workers: sends requests, receives replies, restarts failed workers.

The pool does not look into gradients, so it also works with simulated workers.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from rlssl.errors import FINAL_ERRORS, TrainingTimeoutError
from rlssl.ray_internals.errors import raised_by_worker

logger = logging.getLogger(__name__)

#: What `WorkerPool.counts` counts, over the whole run.
POOL_COUNTERS = ("worker_restarts", "worker_hangs", "worker_errors", "duplicate_gradients")

#: Seconds between two tries to reach a worker that is being restarted.
RETRY_S = 0.5

#: Consecutive failures after which a worker is abandoned.
MAX_FAILURES_IN_A_ROW = 5

#: Building a worker may take this many times as long as a reply.
_BUILD_FACTOR = 10


class Reply(NamedTuple):
    """What a worker sends for one fragment."""

    #: Id of the worker's process; a restart changes it.
    incarnation: str
    #: Index of this reply within the process.
    sequence: int
    #: Version of the parameters that the gradient was computed with.
    version: int
    #: [number of trainable parameters], float32, flat.
    gradient: np.ndarray
    #: Agent steps of the fragment.
    agent_steps: int
    #: Metrics and statistics, if they were requested.
    report: Any = None
    #: Without metrics: the episodes that have finished since the last reply.
    episodes: Sequence[Any] = ()
    #: Moments of the fragment's observations, if the module normalizes observations.
    moments: Any = None


@dataclass
class _Member:
    actor: Any
    incarnation: str = ""
    # Ids of earlier processes, whose replies are ignored.
    retired: set[str] = field(default_factory=set)
    last_sequence: int = -1
    is_available: bool = False
    # Requests sent to this incarnation.
    num_asked: int = 0
    request: Any = None
    asked_at: float = 0.0
    next_try: float = 0.0
    failures: int = 0
    abandoned_for: BaseException | None = None


class WorkerPool:
    """Sends one request at a time to each worker, and survives the death of workers.

    A worker is an actor with ``hello() -> incarnation`` and ``gradient(...) -> Reply``. Ray
    restarts it when it dies. A new incarnation counts as one restart. A duplicate reply, or a reply
    from a process that was replaced, is dropped and counted.

    Args:
        actors: Index -> handle.
        timeout_s: Seconds that one worker's reply may take; then it is killed and restarted.
        silence_s: Seconds without a reply from any worker after which the run fails; ten times as
            many while a worker is being started.
        on_available: Called with a worker's index whenever the worker becomes available.
        remote: The module ``ray``, or a simulation with its ``wait``, ``get`` and ``kill``.
        clock: The module ``time``, or a simulation with its ``monotonic`` and ``sleep``.
    """

    def __init__(
        self,
        actors: Mapping[int, Any],
        *,
        timeout_s: float,
        silence_s: float,
        on_available: Callable[[int], None] = lambda index: None,
        remote: Any = ray,
        clock: Any = time,
    ) -> None:
        #: Incarnations that died or were replaced.
        self.gone: set[str] = set()
        self.counts: Counter[str] = Counter(dict.fromkeys(POOL_COUNTERS, 0))
        self._members = {index: _Member(actor) for index, actor in actors.items()}
        self._timeout_s, self._silence_s = timeout_s, silence_s
        self._on_available = on_available
        self._ray, self._clock = remote, clock
        # Seconds spent waiting since the last reply.
        self._silent_s = 0.0

    def idle(self) -> list[int]:
        """Workers that are available and have no request."""
        return [i for i, one in self._members.items() if one.is_available and one.request is None]

    def busy(self) -> list[int]:
        """Workers that are computing a gradient."""
        return [i for i, one in self._members.items() if one.is_available and one.request]

    def alive(self) -> list[int]:
        """Workers that are available."""
        return [i for i, one in self._members.items() if one.is_available]

    def starting(self) -> list[int]:
        """Workers that have never been available, and are not abandoned."""
        new = (i for i, one in self._members.items() if not one.incarnation)
        return [index for index in new if self._members[index].abandoned_for is None]

    def is_newcomer(self, index: int) -> bool:
        """Whether a worker has had no request since it was started."""
        return self._members[index].num_asked == 0

    def ask(self, index: int, parameters: Any, **options: Any) -> None:
        """Requests a gradient from an idle worker.

        Args:
            index: The worker's index.
            parameters: [all parameters] float32, flat, or a reference to them. The caller may
                change them after this call.
            **options: Further arguments of the worker's ``gradient``.
        """
        member = self._members[index]
        member.request = member.actor.gradient.remote(parameters, **options)
        member.asked_at = self._clock.monotonic()
        member.num_asked += 1

    def forget(self) -> None:
        """Ignores all gradients that are being computed: the parameters were replaced."""
        for member in self._members.values():
            if member.is_available:
                member.request = None

    def wait(self, timeout_s: float = 1.0) -> list[tuple[int, Reply]]:
        """Waits for a reply, a restart or the timeout; it may return no replies.

        Args:
            timeout_s: Longest wait, seconds.

        Returns:
            Workers and their replies; each of these workers is idle now.

        Raises:
            EnvironmentFaultError: If a worker's environment failed permanently. Every error of
                ``FINAL_ERRORS`` is raised.
            TrainingTimeoutError: If no worker has replied for too long.
            RuntimeError: If the last worker was abandoned.
        """
        self._contact_unavailable()
        began = self._clock.monotonic()
        requests = {one.request: i for i, one in self._members.items() if one.request is not None}
        ready = self._ready(list(requests), timeout_s)
        replies = []
        for request in ready:
            reply = self._receive(requests[request], request)
            if reply is not None:
                replies.append((requests[request], reply))
        self._restart_overdue(set(ready))
        self._note_silence(bool(replies), self._clock.monotonic() - began)
        return replies

    def restart(self, index: int) -> None:
        """Kills a worker, which Ray restarts; the reply to its current request is ignored."""
        member = self._members[index]
        self._ray.kill(member.actor, no_restart=False)
        member.retired.add(member.incarnation)
        self.gone.add(member.incarnation)
        self._dismiss(member)

    def _ready(self, requests: list[Any], timeout_s: float) -> list[Any]:
        if not requests:
            self._clock.sleep(min(timeout_s, RETRY_S))
            return []
        ready, _ = self._ray.wait(requests, num_returns=len(requests), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(requests, num_returns=1, timeout=timeout_s)
        return list(ready)

    def _contact_unavailable(self) -> None:
        """Sends `hello` to workers that are not available: at the start, and after failures."""
        now = self._clock.monotonic()
        for member in self._absent():
            if member.request is None and now >= member.next_try:
                member.request = member.actor.hello.remote()
                member.asked_at = now

    def _absent(self) -> list[_Member]:
        """The workers that are not available, and not abandoned: they are being started."""
        members = self._members.values()
        return [one for one in members if not one.is_available and one.abandoned_for is None]

    def _receive(self, index: int, request: Any) -> Reply | None:
        member = self._members[index]
        member.request = None
        try:
            answer = self._ray.get(request)
        except RayError as error:
            self._handle_error(index, error)
            return None
        if not member.is_available:
            self._make_available(index, answer)
            return None
        if not self._is_new_reply(member, answer):
            self.counts["duplicate_gradients"] += 1
            return None
        member.failures = 0
        reply: Reply = answer
        return reply

    def _make_available(self, index: int, incarnation: str) -> None:
        member = self._members[index]
        if incarnation in member.retired:
            # The killed process is still alive.
            member.next_try = self._clock.monotonic() + RETRY_S
            return
        self._update_incarnation(member, incarnation)
        member.is_available = True
        self._on_available(index)

    def _update_incarnation(self, member: _Member, incarnation: str) -> None:
        """Takes note of the process that answers; a new one counts as a restart."""
        if incarnation == member.incarnation:
            return
        if member.incarnation:
            member.retired.add(member.incarnation)
            self.gone.add(member.incarnation)
            self.counts["worker_restarts"] += 1
        member.incarnation, member.last_sequence, member.num_asked = incarnation, -1, 0

    def _is_new_reply(self, member: _Member, reply: Reply) -> bool:
        """Whether a reply arrives for the first time, and from the worker's current process."""
        if reply.incarnation in member.retired:
            return False
        self._update_incarnation(member, reply.incarnation)
        if reply.sequence <= member.last_sequence:
            return False
        member.last_sequence = reply.sequence
        return True

    def _handle_error(self, index: int, error: RayError) -> None:
        """Handles a request's error: the worker is not available until it answers again.

        Raises:
            EnvironmentFaultError: As for `wait`.
        """
        member = self._members[index]
        cause = raised_by_worker(error)
        if isinstance(cause, FINAL_ERRORS):
            raise type(cause)(str(cause)) from error
        if isinstance(error, ActorUnavailableError):
            # The worker is being restarted, which is not another failure.
            self._dismiss(member)
            return
        if isinstance(error, RayActorError):
            self.gone.add(member.incarnation)
        else:
            self.counts["worker_errors"] += 1
            self._dismiss(member)
            if cause is not error:
                self.restart(index)
        self._count_failure(index, cause)

    def _count_failure(self, index: int, cause: BaseException) -> None:
        member = self._members[index]
        self._dismiss(member)
        member.failures += 1
        logger.warning("A3C worker %d failed and is restarted: %s", index, cause)
        if member.failures < MAX_FAILURES_IN_A_ROW:
            return
        member.abandoned_for = cause
        logger.error("A3C worker %d failed %d times in a row; abandoned.", index, member.failures)
        if all(one.abandoned_for is not None for one in self._members.values()):
            raise RuntimeError(
                f"every A3C worker failed {MAX_FAILURES_IN_A_ROW} times in a row; the last error "
                f"is {type(cause).__name__}: {cause}"
            ) from cause

    def _dismiss(self, member: _Member) -> None:
        member.request, member.is_available = None, False
        member.next_try = self._clock.monotonic() + RETRY_S

    def _restart_overdue(self, just_heard: set[Any]) -> None:
        """Restarts workers whose reply takes too long."""
        now = self._clock.monotonic()
        for index, member in self._members.items():
            if member.request is None or member.request in just_heard:
                continue
            limit_s = self._timeout_s * (1 if member.is_available else _BUILD_FACTOR)
            if now - member.asked_at > limit_s:
                self.counts["worker_hangs"] += 1
                self.restart(index)
                self._count_failure(index, TimeoutError(f"no answer for {limit_s:g} s"))

    def _note_silence(self, was_heard: bool, waited_s: float) -> None:
        self._silent_s = 0.0 if was_heard else self._silent_s + waited_s
        limit_s = self._silence_s * (_BUILD_FACTOR if self._absent() else 1)
        if self._silent_s > limit_s:
            raise TrainingTimeoutError(
                f"no A3C worker has sent a gradient for {limit_s:g} s (watchdog_s); "
                f"{len(self.alive())} of {len(self._members)} workers are available."
            )
