"""The workers as the driver sees them: asked, heard, dropped, started again, admitted again.

Nothing in here knows what a gradient is made of; dummy workers of a simulation do as well.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from rlssl.errors import (
    FINAL_ERRORS,
    TrainingTimeoutError,
)
from rlssl.ray_internals.errors import raised_by_worker

logger = logging.getLogger(__name__)

#: What `WorkerPool.counts` counts, over the whole run.
POOL_COUNTERS = ("worker_restarts", "worker_hangs", "worker_errors", "duplicate_gradients")

#: Seconds between two tries to reach a worker that is being started again.
RETRY_S = 0.5

#: Failures of a worker without a gradient between after which it is given up.
MAX_FAILURES_IN_A_ROW = 5

#: Being built may take so many times as long as answering.
_BUILD_FACTOR = 10


class Reply(NamedTuple):
    """What a worker sends for one fragment."""

    #: The process, and its how-manieth reply.
    incarnation: str
    sequence: int
    #: Of the parameters that the gradient was computed with.
    version: int
    #: [G], float32.
    gradient: np.ndarray
    #: In the fragment.
    agent_steps: int
    #: Metrics and statistics, where they were asked for.
    report: Any = None


@dataclass
class _Member:
    actor: Any
    incarnation: str = ""
    retired: set[str] = field(default_factory=set)
    last_sequence: int = -1
    is_admitted: bool = False
    # Requests in this incarnation.
    num_asked: int = 0
    request: Any = None
    asked_at: float = 0.0
    next_try: float = 0.0
    failures: int = 0
    gave_up: BaseException | None = None


class WorkerPool:
    """Sends one request at a time to each worker, and lives with the death of any of them.

    A worker is an actor with ``hello() -> incarnation`` and ``gradient(...) -> Reply``, which Ray
    starts again when it dies. A new incarnation counts as one restart; a reply that was seen
    already, or that comes from an incarnation before, is dropped and counted.

    Args:
        actors: Index -> handle.
        timeout_s: Seconds that an answer may take; then the worker is killed and started again.
        silence_s: Seconds without any answer after which the run fails.
        on_admitted: Called with the index of each worker that is there, the first time too.
    """

    def __init__(
        self,
        actors: Mapping[int, Any],
        *,
        timeout_s: float,
        silence_s: float,
        on_admitted: Callable[[int], None] = lambda index: None,
    ) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(POOL_COUNTERS, 0))
        self._members = {index: _Member(actor) for index, actor in actors.items()}
        self._timeout_s, self._silence_s = timeout_s, silence_s
        self._on_admitted = on_admitted
        # Seconds spent waiting since the last answer.
        self._silent_s = 0.0

    def idle(self) -> list[int]:
        """Workers that are there and have nothing to do."""
        return [i for i, one in self._members.items() if one.is_admitted and one.request is None]

    def busy(self) -> list[int]:
        """Workers that are computing a gradient."""
        return [i for i, one in self._members.items() if one.is_admitted and one.request]

    def alive(self) -> list[int]:
        """Workers that are there."""
        return [i for i, one in self._members.items() if one.is_admitted]

    def awaited(self) -> list[int]:
        """Workers that have not been there yet."""
        never = (i for i, one in self._members.items() if not one.incarnation)
        return [index for index in never if self._members[index].gave_up is None]

    def is_newcomer(self, index: int) -> bool:
        """Whether a worker was not asked for anything since it was started."""
        return self._members[index].num_asked == 0

    def ask(self, index: int, parameters: Any, **options: Any) -> None:
        """Asks an idle worker for a gradient.

        Args:
            index: Which.
            parameters: [P] float32, or a reference to them; copied before this returns.
            **options: Further arguments of its ``gradient``.
        """
        member = self._members[index]
        member.request = member.actor.gradient.remote(parameters, **options)
        member.asked_at = time.monotonic()
        member.num_asked += 1

    def forget(self) -> None:
        """Leaves what is under way unheard: parameters were set anew."""
        for member in self._members.values():
            if member.is_admitted:
                member.request = None

    def wait(self, timeout_s: float = 1.0) -> list[tuple[int, Reply]]:
        """Waits for news, which need not be a reply.

        Args:
            timeout_s: Seconds at most.

        Returns:
            Workers and their replies; each of them is idle now.

        Raises:
            EnvironmentFaultError: A worker gave up its environment; the same for others' errors
                that no start would mend.
            TrainingTimeoutError: If nobody has answered for too long.
            RuntimeError: If the last worker was given up.
        """
        self._greet()
        began = time.monotonic()
        requests = {one.request: i for i, one in self._members.items() if one.request is not None}
        ready = self._ready(list(requests), timeout_s)
        replies = []
        for request in ready:
            reply = self._receive(requests[request], request)
            if reply is not None:
                replies.append((requests[request], reply))
        self._drop_overdue(set(ready))
        self._note_silence(bool(replies), time.monotonic() - began)
        return replies

    def restart(self, index: int) -> None:
        """Kills a worker, which Ray starts again; what it has under way is not heard."""
        member = self._members[index]
        ray.kill(member.actor, no_restart=False)
        member.retired.add(member.incarnation)
        self._leave(member)

    def _ready(self, requests: list[Any], timeout_s: float) -> list[Any]:
        if not requests:
            time.sleep(min(timeout_s, RETRY_S))
            return []
        ready, _ = ray.wait(requests, num_returns=len(requests), timeout=0)
        if not ready:
            ready, _ = ray.wait(requests, num_returns=1, timeout=timeout_s)
        return list(ready)

    def _greet(self) -> None:
        """Asks who is there: at the start, and where a worker was lost."""
        now = time.monotonic()
        for member in self._members.values():
            waits = member.is_admitted or member.request is not None or member.gave_up is not None
            if not waits and now >= member.next_try:
                member.request = member.actor.hello.remote()
                member.asked_at = now

    def _receive(self, index: int, request: Any) -> Reply | None:
        member = self._members[index]
        member.request = None
        try:
            answer = ray.get(request)
        except RayError as error:
            self._lose(index, error)
            return None
        if not member.is_admitted:
            self._admit(index, answer)
            return None
        if not self._is_news(member, answer):
            self.counts["duplicate_gradients"] += 1
            return None
        member.failures = 0
        reply: Reply = answer
        return reply

    def _admit(self, index: int, incarnation: str) -> None:
        member = self._members[index]
        if incarnation in member.retired:
            # Killed, and not dead yet.
            member.next_try = time.monotonic() + RETRY_S
            return
        self._meet(member, incarnation)
        member.is_admitted = True
        self._on_admitted(index)

    def _meet(self, member: _Member, incarnation: str) -> None:
        if incarnation == member.incarnation:
            return
        if member.incarnation:
            member.retired.add(member.incarnation)
            self.counts["worker_restarts"] += 1
        member.incarnation, member.last_sequence, member.num_asked = incarnation, -1, 0

    def _is_news(self, member: _Member, reply: Reply) -> bool:
        """Whether a reply is not one that was heard already, or of a process before."""
        if reply.incarnation in member.retired:
            return False
        self._meet(member, reply.incarnation)
        if reply.sequence <= member.last_sequence:
            return False
        member.last_sequence = reply.sequence
        return True

    def _lose(self, index: int, error: RayError) -> None:
        """Drops a worker until it is there again.

        Raises:
            EnvironmentFaultError: As for `wait`.
        """
        member = self._members[index]
        cause = raised_by_worker(error)
        if isinstance(cause, FINAL_ERRORS):
            raise type(cause)(str(cause)) from error
        if isinstance(error, ActorUnavailableError):
            # Being started again: no failure of its own.
            self._leave(member)
            return
        if not isinstance(error, RayActorError):
            self.counts["worker_errors"] += 1
            self._leave(member)
            if cause is not error:
                self.restart(index)
        self._count_failure(index, cause)

    def _count_failure(self, index: int, cause: BaseException) -> None:
        member = self._members[index]
        self._leave(member)
        member.failures += 1
        logger.warning("A3C worker %d is dropped and started again: %s", index, cause)
        if member.failures < MAX_FAILURES_IN_A_ROW:
            return
        member.gave_up = cause
        logger.error("A3C worker %d failed %d times in a row: given up.", index, member.failures)
        if all(one.gave_up is not None for one in self._members.values()):
            raise RuntimeError(
                f"every A3C worker failed {MAX_FAILURES_IN_A_ROW} times in a row; the last one by "
                f"{type(cause).__name__}: {cause}"
            ) from cause

    def _leave(self, member: _Member) -> None:
        member.request, member.is_admitted = None, False
        member.next_try = time.monotonic() + RETRY_S

    def _drop_overdue(self, just_heard: set[Any]) -> None:
        now = time.monotonic()
        for index, member in self._members.items():
            if member.request is None or member.request in just_heard:
                continue
            limit_s = self._timeout_s * (1 if member.is_admitted else _BUILD_FACTOR)
            if now - member.asked_at > limit_s:
                self.counts["worker_hangs"] += 1
                self.restart(index)
                self._count_failure(index, TimeoutError(f"no answer for {limit_s:g} s"))

    def _note_silence(self, was_heard: bool, waited_s: float) -> None:
        self._silent_s = 0.0 if was_heard else self._silent_s + waited_s
        if self._silent_s > self._silence_s:
            raise TrainingTimeoutError(
                f"no A3C worker has sent a gradient for {self._silence_s:g} s (watchdog_s); "
                f"{len(self.alive())} of {len(self._members)} are there."
            )
