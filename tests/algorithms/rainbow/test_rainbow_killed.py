"""A run that is killed (SIGKILL) resumes with its replay buffer and makes the same updates."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.experiment.command_line import only_trial, results, rlssl, wait_for_checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COMMAND = [
    *("train", "rainbow", "CartPole-v1", "--aux", "icm", "--stop", "env_steps=6000"),
    *("--set", "checkpoint.every_env_steps=1500"),
    *("--set", "training.agent_steps_per_iteration=200"),
    *("--set", "training.replay_capacity=2000"),
    *("--set", "report_every_s=0"),
]


def compared(row: dict[str, Any]) -> dict[str, Any]:
    learned = row["learners"]["default_policy"]
    keys = ("env_steps", "updates", "replay", "episode_return_mean", "intrinsic_return_mean")
    return {key: row[key] for key in keys} | {
        key: learned[key] for key in ("loss", "q_mean", "td_error_mean", "total_loss")
    }


def test_killed_run_continues_as_the_uninterrupted_run(tmp_path: Path) -> None:
    rlssl(*COMMAND, "--name", "whole", cwd=tmp_path)
    log = results(only_trial(tmp_path / "results" / "whole"))
    whole = {row["env_steps"]: compared(row) for row in log if row["updates"]}
    process = subprocess.Popen(
        [sys.executable, "-m", "rlssl.cli", *COMMAND, "--name", "killed"],
        cwd=tmp_path,
        start_new_session=True,
    )
    run = tmp_path / "results" / "killed"
    wait_for_checkpoints(process, run, 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    rlssl("resume", str(run), cwd=tmp_path)
    trial = only_trial(run)
    assert list(trial.glob("checkpoint_*/algorithm/replay/replay.json"))
    resumed = [row for row in results(trial) if row["env_steps_at_start"] > 0]
    assert len(resumed) > 5
    # The first result is the first iteration after the checkpoint; its updates follow directly.
    for row in resumed:
        assert compared(row) == whole[row["env_steps"]]
    assert resumed[-1]["env_steps"] == max(whole)
