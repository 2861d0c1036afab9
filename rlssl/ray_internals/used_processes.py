"""The private names of ray 2.60 for processes that run one trial after the other.

If ray renames one, a test fails and shows the name.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

#: What a TuneController has to do with trials that begin in the process of an earlier trial.
RESETTING_NAMES = (
    "_actor_cache",
    "_maybe_reuse_cached_actor",
    "_remove_actor",
    "_requeue_trial",
    "_resetting_trials",
    "_resources_to_pending_trials",
    "_schedule_trial_stop",
    "_set_trial_status",
    "_trial_task_failure",
    "_unstage_trial_with_resources",
)


class _InOrder(dict[Trial, None]):
    """What Tune needs of a set; `pop` takes the trial that came first."""

    def add(self, trial: Trial) -> None:
        self[trial] = None

    def discard(self, trial: Trial) -> None:
        super().pop(trial, None)

    def pop(self) -> Trial:  # type: ignore[override]
        trial = next(iter(self))
        del self[trial]
        return trial


def begin_trials_in_order(controller: TuneController) -> None:
    """Lets a process that has ended a trial take the trial that waits longest; Tune takes any.

    Args:
        controller: A new controller.
    """
    controller._resources_to_pending_trials = defaultdict(_InOrder)


@contextlib.contextmanager
def failed_resets_repeated(note: Callable[[Trial, Exception], None]) -> Iterator[None]:
    """Inside this context, a trial that cannot begin in a used process begins in a new process.

    Tune reuses the process of a trial that has ended, and asks it to begin the next one, which is
    still pending. If that fails, Tune marks the trial as failed for good; if the process dies, it
    does so after it has begun the retry. The used process may be the reason, so here the failure
    does not count. Failures in the new process are those of any trial.

    Args:
        note: Is told the trial and what went wrong, each trial once.
    """
    # Trials that must have a new process.
    unable: set[Trial] = set()
    on_failure = TuneController._trial_task_failure
    on_reuse = TuneController._maybe_reuse_cached_actor

    def failed(controller: TuneController, trial: Trial, exception: Exception) -> None:
        if trial not in controller._resetting_trials:
            # A trial that waits has been told of before: its process has died since.
            if trial.status != Trial.PENDING:
                on_failure(controller, trial, exception)
            return
        controller._resetting_trials.discard(trial)
        if trial.status == Trial.PENDING:
            controller._set_trial_status(trial, Trial.RUNNING)
            controller._unstage_trial_with_resources(trial)
        unable.add(trial)
        note(trial, exception)
        # With an error, the process ends; without, it would wait for its next trial.
        controller._schedule_trial_stop(trial, exception)
        controller._requeue_trial(trial)

    def reuse(controller: TuneController, trial: Trial) -> bool:
        if not controller._actor_cache.num_cached_objects:
            # As Tune's own answer, without comparing requests of resources, which takes time.
            return trial in controller._resetting_trials
        request = trial.placement_group_factory
        if not controller._actor_cache.has_cached_object(request):
            return bool(on_reuse(controller, trial))
        if trial not in unable:
            # Tune does it only for trials for which it has requested a process.
            trial.init_local_path()
            return bool(on_reuse(controller, trial))
        # Tune keeps this process for the trial, which needs its resources.
        process = controller._actor_cache.pop_cached_object(request)
        process.set_on_stop(None)
        process.set_on_error(None)
        controller._remove_actor(tracked_actor=process)
        return False

    TuneController._trial_task_failure = failed
    TuneController._maybe_reuse_cached_actor = reuse
    try:
        yield
    finally:
        TuneController._trial_task_failure = on_failure
        TuneController._maybe_reuse_cached_actor = on_reuse
