"""A run with real trackers that is killed and resumed: the curves are those of its files."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.experiment.command_line import only_trial, rlssl, wait_for_checkpoints
from tests.experiment.tracking.stores import Curve, mlflow_curve, wandb_curve
from tests.experiment.tracking.wandb_server import wandb_server

METRIC = "episode_return_mean"
TRAIN = (
    *("train", "ppo", "CartPole-v1", "--name", "tracked", "--stop", "env_steps=12000"),
    *("--set", "checkpoint.every_env_steps=2000"),
    *("--set", "tracking=[{wandb: {mode: offline}}, mlflow]"),
)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_curves_of_a_killed_and_resumed_run_are_those_of_its_files(tmp_path: Path) -> None:
    run = tmp_path / "results" / "tracked"
    command = [sys.executable, "-m", "rlssl.cli", *TRAIN]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        wait_for_checkpoints(process, run, 2)
        process.kill()
    rlssl("resume", "tracked", cwd=tmp_path)
    trial = only_trial(run)
    with (trial / "progress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected: Curve = [(int(row["env_steps"]), float(row[METRIC])) for row in rows]
    assert len(expected) >= 8 and expected[-1][0] >= 12_000
    ids = {
        name: json.loads((trial / f"tracking_{name}.json").read_text())["run_id"]
        for name in ("wandb", "mlflow")
    }
    assert wandb_curve(run, ids["wandb"], METRIC) == expected
    uri = f"sqlite:///{tmp_path}/results/mlflow.db"
    assert mlflow_curve(uri, ids["mlflow"], METRIC) == expected
    parts = sorted(str(part) for part in run.glob("wandb/offline-run-*"))
    assert len(parts) == 2
    assert synced_curve(parts, ids["wandb"], tmp_path) == expected


def synced_curve(parts: list[str], run_id: str, folder: Path) -> Curve:
    """(env steps, value) of the metric at a server, after ``wandb sync`` of the parts of a run."""
    with wandb_server() as (url, histories):
        keys = {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "online"}
        command = [sys.executable, "-m", "wandb", "sync", "--yes", *parts]
        subprocess.run(command, cwd=folder, env={**os.environ, **keys}, check=True, timeout=120)
    rows = [row for _, row in sorted(histories[run_id].items())]
    return [(row["env_steps"], row[METRIC]) for row in rows]
