"""The private names of ray 2.60 that code for Tune uses.

If ray renames one, a test fails and shows the name.
"""

from typing import Any

from ray.tune import ResultGrid, RunConfig, Trainable, TuneConfig, Tuner
from ray.tune.experiment import Trial

#: Attributes of a Trainable that count over the whole trial; `Trainable.restore` sets them too.
TRAINABLE_COUNTERS = ("_iteration", "_time_total", "_timesteps_total", "_episodes_total")

#: Attribute of a Trainable: the storage of its trial.
TRAINABLE_ATTRIBUTES = ("_storage",)

#: Attribute of a ResultGrid: the analysis that lists the trials.
RESULT_GRID_ATTRIBUTES = ("_experiment_analysis",)

#: Attributes of a Tuner, and of what it wraps, that lead to its TuneConfig.
TUNER_ATTRIBUTES = ("_local_tuner", "_tune_config")

#: Method of a trial's storage that raises if the storage is gone.
STORAGE_METHODS = ("_check_validation_file",)


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


def check_storage_exists(storage: Any) -> None:
    """Raises, in Ray's words, if the storage of a trial is not the one that Tune set up.

    Args:
        storage: From `storage_of`.
    """
    storage._check_validation_file()


def tune_config_of(tuner: Tuner) -> TuneConfig:
    """The TuneConfig of a Tuner, also of a restored one. `Tuner.fit` reads it."""
    config: TuneConfig = tuner._local_tuner._tune_config
    return config
