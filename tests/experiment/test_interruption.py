"""Ctrl-C and SIGTERM: the run saves, says how to go on, and goes on from there."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlssl.experiment.checkpoints import checkpoint
from rlssl.experiment.commands.results.runs import describe_run
from rlssl.experiment.lock import running
from tests.experiment.command_line import only_trial, results, rlssl

pytestmark = [pytest.mark.slow, pytest.mark.ci, pytest.mark.timeout(600)]

COMMAND = ["train", "ppo", "CartPole-v1", "--stop", "env_steps=100000000", "--name", "run"]
#: Without the signal, the first checkpoint would be at 10 million env steps.
COMMAND += ["--set", "training.train_batch_size_per_learner=256", "--set", "training.num_epochs=2"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    processes: list[subprocess.Popen[str]] = []

    def start_one(*command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rlssl.cli", *command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for_results(process: subprocess.Popen[str], run: Path, count: int = 1) -> None:
    deadline = time.monotonic() + 300
    while len(list(run.glob("*/result.json"))) < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_whole_process_group_saves_where_the_run_stands(
    start: Any, tmp_path: Path, number: int
) -> None:
    run = tmp_path / "results" / "run"
    process = start(*COMMAND)
    wait_for_results(process, run)
    assert running(run)
    _, refused = rlssl("resume", "run", cwd=tmp_path, code=3)
    assert f"run is running: {os.environ.get('USER', '')}" in refused or "is running" in refused
    assert f"(process {process.pid})" in refused
    begin = time.monotonic()
    os.killpg(process.pid, number)
    printed, errors = process.communicate(timeout=120)
    # 20 s for the checkpoint, 5 s for Tune's end, and the rest for a busy machine.
    assert time.monotonic() - begin < 60
    assert process.returncode == 130, printed + errors
    assert "Saved 1 of 1" in errors
    assert errors.splitlines()[-1] == f"Continue with: rlssl resume {run}"
    trial = only_trial(run)
    found = checkpoint.newest_valid(trial)
    assert found is not None
    assert found.env_steps == results(trial)[-1]["env_steps"] < 10_000_000
    assert not running(run)
    assert describe_run(run, run.parent).state == "interrupted"


def test_second_ctrl_c_ends_at_once(start: Any, tmp_path: Path) -> None:
    run = tmp_path / "results" / "run"
    # An iteration takes minutes, so nothing can be saved in time.
    slow = ["--set", "training.num_epochs=100000"]
    process = start(*COMMAND, *slow)
    deadline = time.monotonic() + 300
    while not list(run.glob("*/trial.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begin < 10
    assert process.returncode == 130
    assert f"rlssl resume {run}" in errors
    assert describe_run(run, run.parent).state == "interrupted"


def test_ctrl_c_before_the_first_trial_leaves_no_folder(start: Any, tmp_path: Path) -> None:
    process = start(*COMMAND)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "results").glob("*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert list((tmp_path / "results").iterdir()) == []
