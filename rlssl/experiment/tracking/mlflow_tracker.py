"""MLflow: each trial is a run of an experiment, and env steps are its steps."""

import contextlib
import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from rlssl.experiment.tracking.messages import TrackedTrial
from rlssl.run_files import VIDEOS_FOLDER

#: Tag by which the run of a trial is found again.
_ID_TAG = "rlssl.id"

#: MLflow's state of a run.
_STATES = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}

#: Address of a database in a file.
_SQLITE = "sqlite:///"

#: MLflow's limits: entries of a batch, and letters of a value.
_MAX_PARAMS, _MAX_METRICS, _MAX_LETTERS = 100, 1_000, 500


class MlflowTracker:
    """Sends results to an MLflow store.

    Args:
        uri: Address of the store.
        experiment: Name of the experiment, created if missing.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._client, self._name = MlflowClient(tracking_uri=uri), experiment
        self._artifacts = _artifact_folder(uri)

    def start(self, trial: TrackedTrial, known: str | None) -> str:
        """Creates a run, or opens the trial's run again."""
        experiment = self._experiment()
        found = self._find(experiment, trial["id"], known)
        if found is None:
            run = self._client.create_run(experiment, run_name=trial["name"])
            found = run.info.run_id
        self._client.update_run(found, status="RUNNING")
        tags = {_ID_TAG: trial["id"], "group": trial["group"], **_flat(trial["labels"])}
        self._client.log_batch(found, tags=[RunTag(key, text) for key, text in tags.items()])
        params = [Param(key, text) for key, text in _flat(trial["config"]).items()]
        if not self._client.get_run(found).data.params:
            for begin in range(0, len(params), _MAX_PARAMS):
                self._client.log_batch(found, params=params[begin : begin + _MAX_PARAMS])
        return found

    def log(self, run_id: str, env_steps: int, metrics: dict[str, float]) -> None:
        """Logs one result at its env steps."""
        now = int(1_000 * time.time())
        entries = [Metric(name, value, now, env_steps) for name, value in metrics.items()]
        for begin in range(0, len(entries), _MAX_METRICS):
            self._client.log_batch(run_id, metrics=entries[begin : begin + _MAX_METRICS])

    def log_video(self, run_id: str, env_steps: int, path: Path) -> None:
        """Adds a video to the run's artifacts, in the folder ``videos``."""
        self._client.log_artifact(run_id, str(path), VIDEOS_FOLDER)

    def end(self, run_id: str, state: str) -> None:
        """Ends a run with its state."""
        self._client.set_terminated(run_id, status=_STATES[state])

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(self._name, self._artifacts))
        except MlflowException:
            # Another process has just created it.
            found = self._client.get_experiment_by_name(self._name)
            if found is None:
                raise
            return str(found.experiment_id)

    def _find(self, experiment: str, trial_id: str, known: str | None) -> str | None:
        """The run of a trial: by the id that was noted, or by its tag."""
        if known is not None:
            with contextlib.suppress(MlflowException):  # the store is another one
                return str(self._client.get_run(known).info.run_id)
        runs = self._client.search_runs([experiment], f"tags.`{_ID_TAG}` = '{trial_id}'")
        return str(runs[0].info.run_id) if runs else None


def _artifact_folder(uri: str) -> str | None:
    """Where a new experiment has its files: beside the database, if that is a file.

    MLflow's default is ``mlruns`` in the folder of the process, wherever the database is. A server
    decides by itself.
    """
    if not uri.startswith(_SQLITE):
        return None
    return (Path(uri.removeprefix(_SQLITE)).resolve().parent / "mlartifacts").as_uri()


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """The values as text, under dotted names."""
    flat: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)[:_MAX_LETTERS]
    return flat
