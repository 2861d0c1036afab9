"""Frozen processes of a run (SIGSTOP) are noticed and replaced, and the run ends as it should."""

import signal
from typing import Any

import pytest

from tests.experiment.test_process_faults import COMMAND, runs

__all__ = ["runs"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Long enough for an iteration and for a checkpoint, on a busy machine too.
WATCHDOG = ["--set", "watchdog_s=10"]
#: Long enough to start an EnvRunner again, too: on a busy machine that takes half a minute.
RUNNER_WATCHDOG = ["--set", "watchdog_s=60"]


@pytest.mark.parametrize("algorithm", ["ppo", "rainbow", "a3c"])
def test_frozen_env_runner_is_replaced_and_counted(runs: Any, algorithm: str) -> None:
    command = ["train", algorithm, *COMMAND[2:5], *RUNNER_WATCHDOG, "--env-runners", "2"]
    command += ["--set", "checkpoint.every_env_steps=2000", "--stop", "env_steps=8000"]
    run = runs(f"runner-{algorithm}", *command)
    run.wait_for_checkpoints(1)
    run.kill("ray::VectorWorker" if algorithm == "a3c" else "ray::VectorEnvRunner", signal.SIGSTOP)
    run.finish()
    rows = run.results()
    assert {row["env_steps_at_start"] for row in rows} == {0}  # the trial never stopped
    assert rows[-1]["faults"]["env_runner_restarts"] == 1
    assert rows[-1]["env_steps"] >= 8000


@pytest.mark.ci
def test_frozen_trial_is_killed_and_continues_from_its_checkpoint(runs: Any) -> None:
    run = runs("trial", *COMMAND, *WATCHDOG)
    run.wait_for_checkpoints(2)
    run.kill("ray::SpecTrainable", signal.SIGSTOP)
    _, errors = run.finish()
    assert "no sign of life for 10 s (watchdog_s). Its process is killed." in errors
    assert "try 1 of 2" in errors
    (started_at,) = {row["env_steps_at_start"] for row in run.results()} - {0}
    assert started_at >= 2000 and run.results()[-1]["env_steps"] >= 10000
