"""The pool of workers with a simulated Ray, whose answers each test sets."""

from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from rlssl.algorithms.a3c.pool import MAX_FAILURES_IN_A_ROW, Reply, WorkerPool
from rlssl.errors import EnvironmentFaultError, TrainingTimeoutError


class Call:
    """A method of a simulated actor: a call becomes a request, which is answered later."""

    def __init__(self, name: str, actor: "Actor") -> None:
        self.name, self.actor = name, actor

    def remote(self, *args: Any, **kwargs: Any) -> "Request":
        request = Request(self.name, self.actor)
        self.actor.asked.append(request)
        return request


class Request:
    """Ready as soon as ``answer`` is set; an exception is raised."""

    def __init__(self, name: str, actor: "Actor") -> None:
        self.name, self.actor = name, actor
        self.answer: Any = None


class Actor:
    """Keeps its requests."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.kills = 0
        self.hello, self.gradient = Call("hello", self), Call("gradient", self)

    def answer(self, answer: Any) -> None:
        self.asked[-1].answer = answer


class Clock:
    """A simulated `time`: it advances when a test sets it, or when the pool waits."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class SimulatedRay:
    """The functions of Ray that the pool uses; waiting advances the clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def wait(self, requests: list[Request], num_returns: int, timeout: float) -> Any:
        ready = [request for request in requests if request.answer is not None]
        if not ready:
            self.clock.sleep(timeout)
        return ready, []

    def get(self, request: Request) -> Any:
        if isinstance(request.answer, BaseException):
            raise request.answer
        return request.answer

    def kill(self, actor: Actor, no_restart: bool) -> None:
        assert not no_restart
        actor.kills += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


def reply(incarnation: str, sequence: int) -> Reply:
    return Reply(incarnation, sequence, 0, np.zeros(1, np.float32), 7)


def meet(pool: WorkerPool, actor: Actor, incarnation: str) -> None:
    """Lets the actor answer `hello`."""
    pool.wait()
    assert actor.asked[-1].name == "hello"
    actor.answer(incarnation)
    pool.wait()


def a_pool(clock: Clock, *actors: Actor, silence_s: float = 1e9) -> WorkerPool:
    return WorkerPool(
        dict(enumerate(actors, start=1)),
        timeout_s=10.0,
        silence_s=silence_s,
        remote=SimulatedRay(clock),
        clock=clock,
    )


def died() -> ActorDiedError:
    return ActorDiedError()


def raised(cause: Exception) -> RayTaskError:
    return RayTaskError("gradient", "the traceback", cause)


def test_worker_is_idle_after_its_hello(clock: Clock) -> None:
    actor = Actor()
    pool = a_pool(clock, actor)
    assert pool.idle() == [] == pool.alive() and pool.starting() == [1]
    meet(pool, actor, "A")
    assert pool.idle() == [1] and pool.is_newcomer(1) and pool.starting() == []
    pool.ask(1, np.zeros(1))
    assert pool.busy() == [1] and pool.idle() == []
    actor.answer(reply("A", 1))
    ((index, received),) = pool.wait()
    assert index == 1 and received.agent_steps == 7
    assert pool.idle() == [1] and not pool.is_newcomer(1)
    assert not any(pool.counts.values())


def test_repeated_reply_is_dropped_and_counted(clock: Clock) -> None:
    actor = Actor()
    pool = a_pool(clock, actor)
    meet(pool, actor, "A")
    for sequence, is_new in ((1, True), (1, False), (2, True), (1, False)):
        pool.ask(1, np.zeros(1))
        actor.answer(reply("A", sequence))
        assert bool(pool.wait()) == is_new
    assert pool.counts["duplicate_gradients"] == 2
    assert pool.counts["worker_restarts"] == 0


def test_new_incarnation_is_one_restart_and_replies_of_the_old_one_are_dropped(
    clock: Clock,
) -> None:
    actor = Actor()
    pool = a_pool(clock, actor)
    meet(pool, actor, "A")
    pool.ask(1, np.zeros(1))
    actor.answer(died())
    assert pool.wait() == [] and pool.alive() == []
    clock.now += 1
    meet(pool, actor, "B")
    assert pool.counts["worker_restarts"] == 1 and pool.is_newcomer(1)
    pool.ask(1, np.zeros(1))
    actor.answer(reply("A", 99))
    assert pool.wait() == []
    pool.ask(1, np.zeros(1))
    # The count of replies starts again in a new incarnation.
    actor.answer(reply("B", 1))
    assert len(pool.wait()) == 1
    assert pool.counts == {
        "worker_restarts": 1,
        "worker_hangs": 0,
        "worker_errors": 0,
        "duplicate_gradients": 1,
    }


def test_incarnation_that_changes_between_two_replies_is_a_restart(clock: Clock) -> None:
    actor = Actor()
    pool = a_pool(clock, actor)
    meet(pool, actor, "A")
    for incarnation in ("A", "B", "C", "B"):
        pool.ask(1, np.zeros(1))
        actor.answer(reply(incarnation, 1))
        pool.wait()
    assert pool.counts["worker_restarts"] == 2
    assert pool.counts["duplicate_gradients"] == 1


def test_hanging_worker_is_killed_after_the_timeout_and_admitted_again(clock: Clock) -> None:
    hanging, well = Actor(), Actor()
    pool = a_pool(clock, hanging, well)
    pool.wait()
    hanging.answer("A")
    well.answer("W")
    pool.wait()
    pool.ask(1, np.zeros(1))
    begin = clock.now
    for sequence in range(1, 13):
        pool.ask(2, np.zeros(1))
        well.answer(reply("W", sequence))
        # The other worker continues meanwhile.
        assert [index for index, _ in pool.wait()] == [2]
        assert hanging.kills == (clock.now - begin > 10.0)
        clock.now += 1.0
    assert pool.counts["worker_hangs"] == 1 and pool.alive() == [2]
    pool.wait()
    # The killed process is still alive: its answer must not admit the worker.
    assert hanging.asked[-1].name == "hello"
    hanging.answer("A")
    pool.wait()
    assert pool.alive() == [2]
    clock.now += 1
    meet(pool, hanging, "B")
    assert pool.alive() == [1, 2] and pool.counts["worker_restarts"] == 1


def test_worker_that_raises_is_restarted_and_at_last_abandoned(clock: Clock) -> None:
    bad, well = Actor(), Actor()
    pool = a_pool(clock, bad, well)
    pool.wait()
    well.answer("W")
    pool.wait()
    for attempt in range(MAX_FAILURES_IN_A_ROW):
        assert bad.kills == attempt
        pool.wait()
        bad.answer(f"incarnation {attempt}")
        pool.wait()
        pool.ask(1, np.zeros(1))
        bad.answer(raised(ZeroDivisionError("by its own code")))
        pool.wait()
        clock.now += 1
    number = len(bad.asked)
    pool.wait()
    assert len(bad.asked) == number and pool.idle() == [2]
    assert pool.counts["worker_errors"] == MAX_FAILURES_IN_A_ROW
    pool.ask(2, np.zeros(1))
    well.answer(reply("W", 1))
    assert len(pool.wait()) == 1  # training goes on


def test_error_names_the_cause_when_the_last_worker_is_abandoned(clock: Clock) -> None:
    actor = Actor()
    pool = a_pool(clock, actor)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: by its own code"):
        for attempt in range(MAX_FAILURES_IN_A_ROW):
            meet(pool, actor, str(attempt))
            pool.ask(1, np.zeros(1))
            actor.answer(raised(ZeroDivisionError("by its own code")))
            pool.wait()
            clock.now += 1


def test_environment_fault_ends_the_run(clock: Clock) -> None:
    actor = Actor()
    pool = a_pool(clock, actor, Actor())
    meet(pool, actor, "A")
    pool.ask(1, np.zeros(1))
    actor.answer(raised(EnvironmentFaultError("the robot fell over")))
    with pytest.raises(EnvironmentFaultError, match="the robot fell over"):
        pool.wait()


def test_worker_that_starts_again_may_take_ten_times_the_watchdog_limit(clock: Clock) -> None:
    actor = Actor()
    pool = a_pool(clock, actor, silence_s=60.0)
    meet(pool, actor, "A")
    pool.ask(1, np.zeros(1))
    actor.answer(died())
    pool.wait()
    with pytest.raises(
        TrainingTimeoutError, match=r"600 s \(watchdog_s\); 0 of 1 workers are available"
    ):
        for _ in range(2000):
            actor.answer(ActorUnavailableError("restarting", None))
            pool.wait()
    assert clock.now > 690


def test_pending_gradients_are_ignored_after_forget(clock: Clock) -> None:
    actor = Actor()
    pool = a_pool(clock, actor)
    meet(pool, actor, "A")
    pool.ask(1, np.zeros(1))
    pool.forget()
    actor.answer(reply("A", 1))
    assert pool.wait(0.1) == [] and pool.idle() == [1]
    pool.ask(1, np.zeros(1))
    actor.answer(reply("A", 2))
    assert len(pool.wait()) == 1
