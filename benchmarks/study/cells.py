"""The cells of the study: a sweep of `tune_configs/study`, and one point of its grid."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.machine import load, machine
from rlssl.analysis.results import Trial, read_sweep
from rlssl.analysis.statistics import iqm, mean_interval
from rlssl.experiment.spec.loading import load_spec
from rlssl.experiment.spec.search_space import draw_points

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "study"
STRATA = ("sparse_reward", "clean_pixels", "distractors")
#: Results of a trial that a cell keeps, by the name that they get in it.
_FINAL = {"evaluation/episode_return_mean": "return", "evaluation/success_rate": "success"}


@dataclass(frozen=True)
class Cell:
    """A row of a stratum.

    Args:
        stratum: Name of the sweep, below `tune_configs/study`.
        row: Its losses; ``augmentation`` or ``none`` without a loss.
        values: The point.
    """

    stratum: str
    row: str
    values: dict[str, Any]

    @property
    def file(self) -> Path:
        """Where its result is, or will be."""
        return RESULTS / self.stratum / f"{self.row}.json"

    @property
    def words(self) -> list[str]:
        """The arguments of ``rlssl`` that run it, in the top folder of the repository."""
        grid = {path: {"grid": [value]} for path, value in self.values.items()}
        return [
            "sweep",
            f"tune_configs/study/{self.stratum}.yaml",
            *("--set", f"search={json.dumps(grid)}"),
            *("--set", "searcher=null"),
            *("--set", f"name=study-{self.stratum}-{self.row}"),
        ]


def cells(stratum: str) -> list[Cell]:
    """The cells of a stratum, in the order of its grid."""
    points = draw_points(load_spec(ROOT / "tune_configs" / "study" / f"{stratum}.yaml"))
    return [Cell(stratum, _row_of(point), dict(point)) for point in points]


def run(cell: Cell, folder: Path) -> dict[str, Any]:
    """Runs a cell, and writes its result.

    Args:
        cell: The cell.
        folder: Where its runs are kept.

    Raises:
        RuntimeError: If the sweep fails, or a trial has no final evaluation.
    """
    busy, begin = load(), time.monotonic()
    words = [*cell.words, "--set", f"storage={folder}"]
    command = [sys.executable, "-m", "rlssl.cli", *words]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code:
        raise RuntimeError(f"{cell.stratum}/{cell.row} ended with exit code {code}")
    trials = read_sweep(folder / f"study-{cell.stratum}-{cell.row}")
    result = {
        "stratum": cell.stratum,
        "row": cell.row,
        "values": cell.values,
        "command": " ".join(["rlssl", *cell.words]),
        "commit": _commit(),
        "machine": machine(["torch", "ray", "gymnasium"]),
        "load_at_start": busy,
        "wall_seconds": round(time.monotonic() - begin),
        **_scores(trials),
    }
    cell.file.parent.mkdir(parents=True, exist_ok=True)
    cell.file.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def _scores(trials: list[Trial]) -> dict[str, Any]:
    seeds = [_of_trial(trial) for trial in sorted(trials, key=lambda trial: trial.seed)]
    returns = [seed["return"] for seed in seeds]
    low, high = mean_interval(returns)
    return {
        "seeds": seeds,
        "mean": sum(returns) / len(returns),
        "interval": [low, high],
        "iqm": iqm([[value] for value in returns]),
    }


def _of_trial(trial: Trial) -> dict[str, Any]:
    evaluated = [
        row for row in trial.results if row.get("evaluation/episode_return_mean") is not None
    ]
    if not trial.is_complete or not evaluated:
        raise RuntimeError(f"{trial.path} is {trial.status}, with {len(evaluated)} evaluations")
    last = evaluated[-1]
    return {
        "seed": trial.seed,
        "env_steps": int(trial.results[-1]["env_steps"]),
        "evaluated_at": int(last["env_steps"]),
        # A task without successes has no rate, or NaN, which JSON does not know.
        **{name: last[key] for key, name in _FINAL.items() if _is_number(last.get(key))},
        "trial_seconds": round(float(trial.results[-1]["time_total_s"]), 1),
    }


def _is_number(value: float | None) -> bool:
    """Whether a result has a finite value."""
    return value is not None and math.isfinite(value)


def _row_of(point: dict[str, Any]) -> str:
    """The loss of a point; without a loss, ``augmentation`` or ``none``."""
    losses = "+".join(point.get("auxiliary", {}))
    return losses or ("augmentation" if point.get("model.augmentation") else "none")


def _commit() -> str:
    shown = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(shown, check=True, capture_output=True, text=True).stdout.strip()


def finished() -> Iterator[dict[str, Any]]:
    """The results of all cells that have run."""
    for path in sorted(RESULTS.glob("*/*.json")):
        yield json.loads(path.read_text())
