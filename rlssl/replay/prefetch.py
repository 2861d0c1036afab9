"""Prepares batches in the background while the Learner works on earlier batches."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Calls a function in a background thread, ``depth`` results ahead.

    `get` number k gives result number k, and requests one more call. That call may run at any time.
    To make results independent of timing, change the data that the function reads only by `do` or
    inside `paused`::

        with Prefetcher(lambda: buffer.sample(32, beta=beta)) as batches:
            for _ in range(num_updates):
                batch = batches.get()
                td_errors = update(batch)
                batches.do(partial(buffer.update_priorities, batch["indices"], td_errors))
            with batches.paused():
                buffer.add(episodes)

    Then batch k + depth is always drawn between `get` number k and the next change: batches see
    priorities and new steps exactly ``depth`` updates later than without a prefetcher. Without
    `do` and `paused`, batches see them then or earlier, depending on timing.

    `do` does not wait: the background thread makes the change after the calls that were requested
    before it. `paused` waits for all of them.

    Example:
        >>> numbers = iter(range(1, 100))
        >>> with Prefetcher(lambda: next(numbers), depth=2) as results:
        ...     [results.get(), results.get(), results.get()]
        [1, 2, 3]
    """

    def __init__(self, make: Callable[[], T], *, depth: int = 2) -> None:
        """Starts the thread; the first `get` starts the first call.

        Args:
            make: Returns the next result. `get` raises its exceptions.
            depth: Number of results to keep ready; >= 1.

        Raises:
            ValueError: If ``depth`` < 1.
        """
        if depth < 1:
            raise ValueError(f"depth must be >= 1; got {depth}.")
        self._make, self._depth = make, depth
        self._ready: deque[T] = deque()
        # Calls and changes that are requested, in order; and how many of these, with the one that
        # runs now, are not finished.
        self._jobs: deque[Callable[[], object]] = deque()
        self._num_unfinished = 0
        self._pauses = 0
        self._started = self._closed = False
        self._error: BaseException | None = None
        self._state = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="prefetcher", daemon=True)
        self._thread.start()

    def get(self) -> T:
        """Returns the next result; waits until it is ready.

        Raises:
            RuntimeError: After `close`; or inside `paused` if no result is ready.
            BaseException: If ``make`` raised it in the call for this result; later calls raise it
                again.
        """
        with self._state:
            if not self._started:
                self._started = True
                self._request(self._depth)
            self._state.wait_for(lambda: self._ready or self._stopped() or self._pauses)
            if self._closed or not self._ready:
                self._raise_error()
            result = self._ready.popleft()
            self._request(1)
            return result

    def do(self, change: Callable[[], object]) -> None:
        """Lets the thread change the data, after the calls that are requested now; does not wait.

        Args:
            change: Called once, in the background thread. The next `get` without a ready result
                raises its exceptions.
        """
        with self._state:
            self._jobs.append(change)
            self._num_unfinished += 1
            self._state.notify_all()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Waits until all requested calls and changes have finished; none runs in the block."""
        with self._state:
            self._state.wait_for(
                lambda: not self._num_unfinished or self._pauses or self._stopped()
            )
            self._pauses += 1
        try:
            yield
        finally:
            with self._state:
                self._pauses -= 1
                self._state.notify_all()

    def flush(self) -> None:
        """Discards the results that are ready; the next `get` requests new calls.

        Call it before a checkpoint. Checkpoints do not hold ready results, so the continuing run
        must not use them either: then it equals the restored run.
        """
        with self.paused(), self._state:
            self._ready.clear()
            self._jobs = deque(job for job in self._jobs if job != self._call)
            self._num_unfinished = len(self._jobs)
            self._started = False

    def close(self) -> None:
        """Ends the thread after the running call; may be called twice."""
        with self._state:
            self._closed = True
            self._ready.clear()
            self._state.notify_all()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _request(self, calls: int) -> None:
        self._jobs.extend([self._call] * calls)
        self._num_unfinished += calls
        self._state.notify_all()

    def _call(self) -> None:
        result = self._make()
        with self._state:
            self._ready.append(result)

    def _stopped(self) -> bool:
        return self._closed or self._error is not None

    def _raise_error(self) -> None:
        if self._closed:
            raise RuntimeError("the prefetcher is closed.")
        if self._error is not None:
            raise self._error
        raise RuntimeError("get() inside paused() found nothing ready; call get() outside of it.")

    def _run(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._closed or (self._jobs and not self._pauses))
                if self._closed:
                    return
                job = self._jobs.popleft()
            try:
                job()
            except BaseException as error:  # any error must reach the consumer
                with self._state:
                    self._error = error
                    self._state.notify_all()
                return
            with self._state:
                self._num_unfinished -= 1
                self._state.notify_all()
