"""Decides which failures of a trial are retried: a process that died, not an error it raised.

A trial continues from its checkpoint exactly as it ran before. So an error from its own code or
its environment would be raised again.
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

#: Causes outside the trial: a kill, a lost node, a full disk, a disk that is briefly unavailable.
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
    """Whether a retry may succeed, judged by ``error`` and its causes."""
    for cause in causes(error):
        if isinstance(cause, FINAL_ERRORS):
            return False
        if isinstance(cause, _FROM_OUTSIDE):
            return True
    return False


@contextlib.contextmanager
def only_dead_processes_retried() -> Iterator[None]:
    """Inside this context, Tune retries only failures that came from outside the trial.

    Tune itself retries every failure, up to ``max_failures``. This context replaces the one method
    of Tune that decides.
    """
    original = Trial.should_recover

    def should_recover(trial: Trial) -> bool:
        return bool(original(trial)) and came_from_outside(last_error(trial))

    Trial.should_recover = should_recover
    try:
        yield
    finally:
        Trial.should_recover = original


def last_error(trial: Trial) -> BaseException | None:
    """The last error of a trial; None if there is none, or if its file cannot be read."""
    path = trial.pickled_error_file
    if path is None or not Path(path).is_file():
        return None
    try:
        error: Any = pickle.loads(Path(path).read_bytes())
    # A user's own exception class may fail to unpickle; Ray's classes do not.
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None
