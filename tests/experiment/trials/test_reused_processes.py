"""A process runs one trial after the other, unless a trial failed in it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.experiment.command_line import results, rlssl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PLUGIN = """
import os, pathlib, signal

import gymnasium as gym
import numpy as np
import ray
import rlssl

HERE = pathlib.Path(__file__).parent


def is_trial():
    return ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None


class Troubled(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config):
        self.case, self.num_steps = config["case"], 0
        if self.case == "killed" and is_trial() and not (HERE / "killed").exists():
            (HERE / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.case == "broken" and is_trial():
            raise ValueError("the robot is broken")

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.num_steps += 1
        if self.case == "error" and self.num_steps > 8:  # not in the preflight
            raise ValueError("the robot fell over")
        return np.zeros(2, np.float32), 1.0, True, False, {}

    def close(self):
        if self.case == "close" and self.num_steps > 8:  # not in the preflight
            raise RuntimeError("cannot be closed")


rlssl.register_env("lab/Troubled", Troubled)
"""

#: A trial that cannot begin in a used process is tried again at the end.
CASES = ["close", "well", "killed", "second", "broken", "third", "error", "fourth"]
FAILED = ("broken", "error")

SPEC = {
    "name": "troubled",
    "algorithm": "ppo",
    "plugins": ["troubled"],
    "env": {"id": "lab/Troubled"},
    "training": {"train_batch_size_per_learner": 128, "num_epochs": 1},
    "search": {"env.case": {"grid": CASES}},
    "stop": {"env_steps": 256},
    # One trial at a time.
    "resources": {"cpus": len(os.sched_getaffinity(0))},
    "max_env_crashes_per_1000_env_steps": 0,
    "max_failures": 0,
    "reuse_processes": True,
}


def test_only_a_process_whose_trial_ended_well_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "troubled.py").write_text(PLUGIN)
    (tmp_path / "troubled.yaml").write_text(yaml.safe_dump(SPEC))
    _, errors = rlssl("sweep", "troubled.yaml", cwd=tmp_path, code=1)
    assert "the robot fell over" in errors and "the robot is broken" in errors
    assert "Traceback" not in errors
    trials: dict[str, list[dict[str, Any]]] = {}
    for marker in (tmp_path / "results" / "troubled").glob("*/trial.json"):
        case = json.loads(marker.read_text())["point"]["env.case"]
        trials[case] = results(marker.parent) if (marker.parent / "result.json").exists() else []
    pids = {case: rows[-1]["pid"] for case, rows in trials.items() if rows}
    # Every other trial came to its end, also the one that killed the used process.
    assert {case for case, rows in trials.items() if rows and rows[-1]["done"]} == {
        case for case in CASES if case not in FAILED
    }
    assert errors.count("could not begin in the process of an earlier trial") == 2
    assert pids["close"] == pids["well"]
    assert len({pids[case] for case in ("well", "second", "third", "fourth", "killed")}) == 5
