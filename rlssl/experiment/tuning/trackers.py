"""Tune callback that hands the results of trials to trackers: W&B, MLflow."""

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.logger import LoggerCallback

from rlssl.clocks import has_steps, steps_of
from rlssl.experiment.provenance import provenance
from rlssl.experiment.run_folders import read_description
from rlssl.experiment.spec.schema import Spec
from rlssl.experiment.spec.trackers import MlflowOptions, WandbOptions, trackers_of
from rlssl.experiment.tracking.checks import mlflow_uri, wandb_mode
from rlssl.experiment.tracking.messages import TrackedTrial
from rlssl.experiment.tracking.process import TrackerProcess
from rlssl.experiment.tuning.callbacks import read_effective, trial_folder
from rlssl.experiment.tuning.loggers import metrics_of
from rlssl.experiment.tuning.searchers import label_of, trial_key
from rlssl.experiment.tuning.trial_config import SEED_KEY, point_of, trial_spec
from rlssl.run_files import PROGRESS_FILE, RESULTS_FILE, tracking_log

#: Seconds between lines about a tracker that fails.
ERRORS_PERIOD_S = 60.0


class TrialTracker(LoggerCallback):
    """Hands every result to the process of one tracker. Nothing that fails there fails a trial.

    Args:
        name: Name of the tracker.
        options: Its options; see `rlssl.experiment.spec.trackers`.
        storage: The storage folder of the spec.
    """

    def __init__(self, name: str, options: Any, storage: str) -> None:
        self.name, self._options, self._storage = name, options, storage
        self._process: TrackerProcess | None = None
        self._started: set[str] = set()
        self._cannot_begin = False
        # Lost results that the user was told of, and when the next line may come.
        self._told, self._next_line = 0, 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment; a process cannot be saved."""
        return dict(TrialTracker(self.name, self._options, self._storage).__dict__)

    def log_trial_start(self, trial: Trial) -> None:
        """Tune's hook; also called when a trial is restarted."""
        self._started.discard(trial.trial_id)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Tune's hook. The first result comes with the settings as used, so the trial begins."""
        if not has_steps(result):
            return
        process, folder = self._running(trial), trial_folder(trial)
        if process is None:
            return
        if trial.trial_id not in self._started:
            self._started.add(trial.trial_id)
            process.send({"do": "start", "folder": str(folder), "trial": tracked(trial)})
        video = result.get("video") or {}
        if "path" in video:
            # Before the metrics, because W&B's steps cannot get more after them.
            process.send(
                {
                    "do": "video",
                    "folder": str(folder),
                    "env_steps": steps_of(video),
                    "path": video["path"],
                }
            )
        process.send(
            {
                "do": "log",
                "folder": str(folder),
                "env_steps": steps_of(result),
                "metrics": metrics_of(result),
            }
        )
        self._say_what_was_lost(process)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Tune's hook."""
        if self._process is not None and trial.trial_id in self._started:
            self._started.discard(trial.trial_id)
            folder = str(trial_folder(trial))
            self._process.send({"do": "end", "folder": folder, "failed": failed})

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        """Tune's hook; waits a bounded time until everything has been sent."""
        if self._process is not None:
            self._process.close()
            self._next_line = 0.0
            self._say_what_was_lost(self._process)
            self._process = None

    def _running(self, trial: Trial) -> TrackerProcess | None:
        """The process, which begins with the first result; None if it cannot begin."""
        if self._process is None and not self._cannot_begin:
            run = trial_folder(trial).parent
            arguments = worker_arguments(self._options, self._storage, run)
            try:
                self._process = TrackerProcess(self.name, arguments, run / tracking_log(self.name))
            except OSError as error:
                self._cannot_begin = True
                click.echo(f"{self.name} gets no results: its process cannot begin ({error}).")
        return self._process

    def _say_what_was_lost(self, process: TrackerProcess) -> None:
        if process.num_lost > self._told and time.monotonic() >= self._next_line:
            self._told, self._next_line = process.num_lost, time.monotonic() + ERRORS_PERIOD_S
            click.echo(
                f"{self.name}: {process.num_lost} results or events were not sent; the last error: "
                f"{process.last_error}. {RESULTS_FILE} and {PROGRESS_FILE} have every result.",
                err=True,
            )


def trial_trackers(spec: Spec) -> list[Callback]:
    """The callbacks of the trackers of a spec that have a process."""
    found = trackers_of(spec.tracking).items()
    return [TrialTracker(name, it, spec.storage) for name, it in found if it is not None]


def worker_arguments(options: Any, storage: str, run: Path) -> dict[str, Any]:
    """The arguments of a tracker's class in its process."""
    if isinstance(options, WandbOptions):
        return {**dataclasses.asdict(options), "mode": wandb_mode(options), "folder": str(run)}
    assert isinstance(options, MlflowOptions)
    return {"uri": mlflow_uri(options, storage), "experiment": options.experiment or run.name}


def tracked(trial: Trial) -> TrackedTrial:
    """What a tracker shows of a trial; its settings as used are in its folder already."""
    folder, spec = trial_folder(trial), trial_spec(trial.config)
    point, seed = point_of(trial.config), trial.config[SEED_KEY]
    losses = sorted(name for name, options in spec.auxiliary.items() if options is not None)
    commit = provenance()["git_commit"]
    labels: dict[str, Any] = {
        "algorithm": spec.algorithm,
        "env": spec.env["id"],
        "losses": ", ".join(losses) or "none",
        "seed": seed,
        "commit": commit or "unknown",
        "point": dict(point),
    }
    return {
        "id": tracking_id(folder.parent, point, seed),
        "name": f"{label_of(folder.parent, point)} seed {seed}" if point else f"seed {seed}",
        "group": folder.parent.name,
        "tags": [spec.algorithm, *losses, *([f"commit {commit[:12]}"] if commit else [])],
        "labels": labels,
        "config": {"seed": seed, **(read_effective(folder) or {})},
        "clock": spec.clock,
    }


def tracking_id(run: Path, point: Mapping[str, Any], seed: int) -> str:
    """The id of a trial: the same after a resume, and another one in another run."""
    began = read_description(run).get("started", "")
    text = f"{run.name} {began} {trial_key(point, seed)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
