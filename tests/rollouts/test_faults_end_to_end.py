"""`rlssl train` on environments that fail: exit codes, seconds, first lines, and counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.experiment.command_line import rlssl

pytestmark = [pytest.mark.slow, pytest.mark.ci, pytest.mark.timeout(600)]

#: Seconds from the start of the trial to its end, including the start of its processes.
LIMIT_S = 60


def train(env_runners: int, cwd: Path, options: dict[str, Any], code: int = 0) -> tuple[str, str]:
    """Trains PPO on a faulty CartPole whose copies have no fault in their first 40 steps.

    Returns:
        What the command, which must end with ``code``, printed to stdout and stderr.
    """
    settings = {
        "env.after": 40,
        "training.train_batch_size_per_learner": 512,
        "max_env_crashes_per_1000_env_steps": 100,
        **options,
    }
    command = ["train", "ppo", "faulty/CartPole-v1"]
    command += ["--env-runners", str(env_runners), "--stop", "env_steps=4000"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    return rlssl(*command, cwd=cwd, code=code)


def results(cwd: Path) -> list[dict[str, Any]]:
    (path,) = cwd.glob("results/*/*/result.json")
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_counted(cwd: Path, counters: set[str]) -> None:
    log = results(cwd)
    assert log[-1]["env_steps"] >= 4000
    counted = {name for name, count in log[-1]["faults"].items() if count}
    assert counted == {*counters, "episodes_dropped"}
    for name in counted:
        # Over the whole run, and over all runners.
        counts = [row["faults"][name] for row in log]
        assert counts == sorted(counts)


@pytest.mark.parametrize("env_runners", [0, 2])
def test_occasional_faults_drop_their_episodes_and_are_counted(
    env_runners: int, tmp_path: Path
) -> None:
    kinds = ("crash_in_reset", "crash_in_step", "nan_observation", "huge_reward")
    printed, errors = train(env_runners, tmp_path, {f"env.{kind}": 0.002 for kind in kinds})
    assert_counted(tmp_path, {"env_crashes", "bad_observations", "bad_rewards"})
    # The terminal says so at the first fault and at the end; the first tracebacks are kept.
    assert "environments: " in errors and "so far; the latest: environment" in errors
    crashes = results(tmp_path)[-1]["faults"]["env_crashes"]
    assert f"environments: {crashes} crashes, " in printed
    (trace,) = tmp_path.glob("results/*/*/env_faults/env_crashes-InjectedFaultError.txt")
    assert "injected crash in" in trace.read_text().splitlines()[-1]


@pytest.mark.parametrize("env_runners", [0, 1])
def test_an_environment_that_keeps_crashing_ends_the_run(env_runners: int, tmp_path: Path) -> None:
    options = {"env.crash_in_step": 0.01, "max_env_crashes_per_1000_env_steps": 1}
    _, errors = train(env_runners, tmp_path, options, code=1)
    (line,) = [line for line in errors.splitlines() if line.startswith("trial failed: ")]
    assert "environments crashed " in line and "at most 1 is allowed" in line
    assert "InjectedFaultError: injected crash" in line
    assert "raise max_env_crashes_per_1000_env_steps" in line


def test_occasional_timeouts_are_counted_too(tmp_path: Path) -> None:
    options = {"env.stall": 0.001, "env_step_timeout_s": 1}
    train(2, tmp_path, options)
    assert_counted(tmp_path, {"env_timeouts"})


TIMEOUT = {"env.stall": 1.0, "env.after": 3, "env_step_timeout_s": 20}


@pytest.mark.parametrize(
    "env_runners, options, words",
    [
        (0, {"env.crash_in_step": 1.0}, " failed in step(): InjectedFaultError: injected crash in"),
        (2, {"env.crash_in_step": 1.0}, " failed in step(): InjectedFaultError: injected crash in"),
        (0, {"env.nan_reward": 1.0}, ": step() gave a reward of nan"),
        (2, TIMEOUT, " timed out in step() after 10 s (env_step_timeout_s)"),
    ],
)
def test_repeated_faults_fail_the_run_with_the_environments_error(
    env_runners: int, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    _, printed = train(env_runners, tmp_path, options, code=1)
    lines = [line for line in printed.splitlines() if line.startswith("trial failed: ")]
    assert f"environment 'faulty/CartPole-v1'{words}" in lines[0]
    assert "Traceback" not in printed
    (started,) = tmp_path.glob("results/*/*/trial.json")
    errors = started.with_name("error.txt")
    assert errors.stat().st_mtime - started.stat().st_mtime < LIMIT_S
    # The trial was not retried.
    assert errors.read_text().count("Failure #") == 1


def test_remote_environments_that_cannot_be_built_fail_the_run_with_their_error(
    tmp_path: Path,
) -> None:
    (tmp_path / "lonely.py").write_text(
        "import gymnasium, rlssl\n"
        "def make(config):\n"
        "    if config['worker_index'] > 0:\n"
        "        raise ConnectionError('no simulator for this one')\n"
        "    return gymnasium.make('CartPole-v1')\n"
        "rlssl.register_env('lab/lonely', make)\n"
    )
    command = ["train", "ppo", "lab/lonely", "--env-runners", "2", "--set", "plugins=[lonely]"]
    _, errors = rlssl(*command, cwd=tmp_path, code=1)
    words = "environment 'lab/lonely' failed in make(): ConnectionError: no simulator for this one"
    assert words in errors
