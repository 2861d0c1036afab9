"""What users see of real runs off a terminal, and print again with `rlssl summary`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlssl.run_files import MANIFEST
from tests.experiment.command_line import only_trial, results, rlssl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: Lines that a run of less than ten minutes may print.
MOST_LINES = 40

#: Checkpoints by env steps would be at 1,000,000; every iteration takes longer than `every_s`.
TRAIN = ["train", "ppo", "lab/Slow", "--plugin", "slow", "--name", "run"]
TRAIN += ["--stop", "env_steps=2000", "--set", "training.train_batch_size_per_learner=250"]
TRAIN += ["--set", "checkpoint={every_env_steps: 1000000, every_s: 1, keep: 20}"]
TRAIN += ["--set", "env_runners.num_envs=1"]

PLUGIN = """
import time

import gymnasium as gym
import numpy as np
import rlssl


class Slow(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        time.sleep(0.005)
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, self.steps == 10, False, {}


rlssl.register_env("lab/Slow", Slow)
"""

SWEEP: dict[str, Any] = {
    "name": "pairs",
    "algorithm": "ppo",
    "env": "CartPole-v1",
    "search": {"training.lr": {"grid": [1e-3, 1e-4]}},
    "seeds": [0, 1],
    "stop": {"env_steps": 2000},
}


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """A storage after two launches with one name at the same time, and what each printed."""
    folder = tmp_path_factory.mktemp("twins")
    (folder / "slow.py").write_text(PLUGIN)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "rlssl.cli", *TRAIN],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    yield folder, printed


@pytest.mark.ci
def test_two_launches_with_one_name_at_once_are_two_runs(twins: tuple[Path, list[str]]) -> None:
    folder, printed = twins
    runs = sorted(path.name for path in (folder / "results").iterdir())
    assert runs == ["run", "run-2"]
    names = sorted(line for text in printed for line in text.splitlines() if line[:4] == "Run ")
    assert names == ["Run run", "Run run-2 ('run' exists)"]
    for name in runs:
        rows = results(only_trial(folder / "results" / name))
        assert [row["env_steps"] for row in rows] == list(range(250, 2001, 250))


@pytest.mark.ci
def test_output_of_a_training_is_short_and_ends_with_its_files(
    twins: tuple[Path, list[str]],
) -> None:
    _, printed = twins
    for text in printed:
        lines = text.splitlines()
        assert lines[0] == "Preparing ppo on lab/Slow."
        assert len(lines) <= MOST_LINES
        assert "return 10 over the last 20 episodes, 2,000 env steps" in lines
        assert Path(lines[-1]).name.startswith("checkpoint_")


@pytest.mark.ci
def test_checkpoints_are_saved_by_time_as_well_as_by_env_steps(
    twins: tuple[Path, list[str]],
) -> None:
    folder, _ = twins
    trial = only_trial(folder / "results" / "run")
    saved = [json.loads(path.read_text()) for path in trial.glob(f"checkpoint_*/{MANIFEST}")]
    env_steps = sorted(manifest["env_steps"] for manifest in saved)
    # 250 steps of 5 ms take longer than a second: every iteration saves.
    assert env_steps == list(range(250, 2001, 250))


@pytest.mark.ci
def test_summary_prints_the_end_of_a_training_again(twins: tuple[Path, list[str]]) -> None:
    folder, printed = twins
    for name in ("run", "run-2"):
        again = rlssl("summary", f"results/{name}", cwd=folder)[0].splitlines()
        (text,) = [text for text in printed if f"Run {name}\n" in text or f"Run {name} " in text]
        assert text.splitlines()[-len(again) :] == again
        assert len(again) == 3


def test_sweep_is_short_and_its_table_can_be_printed_again(tmp_path: Path) -> None:
    (tmp_path / "pairs.yaml").write_text(yaml.safe_dump(SWEEP))
    done = subprocess.run(
        [sys.executable, "-m", "rlssl.cli", "sweep", "pairs.yaml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    assert lines[0] == "Preparing the sweep pairs.yaml."
    assert len(lines) <= MOST_LINES
    run = tmp_path / "results" / "pairs"
    files = [run / "table.csv", run / "learning_curves.png", run / "report.html"]
    assert lines[-3:] == list(map(str, files))
    before = files[0].read_bytes()
    for path in files:
        path.unlink()
    again = rlssl("summary", "pairs", cwd=tmp_path)[0].splitlines()
    assert lines[-len(again) :] == again
    assert files[0].read_bytes() == before and all(path.is_file() for path in files)
    table = [line for line in again if line.lstrip().startswith("lr=")]
    assert len(table) == 2 and all(line.split()[1] == "2" for line in table)
