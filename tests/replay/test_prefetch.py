"""The prefetcher: order, errors, closing, and results that do not depend on timing."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rlssl.replay import Prefetcher, PrioritizedReplayBuffer, ReplayBuffer
from tests.replay.episodes import ACTIONS, VECTOR, assert_same_batch, vector_chunk


class Counter:
    """Returns 1, 2, 3, ..."""

    def __init__(self) -> None:
        self.calls = 0
        self.threads: set[int] = set()

    def __call__(self) -> int:
        self.calls += 1
        self.threads.add(threading.get_ident())
        return self.calls


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_results_come_in_order_from_one_other_thread() -> None:
    make = Counter()
    with Prefetcher(make) as results:
        assert [results.get() for _ in range(50)] == list(range(1, 51))
    assert make.threads != {threading.get_ident()}
    assert len(make.threads) == 1


@pytest.mark.parametrize("depth", [1, 3])
def test_depth_results_are_kept_ready_and_no_more(depth: int) -> None:
    make = Counter()
    with Prefetcher(make, depth=depth) as results:
        assert make.calls == 0  # no call before the first get()
        results.get()
        _until(lambda: make.calls == depth + 1)
        with results.paused():
            pass
        assert make.calls == depth + 1
        results.get()
        _until(lambda: make.calls == depth + 2)


def test_no_call_runs_while_paused() -> None:
    make = Counter()
    with Prefetcher(make, depth=2) as results:
        results.get()
        with results.paused():
            assert make.calls == 3  # all requested calls
            results.get()
            results.get()
            time.sleep(0.05)
            assert make.calls == 3
            with pytest.raises(RuntimeError, match=r"get\(\) inside paused\(\) found nothing"):
                results.get()
        assert results.get() == 4


def test_errors_reach_the_consumer_in_order() -> None:
    make = Counter()

    def fail_at_3() -> int:
        if make() == 3:
            raise ZeroDivisionError("the third")
        return make.calls

    with Prefetcher(fail_at_3, depth=4) as results:
        assert [results.get(), results.get()] == [1, 2]
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match="the third"):
                results.get()
        with results.paused():  # does not wait for calls that will never run
            pass


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetcher"]


def test_close_ends_the_thread_and_a_waiting_consumer() -> None:
    before = _threads()
    entered, release = threading.Event(), threading.Event()

    def produce() -> bool:
        entered.set()
        return release.wait()

    results: Prefetcher[bool] = Prefetcher(produce)
    errors: list[Exception] = []

    def consume() -> None:
        try:
            results.get()
        except RuntimeError as error:
            errors.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert entered.wait(20)  # requested by get(), which now waits
    (thread,) = set(_threads()) - set(before)
    closer = threading.Thread(target=results.close)
    closer.start()
    consumer.join(20)
    assert str(errors[0]) == "the prefetcher is closed."
    assert thread.is_alive()  # inside the call, which cannot be interrupted
    release.set()
    closer.join(20)
    assert not closer.is_alive() and not thread.is_alive()
    results.close()
    with pytest.raises(RuntimeError, match="closed"):
        results.get()


def test_depth_must_be_positive() -> None:
    with pytest.raises(ValueError, match="depth must be >= 1; got 0"):
        Prefetcher(Counter(), depth=0)


def _train(delays: list[float], *, depth: int = 2, flush_at: int | None = None) -> tuple[Any, Any]:
    """Makes 20 updates with new steps and priorities; returns batches and buffer."""
    buffer = PrioritizedReplayBuffer(60, VECTOR, ACTIONS, seed=0)
    buffer.add([vector_chunk(0, [1.0] * 10)])
    pause = iter(delays * 100)

    def make() -> dict[str, Any]:
        time.sleep(next(pause))
        return buffer.sample(8, beta=0.5, n_step=3)

    batches = []
    with Prefetcher(make, depth=depth) as prefetched:
        for i in range(20):
            batch = prefetched.get()
            batches.append(batch)
            time.sleep(next(pause))
            with prefetched.paused():
                buffer.update_priorities(batch["indices"], np.arange(8) + 0.1 * i)
                buffer.add([vector_chunk(10 + i, [1.0], t_started=10 + i)])
            if i == flush_at:
                prefetched.flush()
                batches.append(buffer.get_state())
    return batches, buffer


def test_results_do_not_depend_on_timing() -> None:
    runs = [_train(delays)[0] for delays in ([0.0], [0.004, 0.0, 0.001], [0.0, 0.003])]
    for other in runs[1:]:
        for one, two in zip(runs[0], other, strict=True):
            assert_same_batch(one, two)


def test_batches_are_drawn_exactly_depth_updates_ahead() -> None:
    buffer = ReplayBuffer(60, VECTOR, ACTIONS, seed=0)
    buffer.add([vector_chunk(0, [1.0])])
    known = []
    with Prefetcher(lambda: (buffer.sample(8), buffer.num_added)[1], depth=2) as prefetched:
        for i in range(1, 9):
            known.append(prefetched.get())
            with prefetched.paused():
                buffer.add([vector_chunk(i, [1.0], t_started=i)])
    # One step is added after each get. The first get requests batch 3, before that step.
    assert known == [1, 1, 1, 2, 3, 4, 5, 6]


def test_restored_run_equals_the_run_that_was_flushed_at_the_checkpoint() -> None:
    continuing = _train([0.0], flush_at=9)[0]
    state, after = continuing[10], continuing[11:]
    buffer = PrioritizedReplayBuffer(60, VECTOR, ACTIONS, seed=1)
    buffer.set_state(state)
    with Prefetcher(lambda: buffer.sample(8, beta=0.5, n_step=3)) as prefetched:
        for i in range(10, 20):
            batch = prefetched.get()
            assert_same_batch(batch, after[i - 10])
            with prefetched.paused():
                buffer.update_priorities(batch["indices"], np.arange(8) + 0.1 * i)
                buffer.add([vector_chunk(10 + i, [1.0], t_started=10 + i)])
