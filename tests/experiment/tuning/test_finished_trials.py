"""A trial that was restored from its last checkpoint does not train further."""

import json
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment.trial import StorageContext

from rlssl.experiment.spec.loading import load_spec, resolved_dict
from rlssl.experiment.tuning.trainable import SpecTrainable

pytestmark = [pytest.mark.slow, pytest.mark.ci, pytest.mark.usefixtures("own_ray")]

DOCUMENT = {
    "algorithm": "rainbow",
    "env": "CartPole-v1",
    "training": {
        "learning_starts_agent_steps": 32,
        "replay_capacity": 1_000,
        "agent_steps_per_iteration": 100,
    },
    "stop": {"env_steps": 300},
}


class Untracked(SpecTrainable):
    """A trial without the folder of logs that Tune creates in the user's home."""

    def _setup_logdir(self) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a trial."""
    # Otherwise an Algorithm with a storage changes this process's folder.
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")
    trial = tmp_path / "run" / "trial"
    trial.mkdir(parents=True)
    return trial


def trial_in(folder: Path) -> SpecTrainable:
    storage = StorageContext(
        str(folder.parent.parent), folder.parent.name, trial_dir_name=folder.name
    )
    spec = load_spec(DOCUMENT)
    return Untracked(config={"spec": resolved_dict(spec), "seed": 0}, storage=storage)


@pytest.mark.parametrize("log", ["complete", "lost", "stopped early"])
def test_it_reports_its_last_result_again(folder: Path, log: str) -> None:
    trial = trial_in(folder)
    wanted = 100 if log == "stopped early" else 300
    result: dict[str, Any] = {"env_steps": 0}
    while result["env_steps"] < wanted:
        result = trial.train()
    trial.save_checkpoint(str(folder / "checkpoint_000001"))
    trial.cleanup()
    if log != "lost":
        kept = ("env_steps", "episode_return_mean", "training_iteration")
        row = {key: result[key] for key in kept} | {"done": True}
        (folder / "result.json").write_text(json.dumps(row) + "\n")

    again = trial_in(folder)
    repeated = again.train()
    assert repeated["done"]
    assert repeated["env_steps"] == again.algorithm.clock == result["env_steps"]
    assert repeated["episode_return_mean"] == pytest.approx(result["episode_return_mean"])
    again.cleanup()


def test_it_trains_further_if_it_has_not_ended(folder: Path) -> None:
    trial = trial_in(folder)
    result = trial.train()
    assert result["env_steps"] < 300
    trial.save_checkpoint(str(folder / "checkpoint_000001"))
    trial.cleanup()
    row = {"env_steps": result["env_steps"], "done": False}
    (folder / "result.json").write_text(json.dumps(row) + "\n")

    again = trial_in(folder)
    assert again.train()["env_steps"] > result["env_steps"]
    again.cleanup()
