"""A trial that was restored from its last checkpoint does not train further."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.fs
import pytest

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


def trial_in(folder: Path) -> SpecTrainable:
    storage: Any = SimpleNamespace(
        trial_fs_path=str(folder), storage_filesystem=pyarrow.fs.LocalFileSystem()
    )
    spec = load_spec(DOCUMENT)
    return Untracked(config={"spec": resolved_dict(spec), "seed": 0}, storage=storage)


@pytest.mark.parametrize("log", ["complete", "lost", "stopped early"])
def test_it_reports_its_last_result_again(tmp_path: Path, log: str) -> None:
    trial = trial_in(tmp_path)
    wanted = 100 if log == "stopped early" else 300
    result: dict[str, Any] = {"env_steps": 0}
    while result["env_steps"] < wanted:
        result = trial.train()
    trial.save_checkpoint(str(tmp_path / "checkpoint_000001"))
    trial.cleanup()
    if log != "lost":
        kept = ("env_steps", "episode_return_mean", "training_iteration")
        row = {key: result[key] for key in kept} | {"done": True}
        (tmp_path / "result.json").write_text(json.dumps(row) + "\n")

    again = trial_in(tmp_path)
    repeated = again.train()
    assert repeated["done"]
    assert repeated["env_steps"] == again.algorithm.clock == result["env_steps"]
    assert repeated["episode_return_mean"] == pytest.approx(result["episode_return_mean"])
    again.cleanup()


def test_it_trains_further_if_it_has_not_ended(tmp_path: Path) -> None:
    trial = trial_in(tmp_path)
    result = trial.train()
    assert result["env_steps"] < 300
    trial.save_checkpoint(str(tmp_path / "checkpoint_000001"))
    trial.cleanup()
    row = {"env_steps": result["env_steps"], "done": False}
    (tmp_path / "result.json").write_text(json.dumps(row) + "\n")

    again = trial_in(tmp_path)
    assert again.train()["env_steps"] > result["env_steps"]
    again.cleanup()
