"""Writes the files of a run that trains, as its driver does."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

SPEC: dict[str, Any] = {
    "name": "lr",
    "algorithm": "ppo",
    "env": {"id": "CartPole-v1"},
    "seeds": [0, 1],
    "stop": {"env_steps": 1000},
    "report_every_s": 5,
}

POINTS = [{"training.lr": 0.1}, {"training.lr": 0.2}]


class RunningRun:
    """A folder that grows.

    Args:
        folder: To be created.
        spec: Changes of `SPEC`.
        points: The points of the search.
    """

    def __init__(
        self, folder: Path, spec: Mapping[str, Any] = {}, points: Sequence[Any] = POINTS
    ) -> None:
        self.folder, self.points = folder, points
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"started": time.time(), "state": "running"}))
        (folder / "sweep.yaml").write_text(yaml.safe_dump({**SPEC, **spec}))
        listed = [
            {"index": index, "values": values, "label": label(values)}
            for index, values in enumerate(points)
        ]
        (folder / "points.json").write_text(json.dumps({"points": listed}))

    def begin(self, point: int, seed: int) -> Path:
        """Writes ``trial.json``, as at the start and at a restart of a trial."""
        trial = self.folder / f"point{point}-seed{seed}"
        trial.mkdir(exist_ok=True)
        values = self.points[point]
        content = {"point": values, "seed": seed, "variant_label": label(values)}
        (trial / "trial.json").write_text(json.dumps(content))
        return trial

    def report(self, trial: Path, env_steps: int, score: float, **further: Any) -> None:
        """Appends a result: 100 env steps a second of training."""
        row = {
            "env_steps": env_steps,
            "env_steps_at_start": 0,
            "episode_return_mean": score,
            "faults": {"env_crashes": 0},
            "done": False,
            "timestamp": int(time.time()),
            "time_since_restore": env_steps / 100,
            **further,
        }
        with (trial / "result.json").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def end(self, state: str) -> None:
        """Notes the end of the run."""
        (self.folder / "run.json").write_text(json.dumps({"started": 0.0, "state": state}))


def label(values: Mapping[str, Any]) -> str:
    """The label of a point."""
    return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in values.items())
