"""A study with seeds in real processes: its driver is killed twice, and the study goes on."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.experiment.command_line import kill_when, results, rlssl
from tests.experiment.worth import write_sweep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SEEDS = [3, 4]
NUM_POINTS = 6

#: The return of every episode is `env.worth`, so that the scores are known without a trial.
STUDY: dict[str, Any] = {
    "search": {
        "env.worth": {"uniform": [0.0, 8.0]},
        "training.entropy_coeff": {"loguniform": [1e-3, 1e-1]},
    },
    "searcher": {
        "optuna": {"num_samples": NUM_POINTS, "seed": 7, "n_startup_trials": 2, "max_concurrent": 1}
    },
    "objective": {"metric": "area"},
    "seeds": SEEDS,
    "stop": {"env_steps": 256},
    "max_failures": 0,
}


def undisturbed() -> list[dict[str, float]]:
    """The points of a plain study of Optuna with the same scores."""
    sampler = optuna.samplers.TPESampler(seed=7, n_startup_trials=2)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    points = []
    for _ in range(NUM_POINTS):
        trial = study.ask()
        worth = trial.suggest_float("env.worth", 0.0, 8.0)
        entropy = trial.suggest_float("training.entropy_coeff", 1e-3, 1e-1, log=True)
        study.tell(trial, worth)
        points.append({"env.worth": worth, "training.entropy_coeff": entropy})
    return points


def told(run: Path) -> int:
    """Number of points whose scores the study has."""
    path = run / "points.json"
    return len(json.loads(path.read_text()).get("told", [])) if path.is_file() else 0


def test_killed_study_suggests_what_an_undisturbed_one_suggests(tmp_path: Path) -> None:
    write_sweep(tmp_path, "study", **STUDY)
    run = tmp_path / "results" / "study"
    kill_when(lambda: told(run) >= 1, "sweep", "study.yaml", cwd=tmp_path)
    # Tune's state is not needed: damaged, it is the same.
    for path in run.glob("experiment_state-*.json"):
        path.write_bytes(path.read_bytes()[:100])
    kill_when(lambda: told(run) >= 3, "resume", "study", cwd=tmp_path)
    printed, _ = rlssl("resume", "study", cwd=tmp_path)

    listed = json.loads((run / "points.json").read_text())
    points = [point["values"] for point in listed["points"]]
    assert points == undisturbed()
    assert [one["index"] for one in listed["told"]] == list(range(NUM_POINTS))
    for one in listed["told"]:
        assert one["score"] == pytest.approx(points[one["index"]]["env.worth"], rel=1e-5)
    ran = []
    for marker in run.glob("*/trial.json"):
        trial = json.loads(marker.read_text())
        last = results(marker.parent)[-1]
        assert last["done"] and last["env_steps"] >= 256
        assert last["objective"] == pytest.approx(trial["point"]["env.worth"], rel=1e-5)
        ran.append((points.index(trial["point"]), trial["seed"]))
    assert sorted(ran) == [(index, seed) for index in range(NUM_POINTS) for seed in SEEDS]
    assert "objective" in printed and "area" in printed
    assert "has finished" in rlssl("resume", "study", cwd=tmp_path)[0]
