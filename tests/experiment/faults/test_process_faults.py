"""Killed processes of a run: nothing learned is lost, and no fault is hidden."""

import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from rlssl.experiment.checkpoints import checkpoint
from tests.experiment.command_line import rlssl, write_failing_env
from tests.experiment.faults.run_processes import COMMAND, Run, kill_driver, runs

__all__ = ["runs"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def final_weights(run: Run) -> dict[str, np.ndarray]:
    found = checkpoint.newest_valid(run.trial())
    assert found is not None
    weights: dict[str, np.ndarray] = load_file(found.path / "policy" / "weights.safetensors")
    return weights


def damage(folder: Path) -> None:
    state = folder / "algorithm" / "learner_group" / "learner" / "state.pkl"
    state.write_bytes(state.read_bytes()[:-10])


def test_run_resumed_after_a_kill_equals_the_uninterrupted_run(runs: Any, tmp_path: Path) -> None:
    options = [*COMMAND, "--aux", "icm"]
    killed = runs("killed", *options)
    killed.wait_for_checkpoints(2)
    kill_driver(killed)
    refuses_to_resume_from_nothing(killed, tmp_path)
    printed, _ = rlssl("resume", str(killed.folder), cwd=tmp_path)
    (started_at,) = {row["env_steps_at_start"] for row in killed.results()} - {0}
    assert f"Continuing after {started_at:,} env steps from" in printed and started_at >= 2000

    whole = runs("whole", *options)
    whole.finish()
    # The files hold the same history, and the weights are equal to the last bit.
    assert (killed.trial() / "episodes.csv").read_text() == (
        whole.trial() / "episodes.csv"
    ).read_text()
    expected, actual = final_weights(whole), final_weights(killed)
    assert all(np.array_equal(actual[key], expected[key]) for key in expected)
    last, expected_last = killed.results()[-1], whole.results()[-1]
    for key in ("env_steps", "training_iteration", "episode_return_mean", "intrinsic_return_mean"):
        assert last[key] == expected_last[key]
    assert last["aux"] == expected_last["aux"]


def refuses_to_resume_from_nothing(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(run.folder, copy)
    for folder in copy.glob("*/checkpoint_*"):
        damage(folder)
    start = time.monotonic()
    _, errors = rlssl("resume", str(copy), "--trust", cwd=tmp_path, code=2)
    assert "no valid checkpoint left" in errors and "Traceback" not in errors
    assert time.monotonic() - start < 20


def test_killed_trial_continues_from_the_newest_valid_checkpoint(runs: Any) -> None:
    run = runs("trial", *COMMAND)
    run.wait_for_checkpoints(2)
    # Stopped first, so that it writes no further checkpoint before it dies.
    pid = run.kill("ray::SpecTrainable", signal.SIGSTOP)
    found = checkpoint.newest_valid(run.trial())
    assert found is not None
    damage(found.path)
    before = checkpoint.newest_valid(run.trial())
    assert before is not None and before.env_steps < found.env_steps
    os.kill(pid, signal.SIGKILL)
    _, errors = run.finish()
    assert {row["env_steps_at_start"] for row in run.results()} == {0, before.env_steps}
    assert f"continues from {before.env_steps:,} env steps, try 1 of 2" in errors
    assert "is truncated or changed" in errors
    steps = episode_steps(run)
    assert steps == sorted(steps) and steps[-1] > 9000


def episode_steps(run: Run) -> list[int]:
    lines = (run.trial() / "episodes.csv").read_text().splitlines()[1:]
    return [int(line.split(",")[0]) for line in lines]


@pytest.mark.parametrize("num_learners", [1, 2])
def test_trial_recovers_from_a_killed_learner(runs: Any, num_learners: int) -> None:
    run = runs("learner", *COMMAND, "--set", f"resources.learners={num_learners}")
    run.wait_for_checkpoints(2)
    run.kill("ray::_WrappedExecutable")
    _, errors = run.finish()
    (started_at,) = {row["env_steps_at_start"] for row in run.results()} - {0}
    assert started_at >= 2000 and run.results()[-1]["env_steps"] >= 10000
    # With two Learners, the surviving one may report the loss first.
    who = "ActorDiedError" if num_learners == 1 else "(ActorDiedError|PeersLostError)"
    assert re.search(rf"lost a process \({who}.*try 1 of 2", errors)


def test_killed_env_runner_is_replaced_and_counted(runs: Any) -> None:
    # Long enough for the new EnvRunner to start before the end.
    run = runs("runner", *COMMAND, "--env-runners", "2", "--stop", "env_steps=40000")
    run.wait_for_checkpoints(2)
    run.kill("ray::VectorEnvRunner")
    run.finish()
    rows = run.results()
    assert {row["env_steps_at_start"] for row in rows} == {0}  # the trial never stopped
    assert rows[0]["faults"]["env_runner_restarts"] == 0
    assert rows[-1]["faults"]["env_runner_restarts"] == 1
    assert rows[-1]["faults"]["episodes_abandoned"] == 8  # its environments
    assert rows[-1]["env_steps"] >= 40000


def test_error_of_an_environment_is_not_retried(tmp_path: Path) -> None:
    error = 'ConnectionResetError("the robot fell over")'
    module = tmp_path / "hopeless.py"
    write_failing_env(module, "lab/Hopeless", error, after=600, for_good=True)
    command = ["train", "ppo", "lab/Hopeless", "--set", "plugins=[hopeless]", "--name", "hopeless"]
    _, errors = rlssl(*command, *COMMAND[5:], cwd=tmp_path, code=1)
    assert "the robot fell over" in errors and "Traceback" not in errors
    (log,) = (tmp_path / "results" / "hopeless").glob("*/error.txt")
    assert log.read_text().count("Failure #") == 1
    assert str(log) in errors.splitlines()
