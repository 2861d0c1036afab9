"""Private names of Tune. If ray renames one, a test fails and shows the name."""

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train._internal.session import _TrainingResult
from ray.train._internal.storage import StorageContext
from ray.tune import (
    Checkpoint,
    CheckpointConfig,
    ExperimentAnalysis,
    ResultGrid,
    RunConfig,
    Trainable,
    TuneConfig,
    Tuner,
)
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.experiment import trial as tune_trial

from rlssl.ray_internals import tuning, used_processes


class Untrained(Trainable):
    def _setup_logdir(self) -> None:
        """Does nothing; Tune's method needs a running Ray."""


class StubAnalysis:
    """The part of an ExperimentAnalysis that a ResultGrid uses, without trials."""

    def __init__(self) -> None:
        self.trials: list[Any] = []


@pytest.mark.parametrize("name", [*tuning.TRAINABLE_ATTRIBUTES, *tuning.TRAINABLE_COUNTERS])
def test_tune_still_sets_the_attribute_of_a_trainable(name: str) -> None:
    assert name in vars(Untrained())


@pytest.mark.parametrize("name", tuning.RESULT_GRID_ATTRIBUTES)
def test_tune_still_keeps_the_analysis_under_the_name(name: str) -> None:
    assert name in vars(ResultGrid(StubAnalysis()))


@pytest.mark.parametrize("name", tuning.STORAGE_METHODS)
def test_a_trials_storage_still_has_the_method(name: str) -> None:
    assert callable(getattr(StorageContext, name))


@pytest.mark.parametrize("name", [*tuning.CONTROLLER_NAMES, *used_processes.RESETTING_NAMES])
def test_tunes_controller_still_has_the_name(name: str) -> None:
    assert f"self.{name}" in inspect.getsource(TuneController)


def test_tune_still_analyzes_results_in_these_methods() -> None:
    methods = {tuning.ANALYZE: getattr(tune_trial, tuning.RUN_METADATA)}
    methods[tuning.READ_RESULTS] = ExperimentAnalysis
    before = [getattr(kind, name) for name, kind in methods.items()]
    with tuning.results_not_analyzed():
        inside = [getattr(kind, name) for name, kind in methods.items()]
    assert not set(before) & set(inside)
    assert before == [getattr(kind, name) for name, kind in methods.items()]


def test_tune_deletes_no_checkpoint_of_a_trial(tmp_path: Path) -> None:
    kept = CheckpointConfig(num_to_keep=3, checkpoint_at_end=True)
    trial = Trial("unknown", stub=True, checkpoint_config=kept)
    folders = [tmp_path / f"checkpoint_{number}" for number in range(5)]
    for folder in folders:
        folder.mkdir()
        tuning.leave_checkpoints_to_trial(trial)
        saved = _TrainingResult(checkpoint=Checkpoint(str(folder)), metrics={})
        trial.run_metadata.checkpoint_manager.register_checkpoint(saved)
    tuning.leave_checkpoints_to_trial(trial)
    assert trial.checkpoint_at_end
    manager = trial.run_metadata.checkpoint_manager
    assert manager.best_checkpoint_results == [saved] == [manager.latest_checkpoint_result]
    assert all(folder.is_dir() for folder in folders)


def test_the_trial_that_waits_longest_takes_a_process() -> None:
    waiting = used_processes._InOrder()
    trials = [Trial("unknown", stub=True) for _ in range(20)]
    for trial in trials:
        waiting.add(trial)
    waiting.discard(trials[1])
    assert [waiting.pop() for _ in range(19)] == [trials[0], *trials[2:]] and not waiting


def test_the_tune_config_of_a_tuner_is_the_one_that_fit_uses(tmp_path: Path) -> None:
    config = TuneConfig(num_samples=3)
    run_config = RunConfig(name="run", storage_path=str(tmp_path))
    tuner = Tuner(Untrained, tune_config=config, run_config=run_config)
    assert tuning.tune_config_of(tuner) is config
    assert tuning.tune_config_of(tuner) is vars(vars(tuner)["_local_tuner"])["_tune_config"]


def test_trials_are_those_of_the_analysis() -> None:
    analysis = StubAnalysis()
    assert tuning.trials_of(ResultGrid(analysis)) is analysis.trials


def test_the_run_config_of_a_tuner_can_be_changed(tmp_path: Path) -> None:
    given = RunConfig(name="my-run", storage_path=str(tmp_path))
    tuner = Tuner(Untrained, run_config=given)
    config = tuning.run_config_of(tuner)
    assert config.name == "my-run"
    config.callbacks = []
    assert tuning.run_config_of(tuner).callbacks == []


def test_a_trainable_built_outside_tune_has_no_storage() -> None:
    assert tuning.storage_of(Untrained()) is None
    storage: Any = SimpleNamespace(trial_fs_path="/results/trial")
    assert tuning.storage_of(Untrained(storage=storage)) is storage
