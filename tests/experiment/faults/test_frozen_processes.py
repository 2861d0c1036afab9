"""Frozen processes of a run (SIGSTOP) are noticed and replaced, and the run ends as it should."""

import signal
from typing import Any

import pytest

from tests.experiment.faults.run_processes import COMMAND, runs

__all__ = ["runs"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Long enough for an iteration and for a checkpoint, on a busy machine too.
WATCHDOG = ["--set", "watchdog_s=10"]
#: Algorithm, EnvRunners, and what makes it quick. With one EnvRunner, nothing is sampled until it
#: has started again, which takes longer than `watchdog_s` on a busy machine. An A3C worker need not
#: answer in time: the others go on.
CASES = {
    "ppo-1": ("ppo", 1, ["--stop", "env_steps=8000"]),
    "ppo-2": ("ppo", 2, ["--stop", "env_steps=8000"]),
    "rainbow-2": (
        "rainbow",
        2,
        ["--set", "training.learning_starts_agent_steps=500", "--stop", "env_steps=3000"],
    ),
    "a3c-2": (
        "a3c",
        2,
        ["--set", "training.worker_timeout_s=5", "--stop", "env_steps=60000"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_frozen_env_runner_is_replaced_and_counted(runs: Any, case: str) -> None:
    algorithm, num_runners, options = CASES[case]
    command = ["train", algorithm, *COMMAND[2:5], *WATCHDOG, "--env-runners", str(num_runners)]
    run = runs(f"runner-{case}", *command, *options, "--set", "checkpoint.every_env_steps=1000")
    run.wait_for_checkpoints(1)
    run.kill("ray::VectorWorker" if algorithm == "a3c" else "ray::VectorEnvRunner", signal.SIGSTOP)
    printed, _ = run.finish()
    rows = run.results()
    assert {row["env_steps_at_start"] for row in rows} == {0}  # the trial never stopped
    assert rows[-1]["faults"]["env_runner_restarts"] == 1
    assert rows[-1]["env_steps"] >= int(options[-1].partition("=")[2])
    assert "EnvRunners restarted: 1" in printed


def test_frozen_trial_is_killed_and_continues_from_its_checkpoint(runs: Any) -> None:
    run = runs("trial", *COMMAND, *WATCHDOG)
    run.wait_for_checkpoints(2)
    run.kill("ray::SpecTrainable", signal.SIGSTOP)
    _, errors = run.finish()
    assert "no sign of life for 10 s (watchdog_s). Its process is killed." in errors
    assert "try 1 of 2" in errors
    (started_at,) = {row["env_steps_at_start"] for row in run.results()} - {0}
    assert started_at >= 2000 and run.results()[-1]["env_steps"] >= 10000
