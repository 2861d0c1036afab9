"""Batches made ready in the background, while the Learner works on the ones before."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Calls a function in one background thread, ``depth`` results ahead.

    The k-th `get` gives the k-th result. Every `get` asks for one call more, which then runs at
    any time. So that results do not depend on timing, make every change of what the function
    reads inside `paused`::

        with Prefetcher(lambda: buffer.sample(32, beta=beta)) as batches:
            for _ in range(num_updates):
                batch = batches.get()
                td_errors = update(batch)
                with batches.paused():
                    buffer.update_priorities(batch["indices"], td_errors)

    Then batch k + depth is drawn from the buffer as it was between `get` number k and the next
    pause, always: priorities and new steps reach the draws ``depth`` batches later than without
    a prefetcher, no less and no more. Without `paused` they reach them then or earlier, by chance.
    """

    def __init__(self, make: Callable[[], T], *, depth: int = 2) -> None:
        """Starts the thread; the first call is made at the first `get`.

        Args:
            make: Returns the next result. Its exceptions are raised by `get`.
            depth: Results kept ready; >= 1.

        Raises:
            ValueError: If ``depth`` < 1.
        """
        if depth < 1:
            raise ValueError(f"depth must be >= 1; got {depth}.")
        self._make, self._depth = make, depth
        self._ready: deque[T] = deque()
        # Calls still to be made; one of them may be running.
        self._wanted = 0
        self._pauses = 0
        self._started = self._closed = False
        self._error: BaseException | None = None
        self._state = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="prefetcher", daemon=True)
        self._thread.start()

    def get(self) -> T:
        """Returns the next result, waiting for it if it must.

        Raises:
            RuntimeError: After `close`; or inside `paused` with nothing ready.
            BaseException: What ``make`` raised in the call whose turn it is; then every time.
        """
        with self._state:
            if not self._started:
                self._started = True
                self._ask(self._depth)
            self._state.wait_for(lambda: self._ready or self._stopped() or self._pauses)
            if self._closed or not self._ready:
                self._refuse()
            result = self._ready.popleft()
            self._ask(1)
            return result

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Waits until all calls asked for are made; inside the block none is."""
        with self._state:
            self._state.wait_for(lambda: not self._wanted or self._pauses or self._stopped())
            self._pauses += 1
        try:
            yield
        finally:
            with self._state:
                self._pauses -= 1
                self._state.notify_all()

    def flush(self) -> None:
        """Throws away what is ready; the next `get` starts anew.

        Before a checkpoint: results that are ready are not saved, so that the run that goes on must
        do without them, as the restored one does.
        """
        with self.paused(), self._state:
            self._ready.clear()
            self._wanted = 0
            self._started = False

    def close(self) -> None:
        """Ends the thread, after the call that is running; may be called twice."""
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

    def _ask(self, calls: int) -> None:
        self._wanted += calls
        self._state.notify_all()

    def _stopped(self) -> bool:
        return self._closed or self._error is not None

    def _refuse(self) -> None:
        if self._closed:
            raise RuntimeError("the prefetcher is closed.")
        if self._error is not None:
            raise self._error
        raise RuntimeError("get() inside paused() found nothing ready; take batches outside of it.")

    def _run(self) -> None:
        while True:
            with self._state:
                self._state.wait_for(lambda: self._closed or (self._wanted and not self._pauses))
                if self._closed:
                    return
            try:
                result = self._make()
            except BaseException as error:  # whatever it is, the consumer shall see it
                with self._state:
                    self._error = error
                    self._state.notify_all()
                return
            with self._state:
                self._ready.append(result)
                self._wanted -= 1
                self._state.notify_all()
