"""Which failures of a trial are worth another try: a process that died, not one that raised.

A trial goes on from its checkpoint exactly as it went before, so that what its own code or its
environment raised would be raised again.
"""

import contextlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray import exceptions
from ray.tune.experiment import Trial

from rlssl.errors import FINAL_ERRORS
from rlssl.ray_internals.errors import causes

#: Somebody else's doing: a kill, a lost node, a full disk or one that is away for a moment.
_FROM_OUTSIDE = (
    exceptions.RayActorError,
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.OutOfDiskError,
    exceptions.ObjectLostError,
    exceptions.LocalRayletDiedError,
    exceptions.RuntimeEnvSetupError,
    OSError,
)


def came_from_outside(error: BaseException | None) -> bool:
    """Whether another try may do better, by what ``error`` is or was caused by."""
    for cause in causes(error):
        if isinstance(cause, FINAL_ERRORS):
            return False
        if isinstance(cause, _FROM_OUTSIDE):
            return True
    return False


@contextlib.contextmanager
def only_dead_processes_retried() -> Iterator[None]:
    """While inside, Tune's ``max_failures`` holds for failures from outside alone.

    Tune itself retries whatever fails. The one method that decides is replaced meanwhile.
    """
    tunes_own = Trial.should_recover

    def should_recover(trial: Trial) -> bool:
        return bool(tunes_own(trial)) and came_from_outside(last_error(trial))

    Trial.should_recover = should_recover
    try:
        yield
    finally:
        Trial.should_recover = tunes_own


def last_error(trial: Trial) -> BaseException | None:
    """What a trial failed with last; None if it never did, or if that cannot be read any more."""
    path = trial.pickled_error_file
    if path is None or not Path(path).is_file():
        return None
    try:
        error: Any = pickle.loads(Path(path).read_bytes())
    # An exception class of a user's own need not unpickle; Ray's own do.
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None
