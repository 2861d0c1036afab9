"""The private names of ray 2.60 that code for Tune uses.

If ray renames one, a test fails and shows the name.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ray.train._internal.session import _TrainingResult
from ray.tune import (
    ExperimentAnalysis,
    PlacementGroupFactory,
    ResultGrid,
    RunConfig,
    Trainable,
    TuneConfig,
    Tuner,
)
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.experiment import trial as tune_trial
from ray.tune.utils.serialization import _loads_with_cloudpickle

#: Attributes of a Trainable that count over the whole trial; `Trainable.restore` sets them too.
TRAINABLE_COUNTERS = ("_iteration", "_time_total", "_timesteps_total", "_episodes_total")

#: Attributes of a Trainable: the storage of its trial, its last result, and the thread that
#: measures the load of the machine.
TRAINABLE_ATTRIBUTES = ("_storage", "_last_result", "_monitor")

#: Attribute of a ResultGrid: the analysis that lists the trials.
RESULT_GRID_ATTRIBUTES = ("_experiment_analysis",)

#: Attributes of a Tuner, and of what it wraps, that lead to its TuneConfig.
TUNER_ATTRIBUTES = ("_local_tuner", "_tune_config")

#: Methods of a trial's storage: one raises if the storage is gone, the other sets it up.
STORAGE_METHODS = ("_check_validation_file", "_create_validation_file")

#: Class that holds what Tune knows of a trial, and its method that analyzes the numbers of results.
RUN_METADATA, ANALYZE = "_TrainingRunMetadata", "update_metric"

#: Method of an ExperimentAnalysis that reads the results of all trials.
READ_RESULTS = "_fetch_trial_dataframes"

#: Attributes and a method of a TuneController through which a trial's request is withdrawn.
CONTROLLER_NAMES = (
    "_actor_manager",
    "_actor_to_trial",
    "_pending_trials_list",
    "_resources_to_pending_trials",
    "_trial_to_actor",
    "_unstage_trial_with_resources",
)


def trials_of(grid: ResultGrid) -> list[Trial]:
    """The trials behind the results of Tune, with their status."""
    trials: list[Trial] = grid._experiment_analysis.trials
    return trials


def run_config_of(tuner: Tuner) -> RunConfig:
    """The RunConfig that a Tuner will use; also of a restored Tuner, which takes it from disk."""
    config: RunConfig = tuner._local_tuner.get_run_config()
    return config


def storage_of(trainable: Trainable) -> Any:
    """The StorageContext of a Trainable's trial; None if it was built outside Tune."""
    return trainable._storage


def last_result_of(trainable: Trainable) -> Mapping[str, Any]:
    """The last result of a Trainable; empty before the first."""
    return trainable._last_result or {}


def forget_last_result(trainable: Trainable) -> None:
    """Makes a Trainable forget the last result of its trial before; `Trainable.reset` does not."""
    trainable._last_result = None


def end(trainable: Trainable) -> None:
    """Does what `Trainable.stop` does, without waiting for the thread that measures the machine."""
    trainable._monitor.stop()
    trainable.cleanup()


def time_total_of(trainable: Trainable) -> float:
    """Seconds that the iterations of a trial have taken, until its last result."""
    return float(trainable._time_total)


def check_storage_exists(storage: Any) -> None:
    """Raises, in Ray's words, if the storage of a trial is not the one that Tune set up.

    Args:
        storage: From `storage_of`.
    """
    storage._check_validation_file()


def create_storage(storage: Any) -> None:
    """Sets up the storage of a trial on a node that does not see the driver's folder.

    Args:
        storage: From `storage_of`.
    """
    storage._create_validation_file()


def tune_config_of(tuner: Tuner) -> TuneConfig:
    """The TuneConfig of a Tuner, also of a restored one. `Tuner.fit` reads it."""
    config: TuneConfig = tuner._local_tuner._tune_config
    return config


@contextlib.contextmanager
def controller_given_to(receive: Callable[[TuneController], None]) -> Iterator[None]:
    """Inside this context, ``receive`` gets the controller of each experiment that Tune starts."""
    original = TuneController.__init__

    @functools.wraps(original)
    def init(controller: TuneController, *args: Any, **kwargs: Any) -> None:
        original(controller, *args, **kwargs)
        receive(controller)

    TuneController.__init__ = init
    try:
        yield
    finally:
        TuneController.__init__ = original


def request_other_resources(
    controller: TuneController | None, trial: Trial, request: PlacementGroupFactory
) -> bool:
    """Changes the request for resources of a pending trial, also if Tune has made it already.

    Returns whether that was possible: a trial whose process is starting keeps its request.

    Args:
        controller: The controller that runs the trial; None: there is none yet.
        trial: A pending trial.
        request: The new request.
    """
    if controller is None:
        trial.placement_group_factory = request
        return True
    actor = controller._trial_to_actor.get(trial)
    if actor is not None:
        if actor not in controller._actor_manager.pending_actors:
            return False
        controller._trial_to_actor.pop(trial)
        controller._actor_to_trial.pop(actor)
        controller._actor_manager.remove_actor(actor)
        controller._unstage_trial_with_resources(trial)
        # Tune takes trials from this list to request their resources.
        controller._pending_trials_list.append(trial)
    controller._resources_to_pending_trials[trial.placement_group_factory].discard(trial)
    controller._resources_to_pending_trials[request].add(trial)
    trial.placement_group_factory = request
    return True


def read_experiment_state(content: bytes) -> None:
    """Reads a file ``experiment_state-*.json``, as Tune does to continue an experiment.

    Raises:
        Exception: Of any kind, if Tune could not continue from this file.
    """
    state = _loads_with_cloudpickle(content)
    state["runner_data"].keys()
    for trial, progress in state["trial_data"]:
        Trial.from_json_state(trial, stub=True).restore_run_metadata(progress)


def without_checkpoint(metrics: Mapping[str, Any]) -> Any:
    """What `Trainable.save` returns if it saved nothing; Tune then goes on."""
    return _TrainingResult(checkpoint=None, metrics=dict(metrics))


def leave_checkpoints_to_trial(trial: Trial) -> None:
    """Makes Tune delete no checkpoint of a trial, and remember only the newest one."""
    manager = trial.run_metadata.checkpoint_manager
    manager._checkpoint_config = dataclasses.replace(manager.checkpoint_config, num_to_keep=None)
    manager._checkpoint_results = manager._checkpoint_results[-1:]


def with_metrics(saved: Any, metrics: Mapping[str, Any]) -> Any:
    """What `Trainable.save` returned, with other metrics; Tune keeps them for each checkpoint."""
    return _TrainingResult(checkpoint=saved.checkpoint, metrics=dict(metrics))


@contextlib.contextmanager
def results_not_analyzed() -> Iterator[None]:
    """Inside this context, Tune does not analyze the results of trials.

    Otherwise it keeps minimum, maximum and means of each number, which are nine tenths of the state
    that it saves, and at the end it reads every result of every trial. Nothing here uses them.
    """
    kind = getattr(tune_trial, RUN_METADATA)
    analyze, read = getattr(kind, ANALYZE), getattr(ExperimentAnalysis, READ_RESULTS)
    setattr(kind, ANALYZE, lambda *_, **__: None)
    setattr(ExperimentAnalysis, READ_RESULTS, lambda _: {})
    try:
        yield
    finally:
        setattr(kind, ANALYZE, analyze)
        setattr(ExperimentAnalysis, READ_RESULTS, read)
