"""Which iterations of a trial become results."""

from typing import Any

import pytest

from rlssl.experiment.packed_results import FOR_FILES, whole
from rlssl.experiment.spec.loading import load_spec, resolved_dict
from rlssl.experiment.tuning.trainable import SpecTrainable


class Untracked(SpecTrainable):
    """A trial without the folder of logs that Tune creates in the user's home."""

    def _setup_logdir(self) -> None:
        pass


def trial_of(**others: Any) -> Untracked:
    document = {
        "algorithm": "ppo",
        "env": {"id": "CartPole-v1"},
        "training": {"train_batch_size_per_learner": 100, "minibatch_size": 50, "num_epochs": 1},
        "env_runners": {"num_envs": 1, "fragment_length": 100},
        "stop": {"env_steps": 1000},
        "report_every_s": 1000,
        "checkpoint": {"every_env_steps": 10_000},
        **others,
    }
    point = {"training.lr": 0.1} if "search" in others else {}
    return Untracked(config={"spec": resolved_dict(load_spec(document)), "seed": 0, **point})


def reports(trial: Untracked) -> list[dict[str, Any]]:
    """The results until the trial's end."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["env_steps"] < 1000:
        found.append(whole(trial.train()))
    trial.cleanup()
    return found


def test_first_and_last_iteration_and_each_checkpoint_report() -> None:
    found = reports(trial_of(checkpoint={"every_env_steps": 700}))
    # Nothing saves here, so that from 700 env steps on a checkpoint is due with each iteration.
    assert [one["env_steps"] for one in found] == [100, 700, 800, 900, 1000]
    # Every iteration counts, and no episode is lost.
    assert [one["training_iteration"] for one in found] == [1, 7, 8, 9, 10]
    every = reports(trial_of(report_every_s=0))
    assert [one["env_steps"] for one in every] == list(range(100, 1001, 100))
    episodes = [[row for one in results for row in one["episodes"]] for results in (found, every)]
    assert repr(episodes[0]) == repr(episodes[1]) and len(episodes[0]) > 10
    assert found[-1]["episode_return_mean"] == every[-1]["episode_return_mean"]
    assert sum(one["time_this_iter_s"] for one in found) == found[-1]["time_total_s"]


def test_evaluations_and_rungs_report() -> None:
    found = reports(trial_of(evaluation={"every_env_steps": 400, "episodes": 1}))
    assert [one["env_steps"] for one in found] == [100, 400, 800, 1000]
    asha = {"asha": {"grace_env_steps": 250, "reduction_factor": 2}}
    search = {"training.lr": {"grid": [0.1]}}
    found = reports(trial_of(scheduler=asha, search=search))
    # The rungs are at 250 and 500 env steps; at the end, the trial ends anyway.
    assert [one["env_steps"] for one in found] == [100, 300, 500, 1000]


def test_the_iteration_after_the_time_is_over_is_the_last_one() -> None:
    trial = trial_of(stop={"env_steps": 10**9, "time_total_s": 0.5})
    while (result := trial.train())["time_total_s"] < 0.5:
        pass
    assert result["time_total_s"] - result["time_this_iter_s"] < 0.5 and result["env_steps"] < 10**6
    trial.cleanup()


def test_what_tune_gets_is_small() -> None:
    trial = trial_of()
    result = trial.train()
    assert "config" not in whole(result)
    assert {"env_steps", "episode_return_mean", "faults", FOR_FILES} <= result.keys()
    sections = {"env_runners", "learners"}
    assert not sections & result.keys() and sections <= whole(result).keys()
    trial.cleanup()


def test_results_before_an_error_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trial_of()
    assert trial.train()["env_steps"] == 100
    train, count = trial.algorithm.train, iter(range(10))

    def fail_at_the_third() -> dict[str, Any]:
        if next(count) == 2:
            raise ValueError("the robot fell over")
        return train()

    monkeypatch.setattr(trial.algorithm, "train", fail_at_the_third)
    assert trial.train()["env_steps"] == 300
    with pytest.raises(ValueError, match="the robot fell over"):
        trial.train()
    trial.cleanup()
